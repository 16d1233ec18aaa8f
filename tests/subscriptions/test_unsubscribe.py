"""Ending a subscription: one click, page, topic, undo."""

import json
import re
from datetime import timedelta

import pytest
from sqlalchemy import select, update

from signup.contacts import actions as contacts
from signup.core.db import database, reading, transaction
from signup.core.values import rfc3339, utc_now
from signup.eventlog.models import Publication
from signup.subscriptions import links
from signup.subscriptions.models import Subscription
from signup.subscriptions.states import Status
from tests.support import log
from tests.support.pages import ident_of, nonce, undo_nonce

ONE_CLICK = {"List-Unsubscribe": "One-Click"}


@pytest.fixture
def anna(signup_and_confirm):
    return signup_and_confirm("anna@beispiel.de", purposes=("product-news", "invitations"))


def payloads(person):
    with reading() as session:
        key = contacts.open_key(session, person.contact_id)
        rows = session.scalars(
            select(Publication.payload)
            .where(Publication.contact_id == person.contact_id)
            .order_by(Publication.created_at, Publication.id)
        )
        return [json.loads(session.keys.unseal(key, row)) for row in rows]


@pytest.mark.req("E21")
@pytest.mark.req("U1")
@pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "multipart/form-data"])
def test_one_click_ends_it_without_cookie_nonce_or_redirect(client, anna, kind):
    headers = {"Sec-Fetch-Site": "cross-site", "Origin": "https://mail.example"}
    for _ in range(2):
        answer = client.post(anna.unsubscribe_path, data=ONE_CLICK, content_type=kind, headers=headers)
        assert answer.status_code == 200
        assert "Set-Cookie" not in answer.headers
    subscription = log.subscription(anna.contact_id)
    assert (subscription.status.value, subscription.end_reason.value, subscription.ended_by) == (
        "ended",
        "unsubscribed",
        "one-click",
    )
    assert log.kinds(anna.contact_id)[-2:] == ["subscription.unsubscribed", "consent.withdrawn"]


@pytest.mark.req("E22")
@pytest.mark.req("U4")
def test_the_withdrawal_is_recorded_and_published_in_the_same_commit(client, anna):
    client.post(anna.unsubscribe_path, data=ONE_CLICK)
    told = payloads(anna)[-2:]
    assert [item["type"] for item in told] == ["subscription.unsubscribed", "consent.withdrawn"]
    assert told[0]["data"]["reason"] == "unsubscribed"
    assert told[1]["data"]["consent"]["purposes"] == ["invitations", "product-news"]
    assert told[1]["data"]["topics"] == []
    assert told[1]["data"]["subscription"]["status"] == "ended"


@pytest.mark.req("E21")
def test_a_forged_link_ends_nothing(client, anna):
    token = anna.unsubscribe_path.rpartition("/")[2]
    assert client.post(f"/unsubscribe/{token[:-2]}xx", data=ONE_CLICK).status_code == 404
    assert client.get(f"/unsubscribe/{token[:-2]}xx").status_code == 404
    assert log.subscription(anna.contact_id).status is Status.ACTIVE


@pytest.mark.req("U3")
def test_opening_the_page_shows_one_button_and_ends_nothing(client, anna):
    page = client.get(anna.unsubscribe_path)
    assert page.status_code == 200
    assert page.text.count("<form") == 1
    assert log.subscription(anna.contact_id).status is Status.ACTIVE


@pytest.mark.req("U3")
def test_the_page_asks_again_when_its_nonce_is_missing(client, anna):
    assert client.post(anna.unsubscribe_path, data={}).status_code == 422
    assert log.subscription(anna.contact_id).status is Status.ACTIVE


