"""How many sign-ups an hour a form, a controller or a recipient domain has.

Each would be one hot row that all sign-ups wait for. So each process counts for itself and adds to the row, in the
commit of one of its sign-ups, at most once a second: what is decided here is right to about a second.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from flask import current_app
from sqlalchemy import select

from signup.abuse import domains
from signup.abuse.models import Flow
from signup.core.db import Claim, Session, claim_of

HOUR_SECONDS = 3600
# How long one process keeps a count for itself.
SYNC_SECONDS = 1.0
# What is above so many times an ordinary hour is none.
UNUSUAL = 5
# A controller has several forms.
CONTROLLER_FORMS = 20
# Of one recipient domain: a little more than of one form, and ten times that where millions have their mailbox.
DOMAIN_FORMS, FREEMAIL_FORMS = 1.2, 12
# One fair, one poster.
SOURCE_PER_HOUR = 2000
LEARNED_DAYS = 28
MAX_ENTRIES = 10_000


class Stream(NamedTuple):
    """What is counted by the hour, and how many are ordinary however few there were before."""

    name: str
    floor: int
    learns: bool = False


class Due(NamedTuple):
    """A count that goes into the database with the current commit."""

    stream: Stream
    hour: int
    number: int


def form_stream(form_id: str, per_hour: int) -> Stream:
    return Stream(f"form|{form_id}", per_hour, learns=True)


def source_stream(form_id: str, source: str) -> Stream:
    return Stream(f"source|{form_id}|{source}", SOURCE_PER_HOUR)


def controller_stream(controller_id: str, per_hour: int) -> Stream:
    return Stream(f"controller|{controller_id}", per_hour * CONTROLLER_FORMS, learns=True)


def domain_stream(controller_id: str, domain: str, per_hour: int) -> Stream:
    forms = FREEMAIL_FORMS if domain in domains.FREEMAIL else DOMAIN_FORMS
    return Stream(f"domain|{controller_id}|{domain}", int(per_hour * forms))


@dataclass
class _Entry:
    hour: int
    pending: int = 0  # counted here, not yet in the database
    total: int = 0  # of this hour, when the database was last asked
    before: int = 0  # of the hour before
    usual: int = 0
    synced_at: float | None = None


class Tally:
    """The counts of one process."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}
        self._lock = threading.Lock()

    def count(self, streams: Sequence[Stream], *, now: datetime) -> list[Due]:
        """One more of each is counted.

        Returns:
            What is to be added to the database now: not the first, which for most domains stays the only one, and
            then what came together since the last time.
        """
        moment, due = now.timestamp(), []
        with self._lock:
            for stream in streams:
                entry = self._entry(stream.name, int(moment // HOUR_SECONDS))
                entry.pending += 1
                late = entry.synced_at is not None and abs(moment - entry.synced_at) >= SYNC_SECONDS
                if late or (entry.synced_at is None and entry.pending > 1):
                    entry.synced_at = moment
                    due.append(Due(stream, entry.hour, entry.pending))
        return due

    def _entry(self, name: str, hour: int) -> _Entry:
        entry = self._entries.get(name)
        if entry is None:
            if len(self._entries) >= MAX_ENTRIES:
                self._entries = {key: kept for key, kept in self._entries.items() if kept.hour == hour}
            if len(self._entries) >= MAX_ENTRIES:
                self._entries.clear()
            entry = self._entries[name] = _Entry(hour)
        elif entry.hour != hour:
            before = entry.total + entry.pending if entry.hour == hour - 1 else 0
            entry = self._entries[name] = _Entry(hour, before=before, usual=entry.usual, synced_at=entry.synced_at)
        return entry

    def uncount(self, streams: Sequence[Stream]) -> None:
        """What was counted last does not count after all."""
        with self._lock:
            for stream in streams:
                entry = self._entries.get(stream.name)
                if entry is not None and entry.pending:
                    entry.pending -= 1

    def settle(self, due: Sequence[Due], found: Sequence[tuple[int, int]]) -> None:
        """The database has these counts, and says what it has in all."""
        with self._lock:
            for (stream, hour, number), (total, usual) in zip(due, found, strict=True):
                entry = self._entries.get(stream.name)
                if entry is not None and entry.hour == hour:
                    entry.pending = max(0, entry.pending - number)
                    entry.total, entry.usual = total, usual

    def is_over(self, stream: Stream, *, now: datetime) -> bool:
        """Whether the hour that ends now has more than an ordinary one."""
        moment = now.timestamp()
        with self._lock:
            entry = self._entry(stream.name, int(moment // HOUR_SECONDS))
            return over(stream, entry.total + entry.pending, entry.before, entry.usual, now=now)


def over(stream: Stream, count: int, before: int, usual: int, *, now: datetime) -> bool:
    """Whether `count` in this hour and `before` in the last one make more than an ordinary hour up to now."""
    left = 1 - now.timestamp() % HOUR_SECONDS / HOUR_SECONDS
    return count + before * left > max(stream.floor, UNUSUAL * usual)


def tally() -> Tally:
    """The counts of this process, for the application at hand."""
    found: Tally = current_app.extensions.setdefault("signup.flows", Tally())
    return found


def hour_of(now: datetime) -> int:
    return int(now.timestamp() // HOUR_SECONDS)


def key_of(session: Session, stream: Stream) -> bytes:
    """Under which the database knows it: a domain may be one family's."""
    return session.keys.keyed_hash("flow", stream.name)


def claims(session: Session, due: Sequence[Due]) -> list[Claim]:
    """The claims that add what is due, each returning what there is then. Everybody claims in the same order."""
    return [
        claim_of(
            Flow,
            {
                "key": key_of(session, item.stream),
                "hour": item.hour,
                "count": item.number,
                "usual": 0,
                "expires_at": expiry(item.hour, learns=item.stream.learns),
            },
            on=["key", "hour"],
            update="count = flow.count + excluded.count",
            returning=["count", "usual"],
        )
        for item in due
    ]


def keep(session: Session, due: Sequence[Due]) -> None:
    """What a refused press would have taken along is in the database all the same: each process knows of it."""
    tally().settle(due, session.claim(claims(session, due)))


@dataclass(frozen=True)
class Flood:
    """More sign-ups in an hour than are ordinary."""

    count: int
    ordinary: int


def floods(session: Session, per_hour: int, *, now: datetime) -> dict[bytes, Flood]:
    """The streams that learn and have more than an ordinary hour, by what all processes together see.

    Args:
        per_hour: what is ordinary for any of them; one that may have more is told too when it has more than usual.
    """
    hour = hour_of(now)
    # Found by their time, because that has an index. One of the two hours has more than half.
    times = [expiry(at, learns=True) for at in (hour, hour - 1)]
    busy = session.scalars(select(Flow.key).where(Flow.expires_at.in_(times), 2 * Flow.count > per_hour)).all()
    query = select(Flow.key, Flow.hour, Flow.count, Flow.usual).where(
        Flow.key.in_(set(busy)), Flow.hour.in_([hour, hour - 1])
    )
    found: dict[bytes, dict[int, tuple[int, int]]] = {}
    for key, at, count, usual in session.execute(query) if busy else ():
        found.setdefault(key, {})[at] = count, usual
    flooded = {}
    for key, hours in found.items():
        (count, usual), (before, usual_before) = hours.get(hour, (0, 0)), hours.get(hour - 1, (0, 0))
        stream, ordinary = Stream("", per_hour), max(usual, usual_before)
        if over(stream, count, before, ordinary, now=now):
            flooded[key] = Flood(count + before, max(per_hour, UNUSUAL * ordinary))
    return flooded


def expiry(hour: int, *, learns: bool) -> datetime:
    end = datetime.fromtimestamp((hour + 2) * HOUR_SECONDS, UTC)
    return end + timedelta(days=LEARNED_DAYS) if learns else end


def is_over_for_all(session: Session, stream: Stream, *, now: datetime) -> bool:
    """Whether all processes together see more than an ordinary hour; asks the database."""
    hour = hour_of(now)
    query = select(Flow.hour, Flow.count, Flow.usual).where(
        Flow.key == key_of(session, stream), Flow.hour.in_([hour, hour - 1])
    )
    found = {at: (number, ordinary) for at, number, ordinary in session.execute(query)}
    count, usual = found.get(hour, (0, 0))
    before, usual_before = found.get(hour - 1, (0, 0))
    return over(stream, count, before, max(usual, usual_before), now=now)
