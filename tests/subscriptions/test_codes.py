"""The six digits of the mail, typed on the page that follows a sign-up."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import select, update

from signup.contacts import actions as contacts
from signup.core.db import database, reading, transaction
from signup.core.signing import token_hash
from signup.core.values import EmailAddress, utc_now
from signup.forms.models import FormVersion
from signup.subscriptions import codes
from signup.subscriptions.models import Confirmation, Submission, Subscription
from signup.subscriptions.states import Status
from signup.suppression import actions as suppression
from signup.suppression.models import Reason
from tests.conftest import CLIENT, SignedUp, queued_mail
from tests.support import log
from tests.support.pages import nonce

EMAIL = "anna@beispiel.example"
RANDOM = re.compile(r'(name="nonce" value=")[^"]+|/pending/[A-Za-z0-9_-]+|\d{1,2}:\d\d')


def posted(client: FlaskClient, email: str = EMAIL) -> str:
    """The path of the page after a sign-up."""
    answer = client.post("/f/demo-de", data={"email": email, "purpose": "product-news"})
    return str(answer.location)


def mailed_code(email: str = EMAIL) -> str:
    text = queued_mail(email).get_body(("plain",)).get_content().replace("\r\n", "\n")
    (found,) = re.findall(r"^(\d{6})$", text, re.MULTILINE)
    return str(found)


def another(code: str) -> str:
    return f"{(int(code) + 1) % 10**codes.DIGITS:06d}"


def type_in(client: FlaskClient, path: str, code: str, *, age: float = 5.0) -> Any:
    handle = path.rpartition("/")[2]
    made = database().sessions.kw["keys"].page_nonce("pending", handle.encode(), utc_now() - timedelta(seconds=age))
    return client.post(path, data={"nonce": made, "code": code})


def standing() -> Status:
    with reading() as session:
        return session.scalars(select(Subscription.status)).one()


@pytest.mark.req("A21")
def test_the_right_code_confirms_like_the_button_when_typed(client: FlaskClient, demo: SimpleNamespace) -> None:
    path = posted(client)
    assert 'inputmode="numeric" autocomplete="one-time-code"' in client.get(path).text
    code = mailed_code()
    answer = type_in(client, path, f" {code[:3]} {code[3:]}")
    assert answer.status_code == 200
    assert "Sie sind angemeldet" in answer.text
    assert standing() is Status.ACTIVE
    with reading() as session:
        contact = contacts.find(session, demo.controller.id, EmailAddress.parse(EMAIL))
    assert contact is not None
    fact = log.facts(contact.id)[-1]
    assert (fact.kind, fact.fields["act"], fact.fields["method"]) == ("subscription.confirmed", "code", "code")
    assert log.published(contact.id)[-1] == "subscription.confirmed"
    again = type_in(client, path, code)
    assert again.status_code == 200
    assert log.published(contact.id).count("subscription.confirmed") == 1


@pytest.mark.req("A21")
def test_no_code_counts_when_five_were_wrong(client: FlaskClient) -> None:
    path = posted(client)
    code = mailed_code()
    for left in (4, 3, 2, 1):
        answer = type_in(client, path, another(code))
        assert answer.status_code == 422
        assert f"noch {left} Versuch" in answer.text
    assert 'name="code"' not in type_in(client, path, another(code)).text
    assert type_in(client, path, code).status_code == 422
    assert standing() is Status.REQUESTED


@pytest.mark.req("A21")
def test_other_pages_share_their_tries_when_many_are_opened(client: FlaskClient) -> None:
    posted(client)
    code = mailed_code()
    for wrong in (3, 2):
        other = posted(client)
        assert mailed_code() == code
        for _ in range(wrong):
            type_in(client, other, another(code))
    assert type_in(client, posted(client), code).status_code == 422
    assert standing() is Status.REQUESTED


def block(demo: SimpleNamespace, email: str, reason: Reason) -> None:
    with transaction() as session:
        key = contacts.address_key(session, demo.controller.id, EmailAddress.parse(email))
        suppression.remember(session, demo.controller.id, key, reason, now=utc_now())


@pytest.mark.req("A21")
@pytest.mark.req("A8")
def test_every_address_gets_the_same_page_when_its_code_is_wrong(
    client: FlaskClient, demo: SimpleNamespace, signup_and_confirm: Callable[..., SignedUp]
) -> None:
    addresses = {state: f"{state:a<12}@beispiel.example" for state in ("new", "blocked", "confirmed", "capped")}
    block(demo, addresses["blocked"], Reason.NOT_ME)
    signup_and_confirm(addresses["confirmed"], at=utc_now() - timedelta(days=1))
    posted(client, addresses["capped"])
    seen = {}
    for state, email in addresses.items():
        path = posted(client, email)
        # What nobody was mailed fits nowhere; it would take a hit of one in a million to be wrong here.
        answers = [type_in(client, path, "000000") for _ in range(codes.TRIES + 1)]
        seen[state] = [(answer.status_code, RANDOM.sub(r"\1", answer.text)) for answer in answers]
    assert all(found == seen["new"] for found in seen.values())


@pytest.mark.parametrize(("minutes", "status"), [(59, 200), (61, 422)])
def test_a_code_counts_for_an_hour_from_when_the_mail_server_took_it(
    client: FlaskClient, minutes: int, status: int
) -> None:
    path = posted(client)
    code = mailed_code()
    with transaction() as session:
        session.execute(update(Confirmation).values(sent_at=utc_now() - timedelta(minutes=minutes)))
    assert type_in(client, path, code).status_code == status


def test_nothing_happens_when_the_page_was_open_for_less_than_a_second(client: FlaskClient) -> None:
    path = posted(client)
    assert type_in(client, path, mailed_code(), age=0.2).status_code == 422
    assert standing() is Status.REQUESTED


@pytest.mark.req("A15")
def test_only_a_keyed_hash_of_the_code_is_stored(client: FlaskClient) -> None:
    posted(client)
    code = mailed_code()
    with reading() as session:
        stored = session.scalars(select(Confirmation)).one()
        assert stored.code_hash == codes.code_hash(session, stored.id, code)
        assert stored.code_hash != token_hash(f"{stored.id}|{code}".encode())


def test_the_page_offers_no_third_resend_when_the_day_allows_three_mails(client: FlaskClient) -> None:
    path = posted(client)
    handle = path.rpartition("/")[2]
    for _ in range(2):
        with transaction() as session:
            session.execute(update(Submission).values(created_at=utc_now() - timedelta(minutes=11)))
        assert "Mail noch einmal senden" in client.get(path).text
        made = database().sessions.kw["keys"].page_nonce("pending", handle.encode(), utc_now() - timedelta(seconds=5))
        assert client.post(path, data={"nonce": made}).status_code == 303
    with transaction() as session:
        session.execute(update(Submission).values(created_at=utc_now() - timedelta(minutes=11)))
    assert "Mail noch einmal senden" not in client.get(path).text


@pytest.fixture
def strict(demo: SimpleNamespace) -> None:
    """The form's version in force confirms by typed code only."""
    with transaction() as session:
        for version in session.scalars(select(FormVersion)):
            version.definition = {**version.definition, "strict": True}


