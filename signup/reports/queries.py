"""Figures about the running system; none names a person."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path

from sqlalchemy import String, func, inspect, literal_column, select, text

from signup import jobs
from signup.core.db import Session, database
from signup.eventlog import health
from signup.mail.compose import JOB_SEND
from signup.reports.totals import Counts, totals
from signup.webhooks.models import Delivery

MIGRATIONS = Path(__file__).parents[2] / "migrations" / "versions"
# A queue older than this is a fault that somebody should look at; a young one is only work.
STALE_SECONDS = 15 * 60


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
    oldest_delivery_at: datetime | None
    totals: Counts
    log: health.Figures


def figures(session: Session, *, now: datetime) -> Figures:
    """The state of all queues and the number of subscriptions by status."""
    return Figures(
        backlog=jobs.backlog(session, now=now),
        oldest_delivery_at=_oldest_delivery(session, now=now),
        totals=totals(database()),
        log=health.figures(session),
    )


def _oldest_delivery(session: Session, *, now: datetime) -> datetime | None:
    due = (Delivery.state == literal_column("'due'", String)) & (Delivery.next_at <= now)
    return session.scalar(select(func.min(Delivery.next_at)).where(due))


def waiting_since(session: Session, *, now: datetime) -> dict[str, datetime]:
    """Each queue that holds somebody up, with the time since when: mails from their sign-up on, the rest from due."""
    found = {line.kind: line.oldest_due_at for line in jobs.backlog(session, now=now)}
    found[JOB_SEND] = jobs.oldest(session, JOB_SEND)
    found["webhooks"] = _oldest_delivery(session, now=now)
    return {name: since for name, since in found.items() if since is not None}
