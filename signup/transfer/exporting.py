"""Subscriptions as CSV or JSON lines: page by page, in flat memory, as an act that is on record."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from signup.core.db import Session
from signup.core.values import Actor, rfc3339
from signup.eventlog.kinds import EventType
from signup.eventlog.record import publish, record
from signup.subscriptions import listing
from signup.subscriptions.listing import STATUSES, Row

# A page takes some milliseconds and about a megabyte. Each has its own short read, so that a slow client
# holds no transaction open: a long one keeps SQLite from checkpointing and PostgreSQL from vacuuming.
PAGE_ROWS = 1000

COLUMNS = (
    "subscription_id",
    "contact_id",
    "email",
    "status",
    "ground",
    "end_reason",
    "purposes",
    "requested_at",
    "confirmed_at",
    "ended_at",
    "origin",
    "legal_basis",
    "proof_url",
    "list_unsubscribe",
    "list_unsubscribe_post",
)

MEDIA = {"csv": "text/csv; charset=utf-8", "jsonl": "application/jsonl"}

# A spreadsheet takes a cell that starts like this for a formula (OWASP, CSV injection).
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")


class Database(Protocol):
    """The two ways to use the database; handed in, so that this file opens nothing by itself."""

    def reading(self) -> AbstractContextManager[Session]: ...

    def transaction(self, wait_seconds: float) -> AbstractContextManager[Session]: ...


@dataclass(frozen=True)
class Order:
    """What is exported, for whom, how."""

    controller_id: str
    actor: Actor
    form: str  # csv or jsonl
    status: str | None = None


def page(session: Session, order: Order, *, after: str, limit: int = PAGE_ROWS) -> list[Row]:
    """The next rows after the subscription id `after`."""
    status = STATUSES[order.status] if order.status else None
    return listing.page(session, order.controller_id, after=after, limit=limit, status=status)


def stream(
    database: Database, order: Order, *, clock: Callable[[], datetime], page_rows: int = PAGE_ROWS
) -> Iterator[bytes]:
    """The export in chunks of one page; at its end, also at an early one, it is on record and told to endpoints.

    The pages are one after the other in time: what changes meanwhile is in or not, but no row comes twice.

    Rule: GDPR 5(2) and 32: who took which data out, and how much.
    """
    tally = _Tally()
    try:
        header = _csv([COLUMNS]) if order.form == "csv" else b""
        after, more = "", True
        while more:
            with database.reading() as session:
                rows = page(session, order, after=after, limit=page_rows)
            chunk = header + (_csv([cells(row) for row in rows]) if order.form == "csv" else _lines(rows))
            header = b""
            more = len(rows) == page_rows
            after = rows[-1].id if rows else after
            tally.add(chunk, len(rows))
            if chunk:
                yield chunk
        tally.complete = True
    finally:
        with database.transaction(wait_seconds=30) as session:
            tell(session, order, tally, now=clock())


class _Tally:
    def __init__(self) -> None:
        self.rows = 0
        self.complete = False
        self._digest = hashlib.sha256()

    def add(self, chunk: bytes, rows: int) -> None:
        self._digest.update(chunk)
        self.rows += rows

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()


def tell(session: Session, order: Order, tally: _Tally, *, now: datetime) -> None:
    """The export is on record with its filter, rows and hash, and endpoints hear of it."""
    facts: dict[str, Any] = {
        "filter": {"format": order.form, "status": order.status or "any"},
        "rows": tally.rows,
        "file_sha256": tally.sha256,
        "reason": None if tally.complete else "stopped early",
    }
    event_id = record(session, order.controller_id, EventType.EXPORT_COMPLETED, facts, now=now, actor=order.actor)
    data = {"export": {**facts, "complete": tally.complete}}
    publish(session, order.controller_id, "export.completed", data, now=now, event_id=event_id)


def values(row: Row) -> dict[str, Any]:
    """A row by its columns. An address that nobody confirmed stays here: it may not be written to."""
    return {
        "subscription_id": row.id,
        "contact_id": row.contact_id,
        "email": row.email if row.is_confirmed_address else None,
        "status": row.status.value,
        "ground": row.ground.value if row.ground else None,
        "end_reason": row.end_reason,
        "purposes": row.purposes,
        "requested_at": rfc3339(row.requested_at),
        "confirmed_at": rfc3339(row.confirmed_at) if row.confirmed_at else None,
        "ended_at": rfc3339(row.ended_at) if row.ended_at else None,
        "origin": row.origin,
        "legal_basis": row.legal_basis,
        "proof_url": row.proof_url,
        "list_unsubscribe": row.list_unsubscribe,
        "list_unsubscribe_post": row.list_unsubscribe_post,
    }


def cells(row: Row) -> list[str]:
    """A row as text: purposes separated by spaces, the origin as JSON, nothing that a spreadsheet would run."""
    made = values(row)
    made["purposes"] = " ".join(row.purposes)
    made["origin"] = json.dumps(row.origin, ensure_ascii=False, separators=(",", ":"))
    return [safe_cell("" if made[name] is None else str(made[name])) for name in COLUMNS]


def safe_cell(text: str) -> str:
    """`text`, with an apostrophe in front when a spreadsheet would take it for a formula."""
    return "'" + text if text.startswith(_FORMULA) else text


def _csv(rows: Sequence[Sequence[str]]) -> bytes:
    # Every cell is quoted: a separator inside a cell must not start a new one with a formula in it.
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\r\n").writerows(rows)
    return text.getvalue().encode()


def _lines(rows: Sequence[Row]) -> bytes:
    made = (json.dumps(values(row), ensure_ascii=False, separators=(",", ":")) for row in rows)
    return "".join(f"{line}\n" for line in made).encode()
