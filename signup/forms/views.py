"""How often a form was seen: one number an hour, nothing about who saw it."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

from flask import current_app
from sqlalchemy import delete, func, select

from signup.core.db import Session, affected, transaction
from signup.core.errors import Busy
from signup.forms.models import FormViews

# As far back as anybody may ask, and then some days.
KEEP = timedelta(days=420)
# How long one process keeps counts to itself: a page that a whole hall opens at once costs one write in this time.
HELD = timedelta(seconds=30)
WAIT_SECONDS = 0.2

_MORE = "ON CONFLICT (form_id, hour) DO UPDATE SET views = form_views.views + excluded.views"


class Hour(NamedTuple):
    """One number that is kept."""

    form_id: str
    hour: datetime
    controller_id: str


def hour_of(controller_id: str, form_id: str, *, now: datetime) -> Hour:
    return Hour(form_id, now.replace(minute=0, second=0, microsecond=0), controller_id)


class Tally:
    """The views that this process has counted and not written yet."""

    def __init__(self) -> None:
        self._waiting: Counter[Hour] = Counter()
        self._written_at: datetime | None = None
        self._lock = threading.Lock()

    def count(self, controller_id: str, form_id: str, *, now: datetime) -> Mapping[Hour, int]:
        """The form was seen once more.

        Returns:
            What is to be written now. Most of the time that is nothing.
        """
        with self._lock:
            self._waiting[hour_of(controller_id, form_id, now=now)] += 1
            if self._written_at is not None and abs(now - self._written_at) < HELD:
                return {}
            self._written_at = now
            due, self._waiting = self._waiting, Counter()
        return due

    def keep(self, counts: Mapping[Hour, int]) -> None:
        """What could not be written waits for the next time."""
        with self._lock:
            self._waiting.update(counts)


def tally() -> Tally:
    """The counts of this process, for the application at hand."""
    found: Tally = current_app.extensions.setdefault("signup.views", Tally())
    return found


def note(controller_id: str, form_id: str, *, now: datetime) -> None:
    """The form was seen once more in this hour; the number is written with others, and no page waits for it.

    Rule: GDPR 25(1), counting needs no identifier.
    """
    due = tally().count(controller_id, form_id, now=now)
    if not due:
        return
    try:
        with transaction(wait_seconds=WAIT_SECONDS) as session:
            save(session, due)
    except Busy:
        tally().keep(due)


def save(session: Session, counts: Mapping[Hour, int]) -> None:
    """The forms were seen so many times more. All write in the same order, so two cannot wait for each other."""
    for hour, number in sorted(counts.items()):
        session.put(FormViews, {**hour._asdict(), "views": number}, on_conflict=_MORE)


def total(session: Session, controller_id: str, form_id: str, *, since: datetime) -> int:
    """How often the form was seen in the hours from `since` on."""
    query = select(func.coalesce(func.sum(FormViews.views), 0)).where(
        FormViews.controller_id == controller_id, FormViews.form_id == form_id, FormViews.hour >= since
    )
    return int(session.execute(query).scalar_one())


def prune(session: Session, *, now: datetime) -> int:
    """Numbers that nobody may ask for any more are gone.

    Returns:
        How many hours.
    """
    old = delete(FormViews).where(FormViews.hour < now - KEEP)
    return affected(session.execute(old.execution_options(synchronize_session=False)))


def old(session: Session, *, now: datetime) -> int:
    """How many hours `prune` would take."""
    return session.scalar(select(func.count()).where(FormViews.hour < now - KEEP)) or 0
