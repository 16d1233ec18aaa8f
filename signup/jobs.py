"""Outgoing and later work as leased rows: written with the change that asked for it, done at least once.

A lease is nothing but a later `next_at`, so the work of a dead process falls due by itself.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    Index,
    Integer,
    String,
    Text,
    bindparam,
    delete,
    exists,
    func,
    literal_column,
    or_,
    select,
    text,
    update,
)
from sqlalchemy.orm import Mapped, mapped_column

from signup.core.db import Base, Json, Session, UtcDateTime, affected
from signup.core.values import new_id

DUE = "due"
DEAD = "dead"


class JobRow(Base):
    """One piece of work that waits; the row goes when the work is done."""

    __tablename__ = "job"
    __table_args__ = (
        Index(
            "ix_job_due", "kind", "next_at", postgresql_where=text("state = 'due'"), sqlite_where=text("state = 'due'")
        ),
        Index("uq_job_once", "once_key", unique=True),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    kind: Mapped[str] = mapped_column(String(40))
    payload: Mapped[dict[str, Any]] = mapped_column(Json)
    state: Mapped[str] = mapped_column(String(10))
    next_at: Mapped[datetime] = mapped_column(UtcDateTime)
    attempt: Mapped[int] = mapped_column(Integer)
    lease_token: Mapped[str | None] = mapped_column(String(40))
    once_key: Mapped[str | None] = mapped_column(String(80))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    error: Mapped[str | None] = mapped_column(Text)


# Spelled out, not bound: SQLite uses a partial index only when the query repeats its condition.
IS_DUE = JobRow.state == literal_column("'due'")


@dataclass(frozen=True)
class Job:
    """Leased work: it is ours until the lease runs out, and nobody else's result can be overwritten by us."""

    id: str
    kind: str
    payload: dict[str, Any]
    attempt: int
    lease_token: str
    created_at: datetime


def enqueue(
    session: Session,
    kind: str,
    payload: Mapping[str, Any],
    *,
    now: datetime,
    due: datetime | None = None,
    once_key: str | None = None,
) -> str:
    """Work of `kind` is due at `due` once the caller commits; with `once_key` at most one such row exists."""
    ident = new_id("job", now)
    row = {
        "id": ident,
        "kind": kind,
        "payload": dict(payload),
        "state": DUE,
        "next_at": due or now,
        "attempt": 0,
        "lease_token": None,
        "once_key": once_key,
        "created_at": now,
        "error": None,
    }
    session.put(JobRow, row, on_conflict="ON CONFLICT (once_key) DO NOTHING" if once_key else "")
    return ident


def any_due(session: Session, kind: str, *, now: datetime) -> bool:
    """Whether a claim would find work; asking needs no lock."""
    return bool(session.scalar(_ANY_DUE, {"of_kind": kind, "now": now}))


def claim(session: Session, kind: str, *, now: datetime, limit: int, lease_seconds: float) -> list[Job]:
    """Lease up to `limit` due jobs of `kind`, oldest first; no other worker gets them until the lease ends."""
    token = secrets.token_hex(8)
    ends = now + timedelta(seconds=lease_seconds)
    values = {"of_kind": kind, "now": now, "most": limit, "ends": ends, "token": token}
    rows = sorted(session.execute(_CLAIM, values), key=lambda row: row.id)
    return [Job(row.id, row.kind, row.payload, row.attempt, token, row.created_at) for row in rows]


# Built once: every thread of every worker asks several times a second.
_WAITS = (JobRow.kind == bindparam("of_kind"), IS_DUE, JobRow.next_at <= bindparam("now", type_=JobRow.next_at.type))
_ANY_DUE = select(exists().where(*_WAITS))
_CLAIM = (
    update(JobRow)
    .where(
        JobRow.id.in_(
            select(JobRow.id)
            .where(*_WAITS)
            .order_by(JobRow.next_at)
            .limit(bindparam("most"))
            .with_for_update(skip_locked=True)
            .scalar_subquery()
        )
    )
    .values(
        next_at=bindparam("ends", type_=JobRow.next_at.type), attempt=JobRow.attempt + 1, lease_token=bindparam("token")
    )
    .returning(JobRow.id, JobRow.kind, JobRow.payload, JobRow.attempt, JobRow.created_at)
    .execution_options(synchronize_session=False)
)


def finish(session: Session, done: Sequence[Job]) -> None:
    """The jobs are gone, unless their lease has passed to another worker meanwhile."""
    for job in done:
        session.remove(JobRow, {"id": job.id, "lease_token": job.lease_token})


def retry(session: Session, job: Job, *, at: datetime, error: str, burns_attempt: bool = True) -> None:
    """The job is due again at `at`; without `burns_attempt` the try that failed does not count."""
    _change(
        session,
        job,
        next_at=at,
        error=error,
        attempt=job.attempt if burns_attempt else job.attempt - 1,
        lease_token=None,
    )


def bury(session: Session, job: Job, *, error: str) -> None:
    """The job stays visible as dead and is not tried again."""
    _change(session, job, state=DEAD, error=error, lease_token=None)


def _change(session: Session, job: Job, **values: Any) -> None:
    session.change(JobRow, {"id": job.id, "lease_token": job.lease_token}, values)


def every(session: Session, kind: str, *, now: datetime) -> None:
    """A timed job exists exactly once, due at once when it is new."""
    enqueue(session, kind, {}, now=now, once_key=kind)


def next_run(now: datetime, every_seconds: float) -> datetime:
    """When a timed job that ran at `now` is due again."""
    return now + timedelta(seconds=every_seconds)


def oldest(session: Session, kind: str) -> datetime | None:
    """When the oldest job of `kind` that is not done was made, whether it waits, is leased or is tried again."""
    return session.scalar(select(func.min(JobRow.created_at)).where(JobRow.kind == kind, IS_DUE))


@dataclass(frozen=True)
class Backlog:
    """How much of one kind waits, and since when."""

    kind: str
    due: int
    dead: int
    oldest_due_at: datetime | None


def backlog(session: Session, *, now: datetime) -> list[Backlog]:
    """One line a kind of job."""
    is_due = IS_DUE & (JobRow.next_at <= now)
    rows = session.execute(
        select(
            JobRow.kind,
            func.count().filter(is_due),
            func.count().filter(JobRow.state == DEAD),
            func.min(JobRow.next_at).filter(is_due),
        )
        .where(or_(is_due, JobRow.state == DEAD))
        .group_by(JobRow.kind)
    )
    return [Backlog(kind, due, dead, oldest) for kind, due, dead, oldest in rows]


@dataclass(frozen=True)
class DeadJob:
    """A job that was given up."""

    id: str
    kind: str
    attempt: int
    created_at: datetime
    error: str


def dead(session: Session, *, limit: int = 1000) -> list[DeadJob]:
    """The jobs that were given up, oldest first."""
    row = JobRow
    query = select(row.id, row.kind, row.attempt, row.created_at, func.coalesce(row.error, ""))
    return [DeadJob(*found) for found in session.execute(query.where(row.state == DEAD).order_by(row.id).limit(limit))]


def drop_dead(session: Session, job_id: str | None = None) -> int:
    """The dead job, or without an id each of them, is gone.

    Returns:
        How many there were.
    """
    gone = delete(JobRow).where(JobRow.state == DEAD)
    if job_id is not None:
        gone = gone.where(JobRow.id == job_id)
    return affected(session.execute(gone.execution_options(synchronize_session=False)))
