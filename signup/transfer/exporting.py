"""Subscriptions as CSV or JSON lines: page by page, in flat memory, as an act that is on record."""

from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from msgspec import Raw
from msgspec.json import Encoder

from signup.core.db import Session
from signup.core.values import Actor
from signup.eventlog.kinds import EventType
from signup.eventlog.record import publish, record
from signup.subscriptions import listing
from signup.subscriptions.listing import STATUSES, Line

# A page takes some milliseconds and about a megabyte. Each has its own short read, so that a slow client
# holds no transaction open: a long one keeps SQLite from checkpointing and PostgreSQL from vacuuming.
PAGE_ROWS = 1000

COLUMNS = Line._fields

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
        for rows in _pages(database, order, page_rows):
            chunk = header + (_csv(map(cells, rows)) if order.form == "csv" else _lines(rows))
            header = b""
            tally.add(chunk, len(rows))
            if chunk:
                yield chunk
        tally.complete = True
    finally:
        with database.transaction(wait_seconds=30) as session:
            tell(session, order, tally, now=clock())


def _pages(database: Database, order: Order, page_rows: int) -> Iterator[list[Line]]:
    """Page after page, at least one; the next is read while the last is written and sent."""
    status = STATUSES[order.status] if order.status else None

    def read(after: str) -> list[Line]:
        with database.reading() as session:
            return listing.lines(session, order.controller_id, after=after, limit=page_rows, status=status)

    with ThreadPoolExecutor(1, thread_name_prefix="export") as reader:
        coming: Future[list[Line]] | None = reader.submit(read, "")
        while coming:
            rows = coming.result()
            coming = reader.submit(read, rows[-1].subscription_id) if len(rows) == page_rows else None
            yield rows


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


def cells(line: Line) -> list[str | None]:
    """A line as text: purposes separated by spaces, the origin as JSON, nothing that a spreadsheet would run.

    Of all columns only the address holds what somebody typed as it is.
    """
    return [*line[:2], safe_cell(line.email or ""), *line[3:6], " ".join(line.purposes), *line[7:]]


def safe_cell(text: str) -> str:
    """`text`, with an apostrophe in front when a spreadsheet would take it for a formula."""
    return "'" + text if text.startswith(_FORMULA) else text


def _csv(rows: Iterable[Sequence[str | None]]) -> bytes:
    # Every cell is quoted: a separator inside a cell must not start a new one with a formula in it.
    text = io.StringIO()
    csv.writer(text, quoting=csv.QUOTE_ALL, lineterminator="\r\n").writerows(rows)
    return text.getvalue().encode()


def _lines(rows: Sequence[Line]) -> bytes:
    return b"".join(
        _ENCODER.encode({**row._asdict(), "origin": Raw(row.origin.encode()), "fields": Raw(row.fields.encode())})
        + b"\n"
        for row in rows
    )


_ENCODER = Encoder()
