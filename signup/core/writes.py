"""Queued writes: rows that reach the database together, on PostgreSQL as one statement."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, Dialect, Table

# PostgreSQL counts parameters in 16 bits; staying far below leaves room for one more row.
MAX_PARAMETERS = 20_000


@dataclass
class Write:
    """Rows for one statement: an INSERT (with an optional conflict clause) or one UPDATE by key."""

    table: Table
    columns: tuple[str, ...]
    suffix: str
    key: tuple[str, ...] = ()  # the WHERE columns of an UPDATE; empty for an INSERT
    expressions: tuple[str, ...] = ()  # INSERT ... SELECT: the columns that SQL computes, named here
    source: str = ""  # INSERT ... SELECT: FROM and what follows
    rows: list[Sequence[Any]] = field(default_factory=list)

    @property
    def shape(self) -> tuple[object, ...]:
        return (self.table, self.columns, self.suffix, self.key, self.source)


def add(queue: list[Write], write: Write, values: Sequence[Any]) -> None:
    """`values` are queued, with the rows before them that differ in nothing but values."""
    if not write.key and not write.source:
        for earlier in queue:
            if earlier.shape == write.shape:
                earlier.rows.append(values)
                return
    write.rows.append(values)
    queue.append(write)


def execute(connection: Connection, queue: Sequence[Write]) -> None:
    """Everything in `queue` is written, in order."""
    dialect = connection.dialect
    if dialect.name == "sqlite":
        for write in queue:
            connection.exec_driver_sql(_sqlite_sql(write), [_bound(write, row, dialect) for row in write.rows])
        return
    for statement, parameters in _postgres_statements(queue, dialect):
        connection.exec_driver_sql(statement, tuple(parameters))


Processor = Callable[[Any], Any] | None
_processors: dict[tuple[str, str, str], Processor] = {}


def _bound(write: Write, row: Sequence[Any], dialect: Dialect) -> tuple[Any, ...]:
    names = (*write.columns, *write.key)
    bound = []
    for name, value in zip(names, row, strict=False):
        at = (dialect.name, write.table.name, name)
        if at not in _processors:
            _processors[at] = write.table.c[name].type.dialect_impl(dialect).bind_processor(dialect)
        process = _processors[at]
        bound.append(process(value) if process else value)
    return (*bound, *row[len(names) :])


def _sqlite_sql(write: Write) -> str:
    columns = ", ".join(f'"{name}"' for name in (*write.columns, *write.expressions))
    if write.source:
        marks = ", ".join("?" for _ in write.columns)
        return f'INSERT INTO "{write.table.name}" ({columns}) SELECT {marks}, {write.suffix} {write.source}'
    if write.key:
        assignments = ", ".join(f'"{name}" = ?' for name in write.columns)
        where = " AND ".join(f'"{name}" = ?' for name in write.key)
        return f'UPDATE "{write.table.name}" SET {assignments} WHERE {where}'
    marks = ", ".join("?" for _ in write.columns)
    return f'INSERT INTO "{write.table.name}" ({columns}) VALUES ({marks}) {write.suffix}'


def _postgres_statements(queue: Sequence[Write], dialect: Dialect) -> Iterator[tuple[str, list[Any]]]:
    """All queued writes as one statement, or a few when there are very many rows."""
    parts: list[str] = []
    parameters: list[Any] = []
    for write in queue:
        step = max(1, MAX_PARAMETERS // max(1, len(write.columns)))
        for start in range(0, len(write.rows), step):
            rows = write.rows[start : start + step]
            if parts and len(parameters) + len(rows) * len(write.columns) > MAX_PARAMETERS:
                yield _postgres_join(parts), parameters
                parts, parameters = [], []
            parts.append(_postgres_sql(write, len(rows), dialect))
            for row in rows:
                parameters.extend(_bound(write, row, dialect))
    yield _postgres_join(parts), parameters


def _postgres_join(parts: list[str]) -> str:
    if len(parts) == 1:
        return parts[0]
    named = ", ".join(f"w{number} AS ({part})" for number, part in enumerate(parts[:-1]))
    return f"WITH {named} {parts[-1]}"


def _postgres_sql(write: Write, rows: int, dialect: Dialect) -> str:
    columns = ", ".join(f'"{name}"' for name in (*write.columns, *write.expressions))
    casts = {name: f"%s::{_cast(write.table, name, dialect)}" for name in (*write.columns, *write.key)}
    if write.source:
        marks = ", ".join(casts[name] for name in write.columns)
        source = write.source.replace("?", "%s")
        return f'INSERT INTO "{write.table.name}" ({columns}) SELECT {marks}, {write.suffix} {source}'
    if write.key:
        assignments = ", ".join(f'"{name}" = {casts[name]}' for name in write.columns)
        where = " AND ".join(f'"{name}" = {casts[name]}' for name in write.key)
        return f'UPDATE "{write.table.name}" SET {assignments} WHERE {where}'
    one = "(" + ", ".join(casts[name] for name in write.columns) + ")"
    return f'INSERT INTO "{write.table.name}" ({columns}) VALUES {", ".join([one] * rows)} {write.suffix}'


_casts: dict[tuple[str, str], str] = {}


def _cast(table: Table, column: str, dialect: Dialect) -> str:
    at = (table.name, column)
    if at not in _casts:
        _casts[at] = table.c[column].type.dialect_impl(dialect).compile(dialect=dialect)
    return _casts[at]
