"""Counts of whole tables, made beside the requests: nobody waits for a million rows to be counted."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import InstrumentedAttribute

from signup.core.db import Database, Session
from signup.core.errors import Busy
from signup.intake.models import InboundReport
from signup.mail.models import Message
from signup.subscriptions.models import Subscription
from signup.webhooks.models import Delivery, Endpoint

# A count that takes less is made anew for each who asks, and waited for.
INSTANT_SECONDS = 0.02
# Counting a million rows takes some tenths of a second on PostgreSQL and seconds on SQLite; each process spends a
# hundredth of its time on it at most.
REST_PER_COUNT = 100

COUNTED: dict[str, InstrumentedAttribute[Any]] = {
    "deliveries": Delivery.state,
    "messages": Message.state,
    "subscriptions": Subscription.status,
    "endpoints": Endpoint.state,
    "reports": InboundReport.kind,
}
Counts = dict[str, dict[str, int]]

log = logging.getLogger(__name__)


@dataclass
class _Kept:
    """What this process counted last, and who counts now."""

    counts: Counts
    fresh_until: float = 0.0
    counting: threading.Thread | None = None


_KEY = ("totals",)
_lock = threading.Lock()


def totals(database: Database) -> Counts:
    """Rows by state, a line per table of `COUNTED`; a table that is still being counted for the first time has none."""
    with _lock:
        kept: _Kept = database.memory.setdefault(_KEY, _Kept(counts={}))
        if kept.counting is None and time.monotonic() >= kept.fresh_until:
            kept.counting = threading.Thread(target=_count_all, args=(database, kept), name="totals", daemon=True)
            kept.counting.start()
        counting = kept.counting
    if counting:
        counting.join(INSTANT_SECONDS)
    return {name: kept.counts.get(name, {}) for name in COUNTED}


def _count_all(database: Database, kept: _Kept) -> None:
    started = time.monotonic()
    try:
        for name, column in COUNTED.items():
            with database.reading() as session:
                kept.counts[name] = _count(session, column)
    except Busy:
        log.warning("totals could not be counted, the database is busy")
    finally:
        took = time.monotonic() - started
        kept.fresh_until = started + took * REST_PER_COUNT if took > INSTANT_SECONDS else 0.0
        kept.counting = None


def _count(session: Session, column: InstrumentedAttribute[Any]) -> dict[str, int]:
    return {state.value: count for state, count in session.execute(select(column, func.count()).group_by(column))}
