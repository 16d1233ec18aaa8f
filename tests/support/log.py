"""What the event log and the mail queue say, for assertions."""

from __future__ import annotations

from typing import Any

from sqlalchemy import func, select

from signup.contacts import actions as contacts
from signup.core.db import reading
from signup.eventlog import history
from signup.eventlog.models import Event, Publication
from signup.eventlog.record import Subject
from signup.mail import compose
from signup.mail.models import Message, MessageState
from signup.purposes import actions as purposes
from signup.subscriptions.models import Subscription


def facts(contact_id: str) -> list[history.Fact]:
    """The whole history of one contact."""
    with reading() as session:
        controller = purposes.find_controller(session, "beispiel")
        return history.of_contact(session, controller.id, Subject(contact_id, contacts.open_key(session, contact_id)))


def kinds(contact_id: str) -> list[str]:
    return [fact.kind for fact in facts(contact_id)]


def published(contact_id: str) -> list[str]:
    with reading() as session:
        query = select(Publication.type).where(Publication.contact_id == contact_id)
        return list(session.scalars(query.order_by(Publication.created_at, Publication.id)))


def subscription(contact_id: str) -> Any:
    with reading() as session:
        return session.scalars(select(Subscription).where(Subscription.contact_id == contact_id)).one()


def messages(contact_id: str, state: MessageState | None = None) -> list[Any]:
    with reading() as session:
        query = select(Message).where(Message.contact_id == contact_id)
        if state is not None:
            query = query.where(Message.state == state)
        return list(session.scalars(query.order_by(Message.id)))


def raw(message: Any) -> bytes:
    """The exact bytes of a mail to a contact."""
    with reading() as session:
        return compose.opened(session, contacts.open_key(session, message.contact_id), message.sealed)[1]


def count(model: Any) -> int:
    with reading() as session:
        return session.scalar(select(func.count()).select_from(model)) or 0


def events_in_all() -> int:
    return count(Event)
