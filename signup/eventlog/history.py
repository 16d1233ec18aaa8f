"""Reading the log: one person's history, and the feed of publications."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, select, update

from signup.core.db import Session
from signup.eventlog.models import Disclosure, Event, Publication
from signup.eventlog.record import Subject, opened

# Numbering holds the writers' lock on SQLite; this many take a few milliseconds.
NUMBER_BATCH = 2000


@dataclass(frozen=True)
class Fact:
    """An event with what it still discloses."""

    id: str
    kind: str
    occurred_at: datetime
    leaf: bytes
    leaf_index: int | None
    fields: dict[str, Any]
    disclosures: list[str]  # canonical JSON of [salt, name, value], as hashed into the leaf
    redacted: int


def of_contact(session: Session, controller_id: str, subject: Subject, *, limit: int = 1000) -> list[Fact]:
    """Everything the log says about one person, oldest first, at most `limit` facts."""
    rows = session.execute(
        select(Event.id, Event.kind, Event.occurred_at, Event.leaf, Event.leaf_index, Event.controller_id)
        .where(Event.contact_id == subject.contact_id)
        .order_by(Event.occurred_at, Event.id)
        .limit(limit)
    )
    # Asked for the controller too, SQLite goes through all of that controller's events to find these few in order.
    events = [row for row in rows if row.controller_id == controller_id]
    disclosed: dict[str, list[bytes]] = {event.id: [] for event in events}
    disclosures = session.execute(
        select(Disclosure.event_id, Disclosure.sealed, Disclosure.data).where(Disclosure.event_id.in_(list(disclosed)))
    )
    for event_id, sealed, data in disclosures:
        disclosed[event_id] += opened(session, subject.data_key, sealed=sealed, data=data)
    return [_fact(event, disclosed[event.id]) for event in events]


def _fact(event: Any, disclosures: list[bytes]) -> Fact:
    parsed = sorted(((json.loads(data), data) for data in disclosures), key=lambda item: item[0][1])
    return Fact(
        id=event.id,
        kind=event.kind.value,
        occurred_at=event.occurred_at,
        leaf=event.leaf,
        leaf_index=event.leaf_index,
        fields={name: value for (_, name, value), _ in parsed},
        disclosures=[data.decode() for _, data in parsed],
        redacted=len(json.loads(event.leaf)["sd"]) - len(disclosures),
    )


def number_publications(session: Session) -> int:
    """New publications have their place in the feed: gapless, in an order no later commit can change.

    One process numbers at a time: the writers' lock on SQLite, an advisory lock on PostgreSQL.

    Returns:
        How many were numbered.
    """
    if session.get_bind().dialect.name == "postgresql":
        locked = session.scalar(select(func.pg_try_advisory_xact_lock(0x5167)))
        if not locked:
            return 0
    waiting = session.scalars(
        select(Publication.id)
        .where(Publication.seq.is_(None))
        .order_by(Publication.created_at, Publication.id)
        .limit(NUMBER_BATCH)
    ).all()
    if not waiting:
        return 0
    last = session.scalar(select(func.max(Publication.seq))) or 0
    session.execute(
        update(Publication),
        [{"id": ident, "seq": last + position} for position, ident in enumerate(waiting, start=1)],
    )
    return len(waiting)


def feed(
    session: Session, controller_id: str, *, after: int, limit: int
) -> Iterator[tuple[int, str | None, bytes | None, bool]]:
    """Numbered publications after `after`: (seq, contact id, payload as stored, whether it is sealed)."""
    rows = session.execute(
        select(Publication.seq, Publication.contact_id, Publication.payload, Publication.sealed)
        .where(Publication.controller_id == controller_id, Publication.seq > after)
        .order_by(Publication.seq)
        .limit(limit)
    )
    for seq, contact_id, payload, sealed in rows:
        yield seq or 0, contact_id, payload, sealed
