"""What people set for themselves behind their link to preferences."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import delete, func, select, update

from signup.abuse import admission
from signup.abuse.models import Budget
from signup.consents.models import Consent
from signup.contacts import actions as contacts
from signup.core.db import database, reading, transaction
from signup.core.errors import NetworkSpent
from signup.core.values import rfc3339, utc_now
from signup.eventlog.models import Publication
from signup.mail.models import Message, MessageState
from signup.purposes.models import Purpose
from signup.subscriptions import links
from signup.subscriptions.models import Subscription
from signup.subscriptions.states import Frequency, Status
from tests.conftest import SignedUp, mailed_url, queued_mail
from tests.support import log
from tests.support.pages import ident_of, nonce, undo_nonce

BOTH = ("product-news", "invitations")
HOST = "http://127.0.0.1:8000"


@pytest.fixture
def anna(signup_and_confirm: Callable[..., SignedUp]) -> SignedUp:
    """Confirmed for both purposes long enough ago that another mail may go."""
    return signup_and_confirm("anna@beispiel.example", purposes=BOTH, at=utc_now() - timedelta(hours=2))


@pytest.fixture
def one(signup_and_confirm: Callable[..., SignedUp]) -> SignedUp:
    """Confirmed for product news alone."""
    return signup_and_confirm("anna@beispiel.example", at=utc_now() - timedelta(hours=2))


def timeless(page: str) -> str:
    """A page without the field that says when it was made."""
    return re.sub(r'(name="rendered" value=")[^"]+', r"\1", page)


def path_of(person: SignedUp) -> str:
    keys = database().sessions.kw["keys"]
    return "/preferences/" + str(keys.token("preferences", ident_of(person.unsubscribe_path)))


def save(client: FlaskClient, person: SignedUp, *topics: str, frequency: str = "all", pause: str = "") -> Any:
    path = path_of(person)
    fields = {"nonce": nonce(path), "topic": list(topics), "frequency": frequency, "pause": pause}
    return client.post(path, data=fields)


def states(person: SignedUp) -> dict[str, str]:
    query = select(Purpose.slug, Consent.state).join(Consent, Consent.purpose_id == Purpose.id)
    with reading() as session:
        rows = session.execute(query.where(Consent.contact_id == person.contact_id))
        return {slug: state.value for slug, state in rows}


def last_payload(person: SignedUp, kind: str) -> dict[str, Any]:
    with reading() as session:
        key = contacts.open_key(session, person.contact_id)
        query = select(Publication.payload).where(Publication.contact_id == person.contact_id, Publication.type == kind)
        sealed = session.scalars(query.order_by(Publication.created_at.desc(), Publication.id.desc())).first()
        assert sealed is not None
        found: dict[str, Any] = json.loads(session.keys.unseal(key, sealed))["data"]
    return found


@pytest.mark.req("U6")
@pytest.mark.req("U10")
def test_the_page_shows_topics_and_a_masked_address_and_changes_nothing(client: FlaskClient, one: SignedUp) -> None:
    page = client.get(path_of(one))
    assert page.status_code == 200
    assert "a•••@beispiel.example" in page.text
    assert one.email not in page.text
    assert page.text.count(" checked") == 2, "the topic that is given, and how often"
    assert "Alles abbestellen" in page.text
    assert page.headers["Referrer-Policy"] == "same-origin"
    assert page.headers["Cache-Control"] == "no-store"
    assert states(one) == {"product-news": "given"}


@pytest.mark.req("U6")
def test_a_dropped_topic_is_withdrawn_and_the_rest_goes_on(client: FlaskClient, anna: SignedUp) -> None:
    before = len(log.published(anna.contact_id))
    answer = save(client, anna, "product-news")
    assert (answer.status_code, answer.location) == (303, path_of(anna) + "?saved")
    assert states(anna) == {"product-news": "given", "invitations": "withdrawn"}
    assert log.published(anna.contact_id)[before:] == ["subscription.updated", "consent.withdrawn"]
    assert last_payload(anna, "consent.withdrawn")["consent"]["purposes"] == ["invitations"]
    assert log.subscription(anna.contact_id).status is Status.ACTIVE


@pytest.mark.req("U6")
def test_an_added_topic_waits_for_the_mailed_link(client: FlaskClient, one: SignedUp) -> None:
    assert save(client, one, *BOTH).status_code == 303
    assert states(one) == {"product-news": "given", "invitations": "requested"}
    assert "Wartet auf Ihre Bestätigung" in client.get(path_of(one)).text
    confirm = mailed_url(queued_mail(one.email), "confirm").removeprefix(HOST)
    client.post(confirm, data={"nonce": nonce(confirm)})
    assert states(one) == {"product-news": "given", "invitations": "given"}


def mails_about(person: SignedUp, state: MessageState) -> int:
    with reading() as session:
        query = select(func.count()).where(Message.contact_id == person.contact_id, Message.state == state)
        return session.scalar(query) or 0


@pytest.mark.req("U6")
def test_a_held_back_question_is_mailed_by_the_button_when_the_cap_is_over(
    client: FlaskClient, signup_and_confirm: Callable[..., SignedUp]
) -> None:
    fresh = signup_and_confirm("anna@beispiel.example", at=utc_now() - timedelta(minutes=2))
    sent, path = mails_about(fresh, MessageState.QUEUED), path_of(fresh)
    save(client, fresh, *BOTH)
    assert states(fresh) == {"product-news": "given", "invitations": "requested"}
    page = client.get(path).text
    assert "Eine weitere Mail können Sie hier ab" in page
    assert 'name="resend"' not in page
    assert client.post(path, data={"nonce": nonce(path), "resend": "1"}).status_code == 303
    assert (mails_about(fresh, MessageState.QUEUED), mails_about(fresh, MessageState.HELD)) == (sent, 1)
    with transaction() as session:
        session.execute(delete(Budget))
    assert 'name="resend"' in client.get(path).text
    assert client.post(path, data={"nonce": nonce(path), "resend": "1"}).status_code == 303
    assert mails_about(fresh, MessageState.QUEUED) == sent + 1
    confirm = mailed_url(queued_mail(fresh.email), "confirm").removeprefix(HOST)
    client.post(confirm, data={"nonce": nonce(confirm)})
    assert states(fresh) == {"product-news": "given", "invitations": "given"}
    assert client.post(path, data={"nonce": nonce(path), "resend": "1"}).status_code == 303
    assert mails_about(fresh, MessageState.QUEUED) == sent + 1, "nothing waits, so nothing is mailed"


@pytest.mark.req("U6")
def test_the_last_topic_unticked_is_an_unsubscription_that_can_be_taken_back(
    client: FlaskClient, anna: SignedUp
) -> None:
    answer = save(client, anna)
    assert (answer.status_code, answer.location) == (303, anna.unsubscribe_path)
    assert states(anna) == dict.fromkeys(BOTH, "withdrawn")
    assert 'name="undo"' in client.get(answer.location).text


@pytest.mark.req("U6")
@pytest.mark.parametrize("dropped", [True, False])
def test_everything_else_counts_when_a_new_topic_has_to_wait(
    client: FlaskClient, one: SignedUp, monkeypatch: pytest.MonkeyPatch, dropped: bool
) -> None:
    def spent(*_given: Any, **_more: Any) -> Any:
        raise NetworkSpent("Too many.", retry_after_seconds=60)

    monkeypatch.setattr(admission, "_refuse_spent", spent)
    topics = ("invitations",) if dropped else BOTH
    answer = save(client, one, *topics, frequency="monthly")
    assert (answer.status_code, answer.headers["Retry-After"]) == (429, "60")
    assert "Alles andere ist gespeichert" in answer.text
    assert states(one) == {"product-news": "withdrawn" if dropped else "given"}
    held = log.subscription(one.contact_id)
    assert held.status is (Status.ENDED if dropped else Status.ACTIVE)
    assert dropped or held.frequency is Frequency.MONTHLY
    monkeypatch.undo()
    assert dropped or save(client, one, *BOTH).status_code == 303


@pytest.mark.req("U5")
def test_the_page_says_what_an_undo_leaves_out_when_a_topic_still_waited(client: FlaskClient, one: SignedUp) -> None:
    save(client, one, *BOTH)
    client.post(one.unsubscribe_path, data={"nonce": nonce(one.unsubscribe_path)})
    answer = client.post(one.unsubscribe_path, data={"undo": undo_nonce(client, one.unsubscribe_path)})
    page = client.get(answer.location).text
    assert "ist nicht zurück: Einladungen" in page
    assert path_of(one) in page
    assert states(one) == {"product-news": "given", "invitations": "refused"}
    assert 'value="invitations"' in client.get(path_of(one)).text


@pytest.mark.req("U5")
def test_nothing_is_said_to_be_missing_when_all_came_back(client: FlaskClient, anna: SignedUp) -> None:
    client.post(anna.unsubscribe_path, data={"nonce": nonce(anna.unsubscribe_path)})
    answer = client.post(anna.unsubscribe_path, data={"undo": undo_nonce(client, anna.unsubscribe_path)})
    page = client.get(answer.location).text
    assert "Was bestätigt war, gilt wieder." in page
    assert "nicht zurück" not in page


def test_one_topic_is_left_for_another_in_one_go(client: FlaskClient, one: SignedUp) -> None:
    save(client, one, "invitations")
    assert states(one) == {"product-news": "withdrawn", "invitations": "requested"}
    page = client.get(path_of(one)).text
    assert "Wartet auf Ihre Bestätigung" in page
    assert "keine aktive Anmeldung" not in page
    assert log.subscription(one.contact_id).status is Status.REQUESTED
    confirm = mailed_url(queued_mail(one.email), "confirm").removeprefix(HOST)
    client.post(confirm, data={"nonce": nonce(confirm)})
    assert states(one) == {"product-news": "withdrawn", "invitations": "given"}


@pytest.mark.req("U6")
@pytest.mark.parametrize("days", [30, 60, 90])
def test_a_pause_has_a_date_and_withdraws_nothing(
    client: FlaskClient, demo: SimpleNamespace, anna: SignedUp, days: int
) -> None:
    before, began = len(log.published(anna.contact_id)), utc_now()
    save(client, anna, *BOTH, frequency="monthly", pause=str(days))
    until = log.subscription(anna.contact_id).paused_until
    assert timedelta(0) <= until - began - timedelta(days=days) < timedelta(minutes=1)
    assert states(anna) == dict.fromkeys(BOTH, "given")
    assert log.published(anna.contact_id)[before:] == ["subscription.updated"]
    told = last_payload(anna, "subscription.updated")["subscription"]
    assert (told["status"], told["frequency"], told["paused_until"]) == ("active", "monthly", rfc3339(until))
    headers = {"Authorization": f"Bearer {demo.api_key}"}
    (row,) = client.get("/api/v1/subscriptions", headers=headers).json["items"]
    assert (row["status"], row["frequency"], row["paused_until"]) == ("active", "monthly", rfc3339(until))
    line = json.loads(client.get("/api/v1/export/subscriptions.jsonl", headers=headers).text)
    assert (line["status"], line["frequency"], line["paused_until"]) == ("active", "monthly", rfc3339(until))


def test_a_pause_stays_ends_by_wish_and_ends_by_itself(client: FlaskClient, anna: SignedUp) -> None:
    save(client, anna, *BOTH, pause="30")
    until = log.subscription(anna.contact_id).paused_until
    version = log.subscription(anna.contact_id).version
    save(client, anna, *BOTH, pause="keep")
    assert (log.subscription(anna.contact_id).paused_until, log.subscription(anna.contact_id).version) == (
        until,
        version,
    )
    save(client, anna, *BOTH)
    assert log.subscription(anna.contact_id).paused_until is None
    with transaction() as session:
        session.execute(update(Subscription).values(paused_until=utc_now() - timedelta(seconds=1)))
    assert 'value="keep"' not in client.get(path_of(anna)).text


@pytest.mark.req("U6")
def test_everything_ends_by_one_button_and_can_be_taken_back(client: FlaskClient, anna: SignedUp) -> None:
    path = path_of(anna)
    answer = client.post(path, data={"nonce": nonce(path), "leave": "1"})
    assert (answer.status_code, answer.location) == (303, anna.unsubscribe_path)
    assert log.subscription(anna.contact_id).status is Status.ENDED
    assert 'name="undo"' in client.get(answer.location).text
    assert client.get(path).status_code == 200
    assert save(client, anna, *BOTH).status_code == 303
    assert log.subscription(anna.contact_id).status is Status.ENDED


@pytest.mark.parametrize(
    "fields", [{}, {"topic": "product-news"}, {"frequency": "daily", "pause": ""}, {"frequency": "all", "pause": "7"}]
)
def test_nothing_changes_when_the_fields_make_no_wish(
    client: FlaskClient, anna: SignedUp, fields: dict[str, str]
) -> None:
    path = path_of(anna)
    assert client.post(path, data={"nonce": nonce(path), **fields}).status_code == 422
    assert client.post(path, data={"frequency": "all", "pause": ""}).status_code == 422
    assert states(anna) == dict.fromkeys(BOTH, "given")


def test_a_new_start_begins_without_the_old_pause(
    client: FlaskClient, anna: SignedUp, sign_up: Callable[..., SignedUp]
) -> None:
    save(client, anna, *BOTH, frequency="monthly", pause="90")
    client.post(anna.unsubscribe_path, data={"List-Unsubscribe": "One-Click"})
    again = sign_up(anna.email)
    client.post(again.confirm_path, data={"nonce": nonce(again.confirm_path)})
    held = log.subscription(anna.contact_id)
    assert (held.status, held.paused_until, held.frequency) == (Status.ACTIVE, None, Frequency.ALL)


@pytest.mark.req("A15")
def test_the_link_dies_with_its_epoch_and_serves_nothing_else(client: FlaskClient, anna: SignedUp) -> None:
    path = path_of(anna)
    token = path.rpartition("/")[2]
    assert client.get(f"/unsubscribe/{token}").status_code == 404
    assert client.get(f"/preferences/{anna.unsubscribe_path.rpartition('/')[2]}").status_code == 404
    with reading() as session:
        url = links.preferences_url(session, links.unsubscribe_id(session, anna.subscription_id, 2))
    forged, revoked = client.get(f"/preferences/{token[:-2]}xx"), client.get(url.removeprefix(HOST))
    assert (forged.status_code, timeless(forged.text)) == (revoked.status_code, timeless(revoked.text))
    assert forged.status_code == 404
    assert len(url) <= 120