@pytest.mark.req("U5")
def test_what_was_ended_on_the_page_can_be_undone_there(client, anna):
    answer = client.post(anna.unsubscribe_path, data={"nonce": nonce(anna.unsubscribe_path)})
    assert (answer.status_code, answer.location) == (303, anna.unsubscribe_path)
    assert log.subscription(anna.contact_id).status is Status.ENDED
    assert 'name="undo"' in client.get(anna.unsubscribe_path).text
    undo = undo_nonce(client, anna.unsubscribe_path)
    assert client.post(anna.unsubscribe_path, data={"undo": undo}).status_code == 303
    assert log.subscription(anna.contact_id).status is Status.ACTIVE
    told = payloads(anna)[-1]
    assert told["type"] == "subscription.restored"
    assert {topic["slug"] for topic in told["data"]["topics"]} == {"product-news", "invitations"}
    told = [kind for kind in log.kinds(anna.contact_id) if kind != "link.opened"]
    assert told[-3:] == ["subscription.unsubscribed", "consent.withdrawn", "subscription.restored"]


@pytest.mark.req("U5")
def test_nothing_is_undone_when_a_mail_client_ended_it(client, anna):
    client.post(anna.unsubscribe_path, data=ONE_CLICK)
    assert 'name="undo"' not in client.get(anna.unsubscribe_path).text
    undo = undo_nonce(client, anna.unsubscribe_path)
    client.post(anna.unsubscribe_path, data={"undo": undo})
    assert log.subscription(anna.contact_id).status is Status.ENDED


@pytest.mark.req("U5")
def test_nothing_is_undone_when_half_an_hour_has_passed(client, anna):
    client.post(anna.unsubscribe_path, data={"nonce": nonce(anna.unsubscribe_path)})
    with transaction() as session:
        ended_at = utc_now() - timedelta(minutes=31)
        session.execute(update(Subscription).values(ended_at=ended_at))
    assert 'name="undo"' not in client.get(anna.unsubscribe_path).text
    client.post(anna.unsubscribe_path, data={"undo": undo_nonce(client, anna.unsubscribe_path)})
    assert log.subscription(anna.contact_id).status is Status.ENDED


def topic_path(person, topic):
    with reading() as session:
        url = links.unsubscribe_url(session, person.subscription_id, 1, topic)
    return url.removeprefix("http://127.0.0.1:8000")


@pytest.mark.req("U2")
def test_a_topic_link_ends_just_that_topic(client, anna):
    path = topic_path(anna, "invitations")
    assert client.post(path, data=ONE_CLICK).status_code == 200
    assert log.subscription(anna.contact_id).status is Status.ACTIVE
    told = payloads(anna)[-2:]
    assert [item["type"] for item in told] == ["subscription.updated", "consent.withdrawn"]
    assert [topic["slug"] for topic in told[0]["data"]["topics"]] == ["product-news"]
    assert told[1]["data"]["consent"]["purposes"] == ["invitations"]


def test_the_last_topic_ends_the_subscription(client, anna):
    client.post(topic_path(anna, "invitations"), data=ONE_CLICK)
    client.post(topic_path(anna, "product-news"), data=ONE_CLICK)
    assert log.subscription(anna.contact_id).status is Status.ENDED
    assert log.published(anna.contact_id)[-2:] == ["subscription.unsubscribed", "consent.withdrawn"]


@pytest.mark.req("U2")
def test_payloads_carry_header_values_that_work(client, anna):
    confirmed = payloads(anna)[-1]["data"]
    header = confirmed["subscription"]["list_unsubscribe"]
    assert header.startswith("<http://127.0.0.1:8000/unsubscribe/")
    assert header.endswith(">")
    assert confirmed["subscription"]["list_unsubscribe_post"] == "List-Unsubscribe=One-Click"
    topic = next(item for item in confirmed["topics"] if item["slug"] == "invitations")
    path = topic["list_unsubscribe"].strip("<>").removeprefix("http://127.0.0.1:8000")
    assert client.post(path, data=ONE_CLICK).status_code == 200
    assert log.published(anna.contact_id)[-1] == "consent.withdrawn"


