"""The confirmation link in every state it can be in."""

from datetime import timedelta

import pytest
from sqlalchemy import select, update

from signup.abuse.models import Budget
from signup.consents.models import Consent
from signup.contacts import actions as contacts
from signup.core.db import database, reading, transaction
from signup.core.values import EmailAddress, utc_now
from signup.privacy import retention
from signup.subscriptions.models import Confirmation
from signup.subscriptions.states import Status
from signup.suppression import actions as suppression
from signup.suppression.models import Reason
from tests.conftest import in_threads, queued_mail
from tests.mail.test_addresses import ident_of as address_ident
from tests.support import log
from tests.support.pages import ident_of, nonce


@pytest.fixture
def anna(sign_up):
    return sign_up("anna@beispiel.de")


def press(client, path, **fields):
    return client.post(path, data={"nonce": nonce(path), **fields})


def expire(person, *, by=timedelta(days=8)):
    with transaction() as session:
        session.execute(
            update(Confirmation)
            .where(Confirmation.contact_id == person.contact_id)
            .values(expires_at=utc_now() - by + timedelta(days=7))
        )


@pytest.mark.req("E15")
@pytest.mark.req("C9")
def test_opening_the_link_shows_one_button_and_changes_nothing(client, anna):
    page = client.get(anna.confirm_path)
    assert page.status_code == 200
    assert page.text.count("<form") == 1
    assert "Ja, ich möchte das" in page.text
    assert "a•••@beispiel.de" in page.text
    assert log.subscription(anna.contact_id).status is Status.REQUESTED
    assert len(page.data) < 20_000


@pytest.mark.req("A19")
def test_token_pages_are_not_stored_indexed_or_referred(client, anna):
    headers = client.get(anna.confirm_path).headers
    assert headers["Cache-Control"] == "no-store"
    assert headers["Referrer-Policy"] == "same-origin"
    assert "noindex" in headers["X-Robots-Tag"]
    assert "default-src 'none'" in headers["Content-Security-Policy"]
    assert "form-action 'self'" in headers["Content-Security-Policy"]
    assert "unsafe" not in headers["Content-Security-Policy"]
    assert "Set-Cookie" not in headers


@pytest.mark.req("E16")
@pytest.mark.req("C8")
def test_pressing_the_button_confirms_and_leads_back_to_the_page(client, anna):
    answer = press(client, anna.confirm_path)
    assert (answer.status_code, answer.location) == (303, anna.confirm_path)
    page = client.get(anna.confirm_path)
    assert page.status_code == 200
    subscription = log.subscription(anna.contact_id)
    assert (subscription.status.value, subscription.ground.value, subscription.version) == ("active", "confirmed", 2)
    assert log.kinds(anna.contact_id).count("subscription.confirmed") == 1
    assert log.published(anna.contact_id) == ["subscription.requested", "subscription.confirmed"]
    fact = next(fact for fact in log.facts(anna.contact_id) if fact.kind == "subscription.confirmed")
    assert fact.fields["act"] == "button"
    assert fact.fields["purposes"] == ["product-news"]


@pytest.mark.req("A17")
@pytest.mark.parametrize("age", [None, 0.2, 25 * 3600])
def test_the_page_comes_again_kindly_when_its_nonce_is_missing_young_or_old(client, anna, age):
    fields = {} if age is None else {"nonce": nonce(anna.confirm_path, age=age)}
    answer = client.post(anna.confirm_path, data=fields)
    assert answer.status_code == 422
    assert "Ja, ich möchte das" in answer.text
    assert log.subscription(anna.contact_id).status is Status.REQUESTED


def test_the_nonce_of_another_link_does_not_count(client, anna, sign_up):
    other = sign_up("berta@beispiel.de")
    answer = client.post(anna.confirm_path, data={"nonce": nonce(other.confirm_path)})
    assert answer.status_code == 422
    assert log.subscription(anna.contact_id).status is Status.REQUESTED


