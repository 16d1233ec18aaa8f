"""What is left of the erased and names nobody: it answers "why did you write to me" for three years, then it goes."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, delete, func, select
from sqlalchemy.orm import InstrumentedAttribute

from signup.core.db import Session, affected
from signup.core.values import first_id
from signup.eventlog import record as eventlog
from signup.eventlog.kinds import EventType
from signup.eventlog.models import Event
from signup.mail.models import Message
from signup.privacy.models import LogMark
from signup.subscriptions.models import Confirmation

MARK = "residue"
# As long as a claim about a mail can be raised, and a day or two on the safe side.
KEPT = timedelta(days=3 * 366)
# What the row of the event says as well: without them an audit could not tell a redaction from a deletion.
KEPT_FIELDS = frozenset({"type", "time"})
# One batch holds the writers' lock for a few milliseconds.
BATCH = 200
# What the operator and staff did is no residue of a person.
_ABOUT_PERSONS = ("subscription", "confirmation", "unsubscription", "consent", "link", "mail", "contact", "hold")
KINDS = frozenset(kind for kind in EventType if kind.value.partition(".")[0] in _ABOUT_PERSONS) - {
    EventType.CONTACT_ERASED
}
_ROWS: dict[str, InstrumentedAttribute[str]] = {"mails": Message.id, "questions": Confirmation.id}


def prune(session: Session, *, now: datetime) -> dict[str, int]:
    """A batch of old residue is gone: mails' ids and hashes, questions, and what events still said but for
    their type and time. Leaves stay.

    Returns:
        How many of each; a whole batch of one may mean that there is more.

    Rule: GDPR 5(1)(e), for what might still be tied to a person by whoever holds the mail.
    """
    events = _next(session, _mark(session), now)
    removed = eventlog.strip(session, _due(events), KEPT_FIELDS)
    if events:
        row = {"name": MARK, "event_id": events[-1].id}
        session.put(LogMark, row, on_conflict="ON CONFLICT (name) DO UPDATE SET event_id = excluded.event_id")
    gone = {name: _delete(session, key, now) for name, key in _ROWS.items()}
    return {**gone, "residue": removed, "looked": len(events)}


def count_due(session: Session, *, now: datetime) -> dict[str, int]:
    """How many of each runs would remove now."""
    found, mark = 0, _mark(session)
    while events := _next(session, mark, now):
        mark = events[-1].id
        found += eventlog.strip(session, _due(events), KEPT_FIELDS, only_count=True)
    rows = {name: session.scalar(select(func.count()).where(_old(key, now))) or 0 for name, key in _ROWS.items()}
    return {**rows, "residue": found}


def forget(session: Session, contact_ids: Sequence[str]) -> None:
    """Persons who are erased leave no residue that is over its time already. Runs before the log forgets them."""
    about = select(Event.id).where(Event.contact_id.in_(list(contact_ids)), Event.id <= _mark(session))
    eventlog.strip(session, session.scalars(about).all(), KEPT_FIELDS)


def _mark(session: Session) -> str:
    return session.scalar(select(LogMark.event_id).where(LogMark.name == MARK)) or ""


def _next(session: Session, mark: str, now: datetime) -> Sequence[Any]:
    query = select(Event.id, Event.kind, Event.contact_id)
    query = query.where(Event.id > mark, Event.id < first_id("evt", now - KEPT))
    return session.execute(query.order_by(Event.id).limit(BATCH)).all()


def _due(events: Sequence[Any]) -> list[str]:
    return [event.id for event in events if event.contact_id is None and event.kind in KINDS]


def _old(key: InstrumentedAttribute[str], now: datetime) -> ColumnElement[bool]:
    model: Any = key.class_
    old: ColumnElement[bool] = model.contact_id.is_(None) & (model.created_at < now - KEPT)
    return old


def _delete(session: Session, key: InstrumentedAttribute[str], now: datetime) -> int:
    due = select(key).where(_old(key, now)).limit(BATCH)
    gone = delete(key.class_).where(key.in_(due.scalar_subquery()))
    return affected(session.execute(gone.execution_options(synchronize_session=False)))