def code_path(email: str = EMAIL) -> str:
    text = queued_mail(email).get_body(("plain",)).get_content().replace("\r\n", "\n")
    (found,) = re.findall(r"^http://127\.0\.0\.1:8000(/code/\S+)$", text, re.MULTILINE)
    return str(found)


@pytest.mark.req("E17")
@pytest.mark.usefixtures("strict")
def test_only_the_typed_code_confirms_when_the_form_is_strict(client: FlaskClient) -> None:
    posted(client)
    mail = queued_mail(EMAIL).as_string()
    assert "/confirm/" not in mail
    path = code_path()
    for method in ("GET", "HEAD", "OPTIONS"):
        assert client.open(path, method=method).status_code == 200
    assert client.post(path, data={"nonce": nonce(path)}).status_code == 422
    assert standing() is Status.REQUESTED
    assert "a•••@beispiel.example" in client.get(path).text
    answer = client.post(path, data={"nonce": nonce(path), "code": mailed_code()})
    assert answer.status_code == 200
    assert "Sie sind angemeldet" in answer.text
    assert standing() is Status.ACTIVE
    assert client.get(path).status_code == 200


@pytest.mark.req("E17")
@pytest.mark.usefixtures("strict")
def test_five_wrong_codes_are_the_end_when_the_form_is_strict(client: FlaskClient) -> None:
    posted(client)
    path, code = code_path(), mailed_code()
    for _ in range(codes.TRIES):
        assert client.post(path, data={"nonce": nonce(path), "code": another(code)}).status_code == 422
    assert client.post(path, data={"nonce": nonce(path), "code": code}).status_code == 422
    assert standing() is Status.REQUESTED
    assert CLIENT.ip not in client.get(path).text


@pytest.mark.req("A21")
def test_the_code_still_counts_when_strangers_guess_on_pages_of_their_own(client: FlaskClient) -> None:
    own = posted(client)
    code = mailed_code()
    for _ in range(2):
        strange = posted(client)
        for _ in range(codes.TRIES):
            assert type_in(client, strange, another(code)).status_code == 422
    assert type_in(client, posted(client), code).status_code == 422, "all their pages share five tries"
    assert standing() is Status.REQUESTED
    assert type_in(client, own, code).status_code == 200
    assert standing() is Status.ACTIVE


@pytest.mark.req("E17")
@pytest.mark.usefixtures("strict")
def test_the_code_behind_the_link_still_counts_when_a_stranger_asked_and_guessed(client: FlaskClient) -> None:
    strange = posted(client)
    path, code = code_path(), mailed_code()
    for _ in range(codes.TRIES):
        assert type_in(client, strange, another(code)).status_code == 422
    assert client.post(path, data={"nonce": nonce(path), "code": code}).status_code == 200
    assert standing() is Status.ACTIVE