@pytest.mark.req("E18")
def test_a_repeated_press_is_a_calm_no_op(client, anna):
    press(client, anna.confirm_path)
    assert press(client, anna.confirm_path).status_code == 303
    assert client.get(anna.confirm_path).status_code == 200
    assert log.kinds(anna.contact_id).count("subscription.confirmed") == 1


def test_many_presses_at_once_confirm_once(app, anna):
    fields = {"nonce": nonce(anna.confirm_path)}
    answers = in_threads(8, lambda _: app.test_client().post(anna.confirm_path, data=fields).status_code)
    assert set(answers) == {303}
    assert log.kinds(anna.contact_id).count("subscription.confirmed") == 1
    assert log.subscription(anna.contact_id).version == 2


@pytest.mark.req("A15")
@pytest.mark.parametrize("change", ["x", "", "short"])
def test_a_forged_token_is_not_found(client, anna, change):
    token = anna.confirm_path.rpartition("/")[2]
    forged = {"x": token[:-3] + "xxx", "": token.partition(".")[0], "short": "abc.def"}[change]
    assert client.get(f"/confirm/{forged}").status_code == 404
    assert client.post(f"/confirm/{forged}", data={"nonce": "x"}).status_code == 404


@pytest.mark.req("A15")
def test_a_token_of_one_purpose_fails_on_every_other(app, client, anna, demo, signup_and_confirm):
    keys = database().sessions.kw["keys"]
    berta = signup_and_confirm("berta@beispiel.de", at=utc_now() - timedelta(hours=1))
    headers = {"Authorization": f"Bearer {demo.api_key}"}
    client.patch(f"/api/v1/contacts/{berta.contact_id}", json={"email": "b@beispiel.de"}, headers=headers)
    asked, derived = ident_of(anna.confirm_path), ident_of(anna.unsubscribe_path)
    idents = {"confirm": asked, "not-me": asked, "code": asked, "unsubscribe": derived, "preferences": derived}
    idents["address"] = address_ident(berta)
    routes = {rule.rule.split("/")[1] for rule in app.url_map.iter_rules() if rule.rule.endswith("/<token>")}
    assert routes == idents.keys(), "a new kind of link belongs into this table"
    for purpose, ident in idents.items():
        token = keys.token(purpose, ident)
        for route in routes:
            path, own = f"/{route}/{token}", route == purpose
            assert (client.get(path).status_code == 404) is not own, (purpose, route)
            posted = client.post(
                path, data={"List-Unsubscribe": "One-Click", "nonce": keys.page_nonce(route, ident, old())}
            )
            assert (posted.status_code == 404) is not own, (purpose, route)


def old():
    """When a page was opened that somebody has read by now."""
    return utc_now() - timedelta(seconds=5)


@pytest.mark.req("A15")
@pytest.mark.req("E14")
def test_mailed_urls_are_short_and_only_their_hash_is_stored(app, anna):
    for url in (anna.confirm_url, anna.not_me_url, anna.unsubscribe_url):
        assert len(url) <= 120
    ident = ident_of(anna.confirm_path)
    assert len(ident) * 8 >= 128
    with reading() as session:
        stored = session.scalar(select(Confirmation.token_hash))
    assert stored != ident


@pytest.mark.req("C10")
def test_an_expired_link_offers_a_new_mail_and_confirms_nothing(client, anna):
    expire(anna)
    page = client.get(anna.confirm_path)
    assert page.status_code == 410
    assert "a•••@beispiel.de" in page.text
    assert press(client, anna.confirm_path).status_code == 410
    assert log.subscription(anna.contact_id).status is Status.REQUESTED


@pytest.mark.req("C10")
def test_a_new_link_is_mailed_when_the_owner_of_an_expired_one_asks(client, sign_up):
    anna = sign_up("anna@beispiel.de", at=utc_now() - timedelta(days=7, hours=1))
    retention.run_now(utc_now)
    assert log.subscription(anna.contact_id).status is Status.EXPIRED
    assert press(client, anna.confirm_path, resend="1").status_code == 303
    assert log.subscription(anna.contact_id).status is Status.REQUESTED
    assert client.get(anna.confirm_path).status_code == 410
    from tests.conftest import mailed_url

    fresh = mailed_url(queued_mail("anna@beispiel.de"), "confirm").removeprefix("http://127.0.0.1:8000")
    assert fresh != anna.confirm_path
    assert press(client, fresh).status_code == 303
    assert log.subscription(anna.contact_id).status is Status.ACTIVE


