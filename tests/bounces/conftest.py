"""What the tests of this folder share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import select

from signup.contacts import actions as contacts
from signup.core.db import reading, transaction
from signup.core.values import utc_now
from signup.eventlog import history
from signup.eventlog.record import Subject
from signup.intake import actions, reports
from signup.intake.actions import Arrival, Taken
from signup.intake.kinds import Way
from signup.mail.models import Message
from signup.subscriptions.models import Subscription
from tests.conftest import SignedUp

BOUNCES = "bounce@beispiel.example"
UNSUBSCRIBES = "leave@beispiel.example"


@pytest.fixture
def settings() -> dict[str, str]:
    return {"SIGNUP_BOUNCE_ADDRESS": BOUNCES, "SIGNUP_UNSUBSCRIBE_MAILBOX": UNSUBSCRIBES}


@pytest.fixture
def take(app: Flask) -> Callable[..., Taken]:
    """A mail has come in."""

    def act(
        raw: bytes,
        recipients: Sequence[str] = (),
        *,
        controller_id: str | None = None,
        own_id: str | None = None,
        at: datetime | None = None,
    ) -> Taken:
        known_as = own_id or actions.own_id(raw, recipients)
        arrival = Arrival(Way.FILE, raw, reports.read(raw, recipients), known_as)
        with transaction() as session:
            return actions.take(session, controller_id, arrival, now=at or utc_now())

    return act


def sent(person: SignedUp) -> Any:
    """The newest mail to a person."""
    with reading() as session:
        query = select(Message).where(Message.contact_id == person.contact_id).order_by(Message.id.desc())
        found = session.scalars(query).first()
    assert found is not None
    return found


def subscription(person: SignedUp) -> Any:
    with reading() as session:
        return session.scalars(select(Subscription).where(Subscription.id == person.subscription_id)).one()


def timeline(demo: SimpleNamespace, person: SignedUp) -> list[history.Fact]:
    """The person's whole history."""
    with reading() as session:
        subject = Subject(person.contact_id, contacts.open_key(session, person.contact_id))
        return history.of_contact(session, demo.controller.id, subject)