def test_a_fresh_request_after_the_end_needs_a_fresh_confirmation(client, anna, sign_up):
    client.post(anna.unsubscribe_path, data=ONE_CLICK)
    again = sign_up("anna@beispiel.de", at=utc_now() + timedelta(minutes=11))
    assert log.subscription(anna.contact_id).status is Status.REQUESTED
    assert again.confirm_url
    client.post(again.confirm_path, data={"nonce": nonce(again.confirm_path)})
    assert log.subscription(anna.contact_id).status is Status.ACTIVE


def test_one_click_ends_a_request_that_nobody_confirmed_too(client, sign_up):
    person = sign_up("berta@beispiel.de")
    for _ in range(2):
        assert client.post(person.unsubscribe_path, data=ONE_CLICK).status_code == 200
    assert log.subscription(person.contact_id).status is Status.REFUSED
    assert client.post(person.confirm_path, data={"nonce": nonce(person.confirm_path)}).status_code == 410
    assert log.published(person.contact_id) == ["subscription.requested"]


@pytest.mark.req("U5")
def test_an_old_undo_does_not_take_back_a_later_ending(client, anna):
    client.post(anna.unsubscribe_path, data={"nonce": nonce(anna.unsubscribe_path)})
    old = undo_nonce(client, anna.unsubscribe_path)
    client.post(anna.unsubscribe_path, data={"undo": old})
    assert log.subscription(anna.contact_id).status is Status.ACTIVE
    client.post(anna.unsubscribe_path, data={"nonce": nonce(anna.unsubscribe_path)})
    client.post(anna.unsubscribe_path, data={"undo": old})
    assert log.subscription(anna.contact_id).status is Status.ENDED


@pytest.mark.req("A15")
def test_an_old_link_still_works_when_the_secret_key_was_rotated(place, anna):
    from signup.app import create_app
    from signup.core.config import Config
    from tests.conftest import environment

    old = environment(place.folder, place.url)["SECRET_KEY"]
    rotated = create_app(
        Config.from_env(
            environment(
                place.folder,
                place.url,
                SECRET_KEY="another-secret-key-with-enough-characters-98765",
                SECRET_KEY_FALLBACKS=old,
            )
        )
    )
    assert rotated.test_client().post(anna.unsubscribe_path, data=ONE_CLICK).status_code == 200
    assert log.subscription(anna.contact_id).status is Status.ENDED
    with rotated.app_context():
        from signup.core.db import database

        database().engine.dispose()


@pytest.mark.req("U7")
def test_a_reason_is_taken_once_after_the_fact_and_only_from_the_list(client, signup_and_confirm):
    person = signup_and_confirm("anna@beispiel.de")
    path = person.unsubscribe_path
    assert 'name="why"' not in client.get(path).text
    client.post(path, data={"nonce": nonce(path)})
    page = client.get(path).text
    assert 'name="why"' in page
    assert 'type="text"' not in page
    assert "<textarea" not in page
    ending = rfc3339(log.subscription(person.contact_id).ended_at).encode()
    made = database().sessions.kw["keys"].page_nonce("why", ident_of(path) + ending, utc_now() - timedelta(seconds=5))
    for reason in ("my own words", "too-many", "other"):
        answer = client.post(path, data={"nonce": made, "why": reason})
        assert (answer.status_code, answer.location) == (303, f"{path}?thanks")
    assert "Danke" in client.get(f"{path}?thanks").text
    told = [fact.fields["reason"] for fact in log.facts(person.contact_id) if fact.kind == "unsubscription.reason"]
    assert told == ["too-many"]


def test_less_is_offered_before_leaving(client, signup_and_confirm):
    person = signup_and_confirm("anna@beispiel.de")
    page = client.get(person.unsubscribe_path).text
    (link,) = re.findall(r'href="[^"]*(/preferences/[^"]+)"', page)
    assert client.get(link).status_code == 200
