"""Addresses of visitors and their browsers leave the proof when their time is over; every leaf stays valid."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, func, select

from signup.contacts import holds
from signup.core.db import Session
from signup.core.values import first_id
from signup.eventlog import record as eventlog
from signup.eventlog.kinds import EventType, FieldClass
from signup.eventlog.models import Disclosure, Event
from signup.privacy.models import LogMark

MARK = "redaction"
# One batch holds the writers' lock for a few milliseconds.
BATCH = 200
CLASSES = (FieldClass.IP, FieldClass.USER_AGENT)
# What leads to a yes is kept as long as the yes: the request proves nothing without it, nor it without the request.
_BEFORE = (EventType.SUBSCRIPTION_REQUESTED, EventType.CONFIRMATION_RESENT, EventType.LINK_OPENED)
_YES = (EventType.SUBSCRIPTION_CONFIRMED, EventType.SUBSCRIPTION_UPDATED)


@dataclass(frozen=True)
class Step:
    """One batch: how many rows went, and whether there may be more."""

    count: int
    more: bool


def redact(session: Session, *, now: datetime) -> Step:
    """A batch of old events no longer says from which address and browser something was done.

    An event is old as many days after it, or after the confirmation that it led to, as the settings say. The log is
    gone through once: a run that finds nothing new reads two rows.

    Returns:
        How many rows went, each an address or a browser of one event.

    Rule: GDPR 5(1)(c) and (e); EDPB guidelines 05/2020 no. 106, proof must not itself be excessive processing.
    """
    limit = _limit(session, now)
    if limit is None:
        return Step(0, more=False)
    events = _next(session, _mark(session), limit)
    if not events:
        return Step(0, more=False)
    removed = eventlog.redact(session, _due(session, events, limit), CLASSES)
    row = {"name": MARK, "event_id": events[-1].id}
    session.put(LogMark, row, on_conflict="ON CONFLICT (name) DO UPDATE SET event_id = excluded.event_id")
    return Step(removed, more=len(events) == BATCH)


def count_due(session: Session, *, now: datetime) -> int:
    """How many rows runs would remove now."""
    limit, mark, found = _limit(session, now), _mark(session), 0
    while limit is not None and (events := _next(session, mark, limit)):
        mark = events[-1].id
        due = _due(session, events, limit)
        found += (
            session.scalar(
                select(func.count()).where(Disclosure.event_id.in_(due), Disclosure.field_class.in_(CLASSES))
            )
            or 0
        )
    return found


def catch_up(session: Session, contact_id: str, *, now: datetime) -> int:
    """What a run left alone because the person was under a hold goes now, unless another one stands.

    Returns:
        How many rows went.
    """
    limit = _limit(session, now)
    if limit is None:
        return 0
    events = _events(session, Event.contact_id == contact_id, Event.id <= _mark(session), Event.id < limit)
    return eventlog.redact(session, _due(session, events, limit), CLASSES)


def _limit(session: Session, now: datetime) -> str | None:
    """Events with lower ids are old; None when they never are."""
    days = session.config.ip_days
    return first_id("evt", now - timedelta(days=days)) if days else None


def _mark(session: Session) -> str:
    return session.scalar(select(LogMark.event_id).where(LogMark.name == MARK)) or ""


def _next(session: Session, mark: str, limit: str) -> Sequence[Any]:
    return _events(session, Event.id > mark, Event.id < limit, most=BATCH)


def _events(session: Session, *conditions: ColumnElement[bool], most: int | None = None) -> Sequence[Any]:
    query = select(Event.id, Event.kind, Event.contact_id).where(*conditions)
    if most is not None:
        return session.execute(query.order_by(Event.id).limit(most)).all()
    # Sorted here: asked for the order, a database may go through all events to find these few.
    return sorted(session.execute(query).all(), key=lambda event: event.id)


def _due(session: Session, events: Sequence[Any], limit: str) -> list[str]:
    """Which events give up their addresses now that `events` are old: those, and what waited for a yes among them."""
    people = {event.contact_id for event in events if event.contact_id}
    held = holds.held_among(session, people)
    free = [event for event in events if event.contact_id not in held]
    yes = _yes_of(session, people - held)
    due = [event.id for event in free if not _waits(event, yes.get(event.contact_id, []), limit)]
    said = {event.contact_id: event.id for event in free if event.kind in _YES}
    waited = _events(session, Event.contact_id.in_(list(said)), Event.kind.in_(_BEFORE)) if said else []
    return due + [event.id for event in waited if event.id < said[event.contact_id]]


def _yes_of(session: Session, people: set[str]) -> dict[str, list[str]]:
    """When each of these persons said yes, by the ids of the events, oldest first."""
    found: dict[str, list[str]] = {}
    if people:
        for event in _events(session, Event.contact_id.in_(list(people)), Event.kind.in_(_YES)):
            found.setdefault(event.contact_id, []).append(event.id)
    return found


def _waits(event: Any, yes: Sequence[str], limit: str) -> bool:
    """Whether the event led to a confirmation that is not old yet."""
    following = next((ident for ident in yes if ident > event.id), None)
    return event.kind in _BEFORE and following is not None and following >= limit