@pytest.mark.req("A2")
def test_asking_for_a_new_link_again_mails_nothing_more_within_the_cap(client, sign_up):
    anna = sign_up("anna@beispiel.de", at=utc_now() - timedelta(days=7, hours=1))
    press(client, anna.confirm_path, resend="1")
    press(client, anna.confirm_path, resend="1")
    assert len(log.messages(anna.contact_id)) == 2


def test_a_replaced_link_says_so_and_the_newer_one_counts(client, sign_up):
    old = sign_up("anna@beispiel.de", at=utc_now() - timedelta(minutes=11))
    new = sign_up("anna@beispiel.de", chosen=("invitations",))
    page = client.get(old.confirm_path)
    assert page.status_code == 410
    assert "neuere" in page.text
    assert press(client, old.confirm_path).status_code == 410
    assert press(client, new.confirm_path).status_code == 303
    assert log.subscription(old.contact_id).status is Status.ACTIVE
    assert client.get(old.confirm_path).status_code == 200


@pytest.mark.req("C10")
def test_a_link_revives_nothing_when_the_subscription_has_ended(client, anna):
    press(client, anna.confirm_path)
    client.post(anna.unsubscribe_path, data={"List-Unsubscribe": "One-Click"})
    assert press(client, anna.confirm_path).status_code == 410
    assert log.subscription(anna.contact_id).status is Status.ENDED


@pytest.mark.req("E20")
@pytest.mark.req("A20")
def test_not_me_refuses_the_request_for_good(client, anna, sign_up):
    assert client.get(anna.not_me_path).status_code == 200
    assert log.subscription(anna.contact_id).status is Status.REQUESTED
    answer = press(client, anna.not_me_path)
    assert (answer.status_code, answer.location) == (303, anna.not_me_path)
    assert client.get(anna.not_me_path).status_code == 200
    assert log.subscription(anna.contact_id).status is Status.REFUSED
    age(anna, seconds=6)
    assert press(client, anna.confirm_path).status_code == 410
    assert log.subscription(anna.contact_id).status is Status.REFUSED
    assert all(message.state.value == "cancelled" for message in log.messages(anna.contact_id))
    again = sign_up("anna@beispiel.de")
    assert again.confirm_url == ""


@pytest.mark.parametrize(("ago", "open_for"), [(6, 5.0), (3, 1.5)])
def test_not_me_after_the_confirmation_ends_it_flagged(client, anna, demo, ago, open_for):
    press(client, anna.confirm_path)
    # Long ago, or just before the other page was opened.
    age(anna, seconds=ago)
    assert client.post(anna.not_me_path, data={"nonce": nonce(anna.not_me_path, age=open_for)}).status_code == 303
    subscription = log.subscription(anna.contact_id)
    assert (subscription.status.value, subscription.end_reason.value, subscription.flagged) == (
        "ended",
        "withdrawn",
        True,
    )
    assert log.published(anna.contact_id)[-2:] == ["subscription.unsubscribed", "consent.withdrawn"]
    assert blocked(demo) is Reason.NOT_ME


def age(person, *, seconds):
    """What the person answered was that long ago."""
    then = utc_now() - timedelta(seconds=seconds)
    with transaction() as session:
        session.execute(update(Confirmation).where(Confirmation.contact_id == person.contact_id).values(closed_at=then))
        given = update(Consent).where(Consent.contact_id == person.contact_id, Consent.given_at.is_not(None))
        session.execute(given.values(given_at=then))


def blocked(demo):
    with reading() as session:
        key = contacts.address_key(session, demo.controller.id, EmailAddress.parse("anna@beispiel.de"))
        return suppression.covering(session, demo.controller.id, key, now=utc_now())


