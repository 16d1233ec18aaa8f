"""A new address counts once its owner confirms it by mail; the old one is told."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from email import message_from_bytes, policy
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select, update

from signup.contacts.models import AddressChange, Contact
from signup.core.db import database, transaction
from signup.core.values import EmailAddress, utc_now
from signup.forms import actions as forms
from signup.privacy import retention
from signup.subscriptions import addresses, requests
from signup.subscriptions.presses import SignupRequest
from tests.conftest import CLIENT, SignedUp
from tests.support import log
from tests.support.locks import wait_for_a_lock

NEW = "anna.neu@kunde.example"


@pytest.fixture
def anna(signup_and_confirm: Callable[..., SignedUp]) -> SignedUp:
    # Long enough ago that the caps of her address are free again.
    return signup_and_confirm("anna@kunde.example", at=utc_now() - timedelta(days=2))


@pytest.fixture
def change(client: FlaskClient, demo: Any, anna: SignedUp) -> Callable[..., Any]:
    """Ask for a new address by the API."""

    def act(email: str = NEW, contact_id: str = anna.contact_id) -> Any:
        url, headers = f"/api/v1/contacts/{contact_id}", {"Authorization": f"Bearer {demo.api_key}"}
        return client.patch(url, json={"email": email}, headers=headers)

    return act


def mails(person: SignedUp) -> dict[str, Any]:
    """The newest mail of each kind, parsed."""
    found = {}
    for message in log.messages(person.contact_id):
        found[message.kind] = message_from_bytes(log.raw(message), policy=policy.default)
    return found


def ident_of(person: SignedUp) -> bytes:
    text = mails(person)["address"].get_body(("plain",)).get_content()
    (link,) = {line for line in text.splitlines() if "/address/" in line}
    ident = database().sessions.kw["keys"].open_token("address", link.rpartition("/")[2])
    assert isinstance(ident, bytes)
    return ident


def path_of(ident: bytes) -> str:
    return "/address/" + database().sessions.kw["keys"].token("address", ident)


def confirm(ident: bytes, **later: float) -> Any:
    with transaction() as session:
        return addresses.confirm(session, ident, client=CLIENT, page_seconds=3, now=utc_now() + timedelta(**later))


def email_of(client: FlaskClient, demo: Any, person: SignedUp) -> str:
    headers = {"Authorization": f"Bearer {demo.api_key}"}
    return str(client.get(f"/api/v1/contacts/{person.contact_id}", headers=headers).get_json()["email"])


def test_nothing_changes_before_the_new_address_is_confirmed_when_a_program_asks(
    client: FlaskClient, demo: Any, anna: SignedUp, change: Callable[..., Any]
) -> None:
    answer = change()
    assert (answer.status_code, answer.get_json()) == (202, {"status": "pending"})
    sent = mails(anna)
    assert sent["address"]["To"] == NEW
    assert sent["address-told"]["To"] == "anna@kunde.example"
    assert "/address/" not in sent["address-told"].as_string()
    assert NEW not in sent["address-told"].as_string()
    assert email_of(client, demo, anna) == "anna@kunde.example"
    page = client.get(path_of(ident_of(anna)))
    assert page.status_code == 200
    assert "a•••@kunde.example" in page.text
    assert email_of(client, demo, anna) == "anna@kunde.example"


def test_the_page_needs_its_own_nonce_when_somebody_posts(
    client: FlaskClient, demo: Any, anna: SignedUp, change: Callable[..., Any]
) -> None:
    change()
    ident = ident_of(anna)
    assert client.post(path_of(ident)).status_code == 422
    assert email_of(client, demo, anna) == "anna@kunde.example"
    keys = database().sessions.kw["keys"]
    nonce = keys.page_nonce("address", ident, utc_now() - timedelta(seconds=5))
    foreign = client.post(path_of(ident), data={"nonce": nonce}, headers={"Origin": "https://evil.example"})
    assert foreign.status_code == 403
    done = client.post(path_of(ident), data={"nonce": nonce})
    assert done.status_code == 303
    assert client.get(path_of(ident)).status_code == 200
    assert email_of(client, demo, anna) == NEW


def test_the_change_is_on_record_and_told_once_when_it_is_confirmed_twice(
    anna: SignedUp, change: Callable[..., Any]
) -> None:
    change()
    ident = ident_of(anna)
    assert confirm(ident) is addresses.State.CONFIRMED
    assert confirm(ident) is addresses.State.CONFIRMED
    assert log.published(anna.contact_id).count("contact.updated") == 1
    asked, updated = (
        next(fact for fact in log.facts(anna.contact_id) if fact.kind == kind)
        for kind in ("contact.address-change-asked", "contact.updated")
    )
    assert asked.fields["email"] == updated.fields["email"] == NEW
    assert log.subscription(anna.contact_id).status.value == "active"


def test_an_old_link_changes_nothing_when_it_expired_or_a_newer_one_was_asked_for(
    client: FlaskClient, demo: Any, anna: SignedUp, change: Callable[..., Any]
) -> None:
    change()
    first = ident_of(anna)
    assert confirm(first, days=8) is addresses.State.GONE
    with transaction() as session:
        to = EmailAddress.parse("anna.zwei@kunde.example")
        later = utc_now() + timedelta(days=2)
        addresses.ask(
            session, demo.controller.id, anna.contact_id, to, client=CLIENT, actor=addresses.PERSON, now=later
        )
    assert confirm(first) is addresses.State.GONE
    assert client.get(path_of(first)).status_code == 410
    assert email_of(client, demo, anna) == "anna@kunde.example"


def test_it_is_refused_with_the_reason_when_the_address_is_not_free(
    anna: SignedUp, change: Callable[..., Any], signup_and_confirm: Callable[..., SignedUp], client: FlaskClient
) -> None:
    signup_and_confirm("bert@kunde.example")
    assert change("bert@kunde.example").get_json()["code"] == "contact-exists"
    assert change("anna@kunde.example").get_json()["code"] == "address-unchanged"
    gone = signup_and_confirm("cora@kunde.example")
    client.post(gone.not_me_path, data={})
    assert change("not-an-address").status_code == 422
    assert change(contact_id="con_nobody").status_code == 404
    assert "address" not in mails(anna)


def test_the_caps_of_both_addresses_hold_when_a_program_asks_again(anna: SignedUp, change: Callable[..., Any]) -> None:
    assert change().status_code == 202
    again = change("anna.zwei@kunde.example")
    assert again.status_code == 429
    assert int(again.headers["Retry-After"]) > 0


def test_another_contact_keeps_its_address_when_it_came_in_between(
    client: FlaskClient, demo: Any, anna: SignedUp, change: Callable[..., Any], sign_up: Callable[..., SignedUp]
) -> None:
    change()
    ident = ident_of(anna)
    sign_up(NEW, at=utc_now() + timedelta(hours=1))
    assert confirm(ident) is addresses.State.GONE
    assert email_of(client, demo, anna) == "anna@kunde.example"


def test_the_new_address_is_gone_when_its_time_is_over_or_the_person_is_erased(
    app: Flask, demo: Any, anna: SignedUp, change: Callable[..., Any]
) -> None:
    change()
    with transaction() as session:
        (row,) = session.scalars(select(AddressChange))
        assert NEW.encode() not in row.sealed
    retention.run_now(lambda: utc_now() + timedelta(days=8))
    assert log.count(AddressChange) == 0
    with transaction() as session:
        to, later = EmailAddress.parse(NEW), utc_now() + timedelta(days=9)
        addresses.ask(
            session, demo.controller.id, anna.contact_id, to, client=CLIENT, actor=addresses.PERSON, now=later
        )
    with transaction() as session:
        retention.forget(session, [anna.contact_id], "erased", now=utc_now())
    assert log.count(AddressChange) == 0


@pytest.mark.parametrize("backend", [pytest.param("postgres", marks=pytest.mark.postgres)], indirect=True)
@pytest.mark.parametrize("step", ["ask", "confirm", "language"])
def test_it_waits_its_turn_when_somebody_else_is_at_the_contact(
    app: Flask, client: FlaskClient, demo: Any, anna: SignedUp, change: Callable[..., Any], step: str
) -> None:
    """On SQLite writers queue anyway. A contact in other hands is there all the same, and nothing of it is lost."""
    ident = ident_of(anna) if step == "confirm" and change().status_code == 202 else b""
    url, headers = f"/api/v1/contacts/{anna.contact_id}", {"Authorization": f"Bearer {demo.api_key}"}
    answers: list[Any] = []

    def act() -> None:
        with app.app_context():
            if step == "confirm":
                answers.append(confirm(ident))
            else:
                body = {"email": NEW} if step == "ask" else {"locale": "en"}
                answers.append(app.test_client().patch(url, json=body, headers=headers).status_code)

    thread = threading.Thread(target=act)
    with transaction() as session:
        changed = update(Contact).where(Contact.id == anna.contact_id)
        before = session.execute(changed.values(version=Contact.version + 1).returning(Contact.version)).scalar_one()
        thread.start()
        wait_for_a_lock()
    thread.join()
    assert answers == [{"ask": 202, "confirm": addresses.State.CONFIRMED, "language": 200}[step]]
    after = client.get(url, headers=headers).get_json()["version"]
    assert after == (before if step == "ask" else before + 1)


def test_the_link_is_gone_and_nothing_half_written_when_a_sign_up_takes_the_address_meanwhile(
    app: Flask, client: FlaskClient, demo: Any, anna: SignedUp, change: Callable[..., Any]
) -> None:
    assert change().status_code == 202
    ident, told = ident_of(anna), log.kinds(anna.contact_id)
    answers: list[Any] = []
    asking = threading.Event()

    def act() -> None:
        with app.app_context():
            asking.set()
            answers.append(confirm(ident))

    thread = threading.Thread(target=act)
    now = utc_now()
    with transaction() as session:
        view = forms.in_force(session, "demo-de")
        press = SignupRequest(EmailAddress.parse(NEW), ("product-news",), None, None, CLIENT, None, None)
        requests.request(session, view, press, now=now)
        session.write_queued()
        thread.start()
        if session.get_bind().dialect.name == "postgresql":
            wait_for_a_lock()
        else:
            assert asking.wait(10)
    thread.join()
    assert answers == [addresses.State.GONE]
    assert email_of(client, demo, anna) == "anna@kunde.example"
    assert log.kinds(anna.contact_id) == told
    assert confirm(ident) is addresses.State.GONE
    assert client.get(path_of(ident)).status_code == 410
