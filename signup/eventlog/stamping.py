"""Stamping: somebody else puts the time on the newest checkpoint, so that nobody can date the log back."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select

from signup.core.config import Config
from signup.core.db import Session, database, reading, transaction
from signup.core.evidence import TsaConfig
from signup.eventlog import health, send, tokens
from signup.eventlog.health import Part
from signup.eventlog.models import Checkpoint, LogTimestamp
from signup.eventlog.send import Unstamped
from signup.eventlog.tokens import Stamp
from signup.jobs import Job

JOB_STAMP = "evidence.stamp"
EVERY_SECONDS = 60
# Longer than an authority may take.
LEASE_SECONDS = 60
# So long before its certificate ends, the newest checkpoint is stamped again.
RENEW_BEFORE = timedelta(days=30)
# The authority may go on with its old certificate though the next one is pinned already.
RENEW_PAUSE = timedelta(days=1)

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Owed:
    """A checkpoint that is to be stamped.

    Args:
        number: how many time stamps it has already.
    """

    size: int
    note: str
    number: int


def run(_leased: Sequence[Job], clock: Callable[[], datetime]) -> None:
    """The newest checkpoint has its time stamp; without one it stays signed, and the next run asks again."""
    config = database().config
    tsa = config.evidence.tsa
    if tsa is None or not tsa.url:
        return
    with reading() as session:
        asked = owed(session, tsa, now=clock())
    if asked is None:
        return
    try:
        stamp = send.stamp(config, asked.note.encode())
    except Unstamped as failure:
        log.warning("a checkpoint was not stamped", extra={"size": asked.size, "error": str(failure)})
        with transaction() as session:
            health.note(session, Part.STAMP, str(failure), size=asked.size, now=clock())
        return
    with transaction() as session:
        keep(session, asked, stamp)
        health.note(session, Part.STAMP, None, size=asked.size, now=clock())


def owed(session: Session, tsa: TsaConfig, *, now: datetime) -> Owed | None:
    """The newest checkpoint, when it has no time stamp or one that wears out; None when there is nothing to do.

    Each checkpoint covers all before it, so older ones without a time stamp need none. A later batch names every
    token, so a new token keeps the proof of those whose certificates have ended.
    """
    newest = session.execute(select(Checkpoint.size, Checkpoint.note).order_by(Checkpoint.size.desc()).limit(1)).first()
    if newest is None:
        return None
    query = select(LogTimestamp.good_until, LogTimestamp.stamped_at).where(LogTimestamp.size == newest.size)
    held = session.execute(query.order_by(LogTimestamp.number)).all()
    if held and not _wears_out(max(row.good_until for row in held), held[-1].stamped_at, tsa, now=now):
        return None
    return Owed(newest.size, newest.note, len(held))


def _wears_out(good_until: datetime, stamped_at: datetime, tsa: TsaConfig, *, now: datetime) -> bool:
    """Whether it is time to stamp again; with the same certificate a token would last no longer."""
    lasts = max(item.not_valid_after_utc for item in tsa.certificates)
    return good_until - now <= RENEW_BEFORE and lasts > good_until and now - stamped_at > RENEW_PAUSE


def keep(session: Session, asked: Owed, stamp: Stamp) -> None:
    """The token is with its checkpoint; the next batch of the log will name it."""
    session.put(
        LogTimestamp,
        {
            "size": asked.size,
            "number": asked.number,
            "token": stamp.raw,
            "authority": stamp.authority,
            "stamped_at": stamp.stamped_at,
            "good_until": stamp.good_until,
            "linked": False,
        },
        # Another worker was quicker, whose token is as good.
        on_conflict="ON CONFLICT (size, number) DO NOTHING",
    )


def anchors(config: Config) -> list[dict[str, str]]:
    """The pinned certificates: `sha256`, `subject` and `not_after` of each."""
    return tokens.anchors(config.evidence.tsa)