@pytest.mark.req("A17")
@pytest.mark.parametrize("first", ["confirm", "not-me"])
def test_neither_answer_counts_when_both_buttons_are_pressed_within_seconds(client, anna, demo, sign_up, first):
    paths = [anna.confirm_path, anna.not_me_path]
    for path in paths if first == "confirm" else reversed(paths):
        last = press(client, path)
    assert last.status_code == 410
    for path in paths:
        page = client.get(path)
        assert page.status_code == 410
        assert "Bitte entscheiden Sie noch einmal" in page.text
    assert log.subscription(anna.contact_id).status is not Status.ACTIVE
    assert "given" not in {item.state.value for item in consents_of(anna)}
    assert blocked(demo) is None
    assert "confirmation.contradicted" in log.kinds(anna.contact_id)
    assert press(client, anna.confirm_path).status_code == 410
    with transaction() as session:
        session.execute(update(Budget).values(spent=[]))
    again = sign_up("anna@beispiel.de")
    press(client, again.confirm_path)
    assert log.subscription(anna.contact_id).status is Status.ACTIVE


@pytest.mark.req("A17")
def test_what_was_confirmed_before_goes_on_when_an_added_topic_is_contradicted(client, signup_and_confirm, sign_up):
    anna = signup_and_confirm("anna@beispiel.de", at=utc_now() - timedelta(minutes=20))
    added = sign_up("anna@beispiel.de", chosen=("invitations",))
    press(client, added.confirm_path)
    press(client, added.not_me_path)
    assert log.subscription(anna.contact_id).status is Status.ACTIVE
    assert sorted(item.state.value for item in consents_of(anna)) == ["given", "withdrawn"]


def consents_of(person):
    with reading() as session:
        return list(session.scalars(select(Consent).where(Consent.contact_id == person.contact_id)))


@pytest.mark.req("E19")
def test_openings_are_events_up_to_fifty_and_then_only_counted(client, anna):
    for _ in range(60):
        client.get(anna.confirm_path)
    client.head(anna.confirm_path)
    openings = [fact for fact in log.facts(anna.contact_id) if fact.kind == "link.opened"]
    assert len(openings) == 50
    assert openings[0].fields["method"] == "GET"
    assert openings[0].fields["purpose_of_link"] == "confirm"


@pytest.mark.req("E19")
def test_a_post_that_no_page_led_to_is_on_record_as_a_hit(client, anna):
    for path in (anna.confirm_path, anna.not_me_path):
        assert client.post(path, headers={"User-Agent": "Barracuda"}).status_code == 422
    hits = [fact.fields for fact in log.facts(anna.contact_id) if fact.kind == "link.opened"]
    assert [(hit["purpose_of_link"], hit["method"], hit["scanner"]) for hit in hits] == [
        ("confirm", "POST", True),
        ("not-me", "POST", True),
    ]
    assert log.subscription(anna.contact_id).status is Status.REQUESTED


def test_a_foreign_page_cannot_press_the_button(client, anna):
    fields = {"nonce": nonce(anna.confirm_path)}
    for headers in ({"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.example"}):
        assert client.post(anna.confirm_path, data=fields, headers=headers).status_code == 403
    assert log.subscription(anna.contact_id).status is Status.REQUESTED
    same = {"Sec-Fetch-Site": "same-origin", "Origin": "http://127.0.0.1:8000"}
    assert client.post(anna.confirm_path, data=fields, headers=same).status_code == 303


@pytest.mark.req("E18")
def test_an_added_purpose_is_confirmed_as_an_update(client, signup_and_confirm, sign_up):
    anna = signup_and_confirm("anna@beispiel.de", at=utc_now() - timedelta(minutes=20))
    added = sign_up("anna@beispiel.de", chosen=("invitations",))
    press(client, added.confirm_path)
    assert log.kinds(anna.contact_id)[-1] == "subscription.updated"
    assert log.subscription(anna.contact_id).version == 3
