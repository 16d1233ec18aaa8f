"""Figures about the running system; none names a person."""

from __future__ import annotations

import time
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from sqlalchemy import String, func, inspect, literal_column, select, text
from sqlalchemy.orm import InstrumentedAttribute

from signup import jobs
from signup.core.db import Session, database
from signup.mail.compose import JOB_SEND
from signup.mail.models import Message
from signup.subscriptions.models import Subscription
from signup.webhooks.models import Delivery, Endpoint

MIGRATIONS = Path(__file__).parents[2] / "migrations" / "versions"
# A queue older than this is a fault that somebody should look at; a young one is only work.
STALE_SECONDS = 15 * 60
# Counting a million rows takes some tenths of a second on PostgreSQL and seconds on SQLite; each process spends a
# hundredth of its time on it at most.
INSTANT_SECONDS = 0.02
REST_PER_COUNT = 100


@lru_cache(maxsize=1)
def newest_migration() -> str:
    """The revision that this program was written for."""
    return max(path.name.partition("_")[0] for path in MIGRATIONS.glob("[0-9]*.py"))


def current_migration(session: Session) -> str | None:
    """The revision that the database is at; None when it is empty."""
    if not inspect(session.connection()).has_table("alembic_version"):
        return None
    found: str | None = session.scalar(text("SELECT version_num FROM alembic_version"))
    return found


@dataclass(frozen=True)
class Figures:
    backlog: list[jobs.Backlog]
    deliveries: dict[str, int]
    oldest_delivery_at: datetime | None
    messages: dict[str, int]
    subscriptions: dict[str, int]
    endpoints: dict[str, int]


def figures(session: Session, *, now: datetime) -> Figures:
    """The state of all queues and the number of subscriptions by status."""
    return Figures(
        backlog=jobs.backlog(session, now=now),
        deliveries=_count(session, Delivery.state),
        oldest_delivery_at=_oldest_delivery(session, now=now),
        messages=_count(session, Message.state),
        subscriptions=_count(session, Subscription.status),
        endpoints=_count(session, Endpoint.state),
    )


def _count(session: Session, column: InstrumentedAttribute[Any]) -> dict[str, int]:
    """Rows by state. What took long to count is not counted again for a while: all of it costs little."""
    memory, at = database().memory, ("count", str(column))
    started = time.monotonic()
    fresh_until, counts = memory.get(at, (started, {}))
    if started < fresh_until:
        remembered: dict[str, int] = counts
        return remembered
    found = {state.value: count for state, count in session.execute(select(column, func.count()).group_by(column))}
    took = time.monotonic() - started
    if took > INSTANT_SECONDS:
        memory[at] = (started + took * REST_PER_COUNT, found)
    return found


def _oldest_delivery(session: Session, *, now: datetime) -> datetime | None:
    due = (Delivery.state == literal_column("'due'", String)) & (Delivery.next_at <= now)
    return session.scalar(select(func.min(Delivery.next_at)).where(due))


def waiting_since(session: Session, *, now: datetime) -> dict[str, datetime]:
    """Each queue that holds somebody up, with the time since when: mails from their sign-up on, the rest from due."""
    found = {line.kind: line.oldest_due_at for line in jobs.backlog(session, now=now)}
    found[JOB_SEND] = jobs.oldest(session, JOB_SEND)
    found["webhooks"] = _oldest_delivery(session, now=now)
    return {name: since for name, since in found.items() if since is not None}
