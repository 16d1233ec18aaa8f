"""How the log is: what its sealing, stamping and audit found last, for alarms and metrics."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from sqlalchemy import func, literal, select

from signup.core.db import Session, upsert
from signup.eventlog.models import Checkpoint, Event, LogHealth, LogTimestamp

MAX_REASON_CHARACTERS = 300
# A backlog beyond this is one number for the operator: far too many.
MOST_COUNTED = 100_000


class Part(Enum):
    SEAL = "seal"
    STAMP = "stamp"
    AUDIT = "audit"


@dataclass(frozen=True)
class Health:
    """What one part found last.

    Args:
        trouble: None when all was well.
        since: when the trouble was first found.
        size: over how many leaves it looked.
    """

    checked_at: datetime
    trouble: str | None
    since: datetime | None
    size: int


def note(session: Session, part: Part, trouble: str | None, *, size: int, now: datetime) -> None:
    """What this part found now is on record; trouble keeps the time when it began."""
    before = of(session).get(part)
    since = (before.since if before and before.since else now) if trouble else None
    words = trouble[:MAX_REASON_CHARACTERS] if trouble else None
    row = {"part": part.value, "checked_at": now, "trouble": words, "since": since, "size": size}
    update = {key: value for key, value in row.items() if key != "part"}
    session.execute(upsert(session, LogHealth, row, on=["part"], update=update))


def of(session: Session) -> dict[Part, Health]:
    """What each part found last; a part that never ran is missing."""
    rows = session.execute(
        select(LogHealth.part, LogHealth.checked_at, LogHealth.trouble, LogHealth.since, LogHealth.size)
    )
    return {Part(row.part): Health(row.checked_at, row.trouble, row.since, row.size) for row in rows}


@dataclass(frozen=True)
class Figures:
    """How far the log has come.

    Args:
        unsealed: events without a place, counted to a bound.
        unstamped_since: when the oldest checkpoint was made that no time stamp covers yet.
    """

    size: int
    unsealed: int
    unsealed_since: datetime | None
    sealed_at: datetime | None
    stamped_at: datetime | None
    unstamped_since: datetime | None
    parts: dict[Part, Health]


def figures(session: Session) -> Figures:
    """How far sealing and stamping have come, and what was found."""
    waiting = select(literal(1)).where(Event.leaf_index.is_(None)).limit(MOST_COUNTED).subquery()
    unsealed_since = select(Event.occurred_at).where(Event.leaf_index.is_(None)).order_by(Event.occurred_at).limit(1)
    newest = select(Checkpoint.size, Checkpoint.created_at).order_by(Checkpoint.size.desc()).limit(1)
    last = session.execute(newest).first()
    newest_stamp = select(LogTimestamp.stamped_at).order_by(LogTimestamp.size.desc(), LogTimestamp.number.desc())
    return Figures(
        size=last.size if last else 0,
        unsealed=session.scalar(select(func.count()).select_from(waiting)) or 0,
        unsealed_since=session.scalar(unsealed_since),
        sealed_at=last.created_at if last else None,
        stamped_at=session.scalar(newest_stamp.limit(1)),
        unstamped_since=unstamped_since(session, stamped_size(session)),
        parts=of(session),
    )


def stamped_size(session: Session) -> int:
    """How many leaves the newest checkpoint with a time stamp is over."""
    return session.scalar(select(func.max(LogTimestamp.size))) or 0


def unstamped_since(session: Session, stamped_size: int) -> datetime | None:
    """When the first checkpoint behind the newest one with a time stamp was made."""
    behind = select(Checkpoint.created_at).where(Checkpoint.size > stamped_size)
    return session.scalar(behind.order_by(Checkpoint.size).limit(1))
