"""Many at once, on real processes: one answer to one person."""

from __future__ import annotations

import re
from collections import Counter

import pytest
from flask import Flask
from sqlalchemy import select

from signup.contacts.models import Contact
from signup.core.db import reading
from signup.eventlog.kinds import EventType
from signup.eventlog.models import Event
from signup.mail.models import Message, MessageState
from signup.subscriptions.models import Confirmation, Subscription
from signup.subscriptions.states import ConfirmationState, Status
from tests.conftest import in_threads
from tests.journeys.world import PATIENCE_SECONDS, Answer, Mail, call, count_rows, read_nonce
from tests.support.servers import Service
from tests.support.smtp import ScriptedSmtp
from tests.support.waiting import wait_for

CROWD = 64
ADDRESS = "anna@beispiel.example"


def statuses(answers: list[Answer | Exception]) -> Counter[int]:
    failed = [answer for answer in answers if not isinstance(answer, Answer)]
    assert failed == []
    return Counter(answer.status for answer in answers if isinstance(answer, Answer))


def sign_up(service: Service, render_id: str, purpose: str = "product-news") -> Answer:
    return call("POST", f"{service.url}/f/demo-de", {"email": ADDRESS, "purpose": purpose, "render_id": render_id})


def settled() -> None:
    """Every mail that was queued has been handed over."""
    wait_for(
        lambda: count_rows(Message, Message.state == MessageState.QUEUED) == 0,
        seconds=PATIENCE_SECONDS,
        describe="an empty queue",
    )


def held() -> list[str | None]:
    with reading() as session:
        return list(session.scalars(select(Message.reason).where(Message.state == MessageState.HELD)))


@pytest.mark.req("F14")
def test_one_request_and_one_mail_are_made_when_64_presses_of_one_page_arrive_at_once(
    service: Service, inside: Flask, smtp_server: ScriptedSmtp
) -> None:
    answers = in_threads(CROWD, lambda _: sign_up(service, "one-render"))
    assert statuses(answers) == {303: CROWD}
    assert len({answer.headers["location"] for answer in answers}) == 1
    smtp_server.wait(seconds=PATIENCE_SECONDS)
    settled()
    assert len(smtp_server.received) == 1
    assert count_rows(Event, Event.kind == EventType.SUBSCRIPTION_REQUESTED) == 1
    assert (count_rows(Contact), count_rows(Subscription), count_rows(Confirmation)) == (1, 1, 1)
    assert held() == []


@pytest.mark.req("A2")
@pytest.mark.req("E2")
def test_the_address_gets_one_mail_when_64_pages_ask_for_it_at_once(
    service: Service, inside: Flask, smtp_server: ScriptedSmtp
) -> None:
    answers = in_threads(CROWD, lambda number: sign_up(service, f"render-{number}"))
    assert statuses(answers) == {303: CROWD}
    assert len({answer.headers["location"] for answer in answers}) == CROWD
    smtp_server.wait(seconds=PATIENCE_SECONDS)
    settled()
    assert len(smtp_server.received) == 1
    assert count_rows(Event, Event.kind == EventType.SUBSCRIPTION_REQUESTED) == CROWD
    assert (count_rows(Contact), count_rows(Subscription)) == (1, 1)
    assert count_rows(Confirmation, Confirmation.state == ConfirmationState.OPEN) == 1
    assert Counter(held()) == {"cap of mails to this address": CROWD - 1}
    # The one link that went out still works.
    assert call("GET", Mail.of(smtp_server.received[0]).url("confirm")).status == 200


@pytest.mark.req("E18")
def test_one_confirmation_is_recorded_when_the_button_is_pressed_64_times_at_once(
    service: Service, inside: Flask, smtp_server: ScriptedSmtp
) -> None:
    assert sign_up(service, "one").status == 303
    link = Mail.of(smtp_server.wait(seconds=PATIENCE_SECONDS)[0]).url("confirm")
    nonce = read_nonce("confirm", link)
    answers = in_threads(CROWD, lambda _: call("POST", link, {"nonce": nonce}))
    assert statuses(answers) == {303: CROWD}
    assert count_rows(Event, Event.kind == EventType.SUBSCRIPTION_CONFIRMED) == 1
    with reading() as session:
        subscription = session.scalars(select(Subscription)).one()
    assert (subscription.status, subscription.version) == (Status.ACTIVE, 2)


@pytest.mark.req("U1")
def test_one_withdrawal_is_recorded_when_a_mail_client_asks_64_times_at_once(
    service: Service, inside: Flask, smtp_server: ScriptedSmtp
) -> None:
    assert sign_up(service, "one").status == 303
    link = Mail.of(smtp_server.wait(seconds=PATIENCE_SECONDS)[0]).url("confirm")
    nonce = read_nonce("confirm", link)
    assert call("POST", link, {"nonce": nonce}).status == 303
    (leave,) = set(re.findall(r'href="(http\S+/unsubscribe/[^"]+)"', call("GET", link).text))
    answers = in_threads(CROWD, lambda _: call("POST", leave, {"List-Unsubscribe": "One-Click"}))
    assert statuses(answers) == {200: CROWD}
    assert count_rows(Event, Event.kind == EventType.SUBSCRIPTION_UNSUBSCRIBED) == 1
    assert count_rows(Event, Event.kind == EventType.CONSENT_WITHDRAWN) == 1
