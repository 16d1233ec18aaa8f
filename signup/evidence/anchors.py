"""What a stranger has to hold, from us or from somebody else, to check a bundle without us."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from msgspec import Struct
from sqlalchemy import Row, select

from signup.core.db import Session
from signup.core.values import rfc3339
from signup.eventlog import sealing, stamping
from signup.eventlog.models import LogKey
from signup.eventlog.notes import Verifier

FORMAT = "doi.anchors/1"


class LogKeyShown(Struct):
    """A key, and the checkpoints that it signs: those over more than `first_size` leaves, up to `last_size`.

    Another name ends nothing: a restored database goes on under one, and what was signed before stays good.
    """

    vkey: str
    first_size: int
    last_size: int | None
    valid_from: str
    valid_until: str | None


class Anchors(Struct):
    v: str
    origin: str
    keys: list[LogKeyShown]
    timestamp_authorities: list[dict[str, str]]
    checkpoint: str | None
    made_at: str


def published(session: Session, *, now: datetime) -> Anchors:
    """The keys of the log with the checkpoints each one signs, and the newest checkpoint.

    Rule: C2SP tlog-checkpoint; whoever keeps a checkpoint can show later that the log dropped nothing since.
    """
    rows = session.execute(
        select(LogKey.first_size, LogKey.name, LogKey.public_key, LogKey.created_at).order_by(LogKey.first_size)
    ).all()
    keys = [
        LogKeyShown(
            vkey=Verifier(row.name, bytes(row.public_key)).vkey,
            first_size=row.first_size,
            last_size=following.first_size if following else None,
            valid_from=rfc3339(row.created_at),
            valid_until=rfc3339(following.created_at) if following else None,
        )
        for row, following in ((row, _next(row, rows)) for row in rows)
    ]
    last = sealing.newest(session)
    origin = rows[-1].name if rows else sealing.origin_of(session.config)
    return Anchors(FORMAT, origin, keys, stamping.anchors(session.config), last.note if last else None, rfc3339(now))


_Key = Row[int, str, bytes, datetime]


def _next(key: _Key, keys: Sequence[_Key]) -> _Key | None:
    """The key that took over under the same name."""
    return next((item for item in keys if item.name == key.name and item.first_size > key.first_size), None)
