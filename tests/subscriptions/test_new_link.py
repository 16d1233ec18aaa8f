"""A link that does not work says nothing about anybody, and a new one goes to the mailbox."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import select, update
from werkzeug.test import TestResponse

from signup import jobs, wiring
from signup.abuse import limits
from signup.abuse.admission import UNSEEN
from signup.contacts import actions as contacts
from signup.core.db import database, reading, transaction
from signup.core.values import EmailAddress, utc_now
from signup.forms.models import FormVersion
from signup.jobs import JobRow
from signup.mail.models import Message, MessageState
from signup.privacy import retention
from signup.purposes import actions as purposes
from signup.purposes.actions import NewController
from signup.subscriptions import newlinks
from signup.subscriptions.models import Subscription
from signup.suppression import actions as suppression
from signup.suppression.models import Reason
from signup.worker import JobTurn
from tests.abuse.solving import solved, spelled
from tests.conftest import CLIENT, SignedUp, mailed_url, queued_mail
from tests.support import log

FORGED = "x" * 22 + "." + "y" * 43
KINDS = ("confirm", "not-me", "unsubscribe", "preferences", "address", "code")
PERSON = {"User-Agent": "Mozilla/5.0", "Accept-Language": "de", "X-Forwarded-For": "198.51.100.9"}
OTHER = NewController(
    "other", "Other Ltd", "1 Road", "post@other.example", "https://o.example/i", "https://o.example/p"
)
WORKS_NOT = "Dieser Link funktioniert nicht"
SOFT, HARD = 5, 20
Ask = Callable[..., TestResponse]


@pytest.fixture
def settings() -> dict[str, str]:
    return {"SIGNUP_TRUSTED_PROXIES": "1"}


@pytest.fixture
def ask(client: FlaskClient) -> Ask:
    def act(email: str, ip: str = "198.51.100.9", **more: str) -> TestResponse:
        headers = {**PERSON, "X-Forwarded-For": ip}
        return client.post("/preferences", data={"of": "beispiel", "email": email, **more}, headers=headers)

    return act


def work(now: datetime | None = None) -> None:
    """What was asked for is looked up, as the worker does it."""
    turn = JobTurn(next(kind for kind in wiring.JOBS if kind.name == newlinks.JOB_MAIL))
    while turn(lambda: now or utc_now()):
        pass


def mails(person: SignedUp) -> list[MessageState]:
    return [message.state for message in log.messages(person.contact_id) if message.kind == "preferences"]


def add_controller(now: datetime) -> None:
    with transaction() as session:
        purposes.create_controller(session, OTHER, now=now)


@pytest.mark.req("U9")
@pytest.mark.parametrize("kind", KINDS)
def test_the_page_offers_a_new_link_and_says_nothing_of_anybody_when_a_link_is_forged(
    client: FlaskClient, kind: str
) -> None:
    page = client.get(f"/{kind}/{FORGED}", headers=PERSON)
    assert page.status_code == 404
    assert WORKS_NOT in page.text
    assert 'action="/preferences"' in page.text
    assert 'name="of" value="beispiel"' in page.text
    assert 'value=""' in page.text.partition('id="field-email"')[2].partition(">")[0]
    assert (page.headers["Cache-Control"], page.headers["Referrer-Policy"]) == ("no-store", "same-origin")
    posted = client.post(f"/{kind}/{FORGED}", data={"nonce": "x"}, headers=PERSON)
    assert (posted.status_code, WORKS_NOT in posted.text) == (404, True)
    told = client.get(f"/{kind}/{FORGED}", headers={"Accept": "application/json"})
    assert (told.status_code, told.content_type) == (404, "application/problem+json")


@pytest.mark.req("U9")
def test_a_revoked_link_and_one_of_nobody_look_alike_when_opened(
    client: FlaskClient, signup_and_confirm: Callable[..., SignedUp]
) -> None:
    person = signup_and_confirm("anna@beispiel.de")
    keys = database().sessions.kw["keys"]
    nobody, revoked = keys.token("preferences", b"n" * 16), person.unsubscribe_path.rpartition("/")[2]
    own = keys.token("preferences", keys.open_token("unsubscribe", revoked))
    assert client.get(f"/preferences/{own}").status_code == 200
    with transaction() as session:
        session.execute(update(Subscription).values(epoch=2, link_hash=b"x" * 32))
    texts = {re.sub(r'(name="rendered" value=")[^"]+', r"\1", client.get(path, headers=PERSON).text) for path in
             (f"/preferences/{own}", f"/preferences/{nobody}", f"/preferences/{FORGED}")}  # fmt: skip
    assert len(texts) == 1
    assert WORKS_NOT in texts.pop()


@pytest.mark.req("U9")
def test_there_is_no_field_when_nothing_tells_which_sender_is_meant(client: FlaskClient, now: datetime) -> None:
    add_controller(now)
    for path in (f"/preferences/{FORGED}", "/preferences"):
        page = client.get(path, headers=PERSON)
        assert (page.status_code, "<form" in page.text) == (404, False)
        assert "Mehrere Absender" in page.text
    assert client.post("/preferences", data={"email": "anna@beispiel.de"}).status_code == 404
    named = client.get("/preferences?of=other", headers=PERSON)
    assert named.status_code == 200
    assert "Other Ltd" in named.text
    assert 'name="of" value="other"' in named.text
    assert client.get("/preferences?of=nobody").status_code == 404
    with reading() as session:
        assert session.scalars(select(JobRow.id).where(JobRow.kind == newlinks.JOB_MAIL)).all() == []


@pytest.mark.req("U9")
def test_the_mailed_link_opens_the_preferences_when_somebody_is_signed_up(
    client: FlaskClient, ask: Ask, signup_and_confirm: Callable[..., SignedUp]
) -> None:
    person = signup_and_confirm("Anna.Muster@beispiel.de")
    answer = ask("anna.muster@beispiel.de")
    assert (answer.status_code, answer.location) == (303, "/preferences?of=beispiel&asked")
    shown = client.get(answer.location, headers=PERSON)
    assert (shown.status_code, "anna" in shown.text) == (200, False)
    with reading() as session:
        row = session.scalars(select(JobRow).where(JobRow.kind == newlinks.JOB_MAIL)).one()
        assert "anna" not in str(row.payload).lower()
    work()
    mail = queued_mail("anna.muster@beispiel.de")
    assert mail["To"] == "Anna.Muster@beispiel.de"
    assert str(mail["Subject"]) == "Ihr Link bei Beispiel GmbH"
    url = mailed_url(mail, "preferences")
    assert len(url) <= 120
    page = client.get(url.removeprefix("http://127.0.0.1:8000"))
    assert (page.status_code, "Produktneuheiten" in page.text) == (200, True)
    fact = next(fact for fact in log.facts(person.contact_id) if fact.kind == "link.asked")
    assert fact.fields["ip"] == "198.51.100.9"
    assert fact.fields["message_id"] == mail["Message-ID"]
    with reading() as session:
        assert session.scalars(select(JobRow.id).where(JobRow.kind == newlinks.JOB_MAIL)).all() == []


def test_the_mail_speaks_as_the_form_did_when_it_says_du_or_english(
    client: FlaskClient, ask: Ask, signup_and_confirm: Callable[..., SignedUp]
) -> None:
    with transaction() as session:
        for version in session.scalars(select(FormVersion).where(FormVersion.locale == "de")):
            version.definition = {**version.definition, "tone": "informal"}
    signup_and_confirm("anna@beispiel.de")
    signup_and_confirm("kim@example.com", "demo-en")
    ask("anna@beispiel.de")
    ask("kim@example.com")
    work()
    assert str(queued_mail("anna@beispiel.de")["Subject"]) == "Dein Link bei Beispiel GmbH"
    assert str(queued_mail("kim@example.com")["Subject"]) == "Your link with Beispiel GmbH"
    page = client.get(f"/confirm/{FORGED}", headers=PERSON)
    assert "Bitte kopieren Sie" not in page.text
    assert "This link does not work" in client.get(f"/confirm/{FORGED}", headers={"Accept-Language": "en"}).text


@pytest.mark.req("A20")
@pytest.mark.parametrize("reason", list(Reason), ids=lambda reason: reason.value)
def test_no_link_is_mailed_when_the_address_is_suppressed(
    ask: Ask, demo: Any, signup_and_confirm: Callable[..., SignedUp], reason: Reason
) -> None:
    person = signup_and_confirm("anna@beispiel.de")
    with transaction() as session:
        key = contacts.address_key(session, demo.controller.id, EmailAddress.parse("anna@beispiel.de"))
        suppression.remember(session, demo.controller.id, key, reason, now=utc_now())
    assert ask("anna@beispiel.de").status_code == 303
    work()
    assert mails(person) == []


def test_no_link_is_mailed_when_the_person_is_gone_before_the_worker_comes(
    ask: Ask, signup_and_confirm: Callable[..., SignedUp]
) -> None:
    person = signup_and_confirm("anna@beispiel.de")
    ask("anna@beispiel.de")
    with transaction() as session:
        retention.forget(session, [person.contact_id], "test", now=utc_now())
    work()
    assert mails(person) == []


@pytest.mark.req("A2")
def test_one_link_is_mailed_in_ten_minutes_and_three_a_day_when_somebody_keeps_asking(
    app: Any, demo: Any, signup_and_confirm: Callable[..., SignedUp], now: datetime
) -> None:
    person = signup_and_confirm("anna@beispiel.de", at=now - timedelta(days=1))
    for minute in (0, 5, 11, 22, 33, 44):
        client = replace(CLIENT, ip=f"198.51.100.{minute}")
        with transaction() as session:
            email = EmailAddress.parse("Anna+x@beispiel.de" if minute == 5 else "anna@beispiel.de")
            at = now + timedelta(minutes=minute)
            newlinks.ask(session, demo.controller.id, email, UNSEEN, client=client, now=at)
        work(at)
    queued, held = MessageState.QUEUED, MessageState.HELD
    assert mails(person) == [queued, queued, queued, held, held]
    reasons = [fact.fields.get("reason") for fact in log.facts(person.contact_id) if fact.kind == "link.asked"]
    assert reasons == [None, None, None, newlinks.CAPPED, newlinks.CAPPED]
    # They do not use up what confirmations may need.
    with transaction() as session:
        key = limits.address_budget_key(session, demo.controller.id, "anna@beispiel.de")
        spent = limits.lock(session, key, now=now)
    assert len(spent) == 1


@pytest.mark.req("A3")
def test_a_proof_is_asked_for_and_counts_when_a_network_asks_for_many_links(client: FlaskClient, ask: Ask) -> None:
    assert [ask(f"a{number}@beispiel.de").status_code for number in range(SOFT)] == [303] * SOFT
    page = ask("late@beispiel.de")
    assert page.status_code == 429
    assert int(page.headers["Retry-After"]) > 0
    assert 'data-doi-challenge="/preferences/challenge?of=beispiel"' in page.text
    assert 'value="late@beispiel.de"' in page.text
    assert "script-src 'self'; connect-src 'self'" in page.headers["Content-Security-Policy"]
    puzzle = client.get("/preferences/challenge?of=beispiel").json
    proof = spelled(solved(puzzle))
    assert ask("late@beispiel.de", altcha=spelled(solved(client.get("/f/demo-de/challenge").json))).status_code == 429
    assert ask("late@beispiel.de", altcha=proof).status_code == 303
    assert ask("later@beispiel.de", altcha=proof).status_code == 429
    by_hand = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', page.text))
    assert ask("late@beispiel.de", **{**by_hand, "altcha": ""}).status_code == 303
    assert ask("other@beispiel.de", "203.0.113.5").status_code == 303


def test_a_network_waits_whatever_it_proves_when_it_asked_for_too_many_links(client: FlaskClient, ask: Ask) -> None:
    for number in range(HARD):
        more = {"altcha": spelled(solved(client.get("/preferences/challenge?of=beispiel").json))}
        assert ask(f"a{number}@beispiel.de", **(more if number >= SOFT else {})).status_code == 303
    page = ask("late@beispiel.de", altcha=spelled(solved(client.get("/preferences/challenge?of=beispiel").json)))
    assert page.status_code == 429
    assert 'value="late@beispiel.de"' in page.text
    assert "data-doi-challenge" not in page.text


def test_the_page_comes_again_with_a_message_when_the_address_cannot_be_right(ask: Ask) -> None:
    page = ask("anna(at)beispiel.de")
    assert page.status_code == 422
    assert 'value="anna(at)beispiel.de"' in page.text
    assert 'aria-invalid="true" aria-describedby="error-email"' in page.text
    assert page.text.count("braucht ein @") == 2
    assert "<title>Bitte prüfen" in page.text
    with reading() as session:
        assert session.scalars(select(Message.id)).all() == []


def test_another_site_cannot_ask_for_links_when_it_posts(client: FlaskClient) -> None:
    data = {"of": "beispiel", "email": "anna@beispiel.de"}
    for headers in ({"Origin": "https://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        assert client.post("/preferences", data=data, headers=headers).status_code == 403


def test_a_request_that_nobody_can_open_is_buried_when_the_worker_comes(app: Any, now: datetime) -> None:
    with transaction() as session:
        jobs.enqueue(session, newlinks.JOB_MAIL, {"controller": "ctl_x", "sealed": "AAAA" * 20}, now=now)
    work(now)
    with reading() as session:
        (dead,) = jobs.dead(session)
    assert dead.kind == newlinks.JOB_MAIL
