"""Nobody learns from us who is signed up: every address gets the same answer."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import select

from signup import wiring
from signup.contacts import actions as contacts
from signup.contacts.models import Contact
from signup.core.db import reading, transaction
from signup.core.values import EmailAddress, utc_now
from signup.mail.models import Message, MessageState
from signup.subscriptions import answers, newlinks
from signup.suppression import actions as suppression
from signup.suppression.models import Reason
from signup.worker import JobTurn
from tests.conftest import CLIENT, SignedUp, queued_mail
from tests.journeys.world import ident_in

PENDING = re.compile(r"/f/demo-de/pending/[A-Za-z0-9_-]{22}")
# What belongs to one answer and not to the address: when it was given, and the random handle.
RANDOM = re.compile(r'(name="nonce" value=")[^"]+|/pending/[A-Za-z0-9_-]+|\d{1,2}:\d\d')
STATES = (
    "new", "pending", "confirmed", "unsubscribed", "refused", "withdrawn", "expired", "capped",
    *(f"suppressed: {reason.value}" for reason in Reason),
)  # fmt: skip


def address_in(state: str) -> str:
    return f"{re.sub('[^a-z]', '', state):a<20}@beispiel.example"


@pytest.fixture
def known(
    demo: SimpleNamespace,
    sign_up: Callable[..., SignedUp],
    signup_and_confirm: Callable[..., SignedUp],
    client: FlaskClient,
) -> None:
    """One address in each state that we can hold about somebody."""
    yesterday = utc_now() - timedelta(days=1)
    sign_up(address_in("pending"), at=yesterday)
    for state in ("confirmed", "unsubscribed", "withdrawn"):
        person = signup_and_confirm(address_in(state), at=yesterday)
        if state == "unsubscribed":
            client.post(person.unsubscribe_path, data={"List-Unsubscribe": "One-Click"})
        if state == "withdrawn":
            refuse(person)
    refuse(sign_up(address_in("refused"), at=yesterday))
    sign_up(address_in("expired"), at=yesterday - timedelta(days=7))
    sign_up(address_in("capped"), at=utc_now() - timedelta(minutes=1))
    with transaction() as session:
        for reason in Reason:
            address = EmailAddress.parse(address_in(f"suppressed: {reason.value}"))
            key = contacts.address_key(session, demo.controller.id, address)
            suppression.remember(session, demo.controller.id, key, reason, now=yesterday)


def refuse(person: SignedUp) -> None:
    with transaction() as session:
        answers.refuse(session, ident_in("not-me", person.not_me_url), client=CLIENT, page_seconds=5, now=utc_now())


def shape(answer: Any) -> tuple[Any, ...]:
    """All of an answer that could tell one address from another."""
    headers = [(name, RANDOM.sub(r"\1", value)) for name, value in answer.headers if name != "Date"]
    return answer.status_code, sorted(headers), RANDOM.sub(r"\1", answer.text)


def post(client: FlaskClient, state: str, accept: str, render_id: str | None = None) -> Any:
    data = {"email": address_in(state), "purpose": "product-news", **({"render_id": render_id} if render_id else {})}
    return client.post("/f/demo-de", data=data, headers={"Accept": accept})


@pytest.mark.req("A8")
@pytest.mark.req("E5")
@pytest.mark.usefixtures("known")
def test_every_address_gets_the_same_answer_and_page_when_it_signs_up(client: FlaskClient) -> None:
    first: tuple[Any, ...] | None = None
    for state in STATES:
        answer = post(client, state, "text/html", "one-id-for-all")
        assert PENDING.fullmatch(answer.location), state
        seen = shape(answer), shape(client.get(answer.location)), shape(client.head(answer.location))
        first = first or seen
        assert seen == first, state
        # Pressed twice, and once more from a fresh page: still nothing to learn.
        assert shape(post(client, state, "text/html", "one-id-for-all")) == first[0], state
        assert shape(post(client, state, "text/html")) == first[0], state


@pytest.mark.req("A8")
@pytest.mark.usefixtures("known")
def test_every_address_gets_the_same_json_when_it_signs_up(client: FlaskClient) -> None:
    seen = {state: shape(post(client, state, "application/json")) for state in STATES}
    assert seen["new"][0] == 202
    assert {state for state in STATES if seen[state] != seen["new"]} == set()


@pytest.mark.req("A2")
@pytest.mark.usefixtures("known")
def test_only_those_who_may_get_a_mail_get_one_when_they_sign_up(client: FlaskClient) -> None:
    for state in STATES:
        post(client, state, "text/html")
    with_mail = {state for state in STATES if fresh_mail(state)}
    lifted = {f"suppressed: {reason.value}" for reason in suppression.LIFTED_BY_CONFIRMATION}
    assert with_mail == {"new", "pending", "confirmed", "unsubscribed", "expired", *lifted}


def fresh_mail(state: str) -> bool:
    """Whether the newest mail to this address is of this minute."""
    mail = queued_mail(address_in(state))
    return mail is not None and utc_now() - mail["Date"].datetime < timedelta(seconds=50)


@pytest.mark.req("A8")
@pytest.mark.usefixtures("known")
def test_the_pending_page_answers_alike_when_another_mail_is_asked_for(client: FlaskClient) -> None:
    for state in STATES:
        place = post(client, state, "text/html").location
        answer = client.post(place, data={"nonce": "wrong"})
        assert (answer.status_code, answer.location) == (303, place), state


@pytest.mark.req("A8")
@pytest.mark.req("U9")
@pytest.mark.usefixtures("known")
def test_every_address_gets_the_same_answer_when_it_asks_for_a_link(client: FlaskClient) -> None:
    seen = {}
    for state in STATES:
        data = {"of": "beispiel", "email": address_in(state)}
        answer = client.post("/preferences", data=data)
        again = client.post("/preferences", data=data)
        seen[state] = shape(answer), shape(again), shape(client.get(answer.location))
    assert seen["new"][0][0] == 303
    assert {state for state in STATES if seen[state] != seen["new"]} == set()
    turn = JobTurn(next(kind for kind in wiring.JOBS if kind.name == newlinks.JOB_MAIL))
    while turn(utc_now):
        pass
    with reading() as session:
        told = session.execute(select(Contact.email, Message.state).join(Message, Message.contact_id == Contact.id)
                               .where(Message.kind == "preferences").order_by(Message.id)).all()  # fmt: skip
    confirmed = address_in("confirmed")
    assert [tuple(row) for row in told] == [(confirmed, MessageState.QUEUED), (confirmed, MessageState.HELD)]


def test_a_pending_page_of_another_form_or_handle_is_404_when_guessed(client: FlaskClient) -> None:
    place = post(client, "new", "text/html").location
    assert client.get(place.replace("demo-de", "demo-en")).status_code == 404
    assert client.get(place[:-3] + "AAA").status_code == 404
