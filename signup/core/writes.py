"""Queued writes and claimed rows: many rows reach the database together, on PostgreSQL as one statement."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from typing import Any, NamedTuple

from sqlalchemy import Connection, Table

from signup.core import driver
from signup.core.columns import Convert, bound, converted, loaded

# Spells the next parameter of a statement, for the column with that name; "" for one that stands in a condition.
Mark = Callable[[str], str]

# PostgreSQL counts parameters in 16 bits; staying far below leaves room for one more row.
MAX_PARAMETERS = 20_000


class Shape(NamedTuple):
    """All of a write but its values: an INSERT with an optional conflict clause, an UPDATE or a DELETE by key."""

    table: Table
    columns: tuple[str, ...]
    suffix: str = ""
    key: tuple[str, ...] = ()  # the WHERE columns of an UPDATE or DELETE; empty for an INSERT
    expressions: tuple[str, ...] = ()  # INSERT ... SELECT: the columns that SQL computes, named here
    source: str = ""  # INSERT ... SELECT: FROM and what follows

    @property
    def names(self) -> tuple[str, ...]:
        return (*self.columns, *self.key)


@dataclass
class Write:
    """Rows of one shape."""

    shape: Shape
    rows: list[Sequence[Any]] = field(default_factory=list)


def add(queue: list[Write], shape: Shape, values: Sequence[Any]) -> None:
    """`values` are queued, with the rows before them that differ in nothing but values."""
    if not shape.source:
        for earlier in queue:
            if earlier.shape == shape:
                earlier.rows.append(values)
                return
    queue.append(Write(shape, [values]))


class ClaimShape(NamedTuple):
    """All of a claim but its values.

    Args:
        on: the columns of the unique key.
        update: the SQL after DO UPDATE SET, which also is what locks a row that was there.
        returning: the columns asked for, of the row as it stands then.
    """

    table: Table
    columns: tuple[str, ...]
    on: tuple[str, ...]
    update: str
    returning: tuple[str, ...]

    def sql(self, mark: Mark, *, after: str = "") -> str:
        """The statement; with `after` it cannot run before that part has."""
        names = ", ".join(f'"{name}"' for name in self.columns)
        marks = ", ".join(mark(name) for name in self.columns)
        rows = f"SELECT {marks} FROM {after}" if after else f"VALUES ({marks})"
        returning = ", ".join(f'"{name}"' for name in self.returning)
        return (
            f'INSERT INTO "{self.table.name}" ({names}) {rows} '
            f"ON CONFLICT ({', '.join(self.on)}) DO UPDATE SET {self.update} RETURNING {returning}"
        )


@dataclass(frozen=True)
class Claim:
    """A row that is to exist and to be ours until the commit, whoever wrote it first."""

    shape: ClaimShape
    values: Sequence[Any]


def execute(connection: Connection, queue: Sequence[Write]) -> None:
    """Everything in `queue` is written, in order."""
    dialect = connection.dialect
    if dialect.name == "sqlite":
        for write in queue:
            sql, converts = _sqlite(write.shape)
            driver.run_many(connection, sql, [converted(converts, row) for row in write.rows])
        return
    for statement, parameters in _postgres_statements(queue):
        driver.run(connection, statement, parameters)


def claim(connection: Connection, claims: Sequence[Claim]) -> list[Any]:
    """The claimed rows are ours, in the order given: one tuple a claim with its `returning` columns."""
    sqlite = connection.dialect.name == "sqlite"
    answer = iter((_claim_sqlite if sqlite else _claim_postgres)(connection, claims))
    return [tuple(converted(loads, islice(answer, len(loads)))) for loads in (_loads(one.shape) for one in claims)]


@lru_cache(maxsize=64)
def _loads(shape: ClaimShape) -> tuple[Convert, ...]:
    return tuple(loaded(shape.table.c[name].type) for name in shape.returning)


def _claim_sqlite(connection: Connection, claims: Sequence[Claim]) -> list[Any]:
    answer: list[Any] = []
    for one in claims:
        sql, converts = _sqlite_claim(one.shape)
        answer += driver.run(connection, sql, converted(converts, one.values))[0]
    return answer


def _claim_postgres(connection: Connection, claims: Sequence[Claim]) -> list[Any]:
    statement, converts = _postgres_claims(tuple(one.shape for one in claims))
    values = [value for one in claims for value in one.values]
    return list(driver.run(connection, statement, converted(converts, values))[0])


def _converts(shape: Shape, dialect: str, more: int = 0) -> tuple[Convert, ...]:
    return (*(bound(shape.table.c[name].type, dialect) for name in shape.names), *(None,) * more)


@lru_cache(maxsize=512)
def _sqlite(shape: Shape) -> tuple[str, tuple[Convert, ...]]:
    return _sql(shape, 1, lambda _name: "?"), _converts(shape, "sqlite", shape.source.count("?"))


@lru_cache(maxsize=64)
def _sqlite_claim(shape: ClaimShape) -> tuple[str, tuple[Convert, ...]]:
    return shape.sql(lambda _name: "?"), tuple(bound(shape.table.c[name].type, "sqlite") for name in shape.columns)


def _sql(shape: Shape, rows: int, mark: Mark) -> str:
    """The statement of a shape; `mark` spells the next parameter, for the column with that name."""
    table, columns = shape.table.name, ", ".join(f'"{name}"' for name in (*shape.columns, *shape.expressions))
    if shape.source:
        marks = ", ".join(mark(name) for name in shape.columns)
        return f'INSERT INTO "{table}" ({columns}) SELECT {marks}, {shape.suffix} {_numbered(shape.source, mark)}'
    if shape.key:
        return _keyed_sql(shape, rows, mark)
    values = ", ".join("(" + ", ".join(mark(name) for name in shape.columns) + ")" for _ in range(rows))
    return f'INSERT INTO "{table}" ({columns}) VALUES {values} {shape.suffix}'


def _keyed_sql(shape: Shape, rows: int, mark: Mark) -> str:
    """An UPDATE or DELETE of one row, or of many: then their values stand in a list to join with."""
    table, single = shape.table.name, rows == 1
    spelled = [mark(name) for _ in range(rows) for name in shape.names]
    given = spelled if single else [f"v.c{number}" for number in range(len(shape.names))]
    width = len(shape.columns)
    assignments = ", ".join(f'"{name}" = {value}' for name, value in zip(shape.columns, given, strict=False))
    where = " AND ".join(f'"{table}"."{name}" = {value}' for name, value in zip(shape.key, given[width:], strict=True))
    joined = ""
    if not single:
        parts = (spelled[start : start + len(shape.names)] for start in range(0, len(spelled), len(shape.names)))
        listed = ", ".join(f"({', '.join(part)})" for part in parts)
        names = ", ".join(f"c{number}" for number in range(len(shape.names)))
        joined = f" {'FROM' if width else 'USING'} (VALUES {listed}) AS v({names})"
    if not width:
        return f'DELETE FROM "{table}"{joined} WHERE {where}'
    return f'UPDATE "{table}" SET {assignments}{joined} WHERE {where}'


class _Marks:
    """`$1::text`, `$2::bigint` and so on, over all parts of one statement."""

    def __init__(self) -> None:
        self.count = 0

    def of(self, table: Table) -> Mark:
        def mark(name: str) -> str:
            return f"{self.next()}::{_cast(table, name)}" if name else self.next()

        return mark

    def next(self, _name: str = "") -> str:
        self.count += 1
        return f"${self.count}"


@lru_cache(maxsize=512)
def _cast(table: Table, column: str) -> str:
    kind = table.c[column].type.dialect_impl(driver.POSTGRESQL).compile(dialect=driver.POSTGRESQL)
    # With its length the cast would cut a text that is too long; without, the column refuses it.
    return kind.partition("(")[0] if kind.startswith("VARCHAR") else kind


Plan = tuple[tuple[Shape, int], ...]


def _postgres_statements(queue: Sequence[Write]) -> Iterator[tuple[str, list[Any]]]:
    """All queued writes as one statement, or a few when there are very many rows."""
    plan: list[tuple[Shape, int]] = []
    parameters: list[Any] = []
    for write in queue:
        converts = _postgres_converts(write.shape)
        step = max(1, MAX_PARAMETERS // len(converts))
        for start in range(0, len(write.rows), step):
            rows = write.rows[start : start + step]
            if plan and len(parameters) + len(rows) * len(converts) > MAX_PARAMETERS:
                yield _postgres_sql(tuple(plan)), parameters
                plan, parameters = [], []
            plan.append((write.shape, len(rows)))
            for row in rows:
                parameters += converted(converts, row)
    yield _postgres_sql(tuple(plan)), parameters


@lru_cache(maxsize=512)
def _postgres_converts(shape: Shape) -> tuple[Convert, ...]:
    return _converts(shape, "postgresql", shape.source.count("?"))


@lru_cache(maxsize=512)
def _postgres_sql(plan: Plan) -> str:
    marks = _Marks()
    parts = [_sql(shape, rows, marks.of(shape.table)) for shape, rows in plan]
    if len(parts) == 1:
        return parts[0]
    named = ", ".join(f"w{number} AS ({part})" for number, part in enumerate(parts[:-1]))
    return f"WITH {named} {parts[-1]}"


@lru_cache(maxsize=64)
def _postgres_claims(shapes: tuple[ClaimShape, ...]) -> tuple[str, tuple[Convert, ...]]:
    """One statement. Each claim yields one row, so their product is one row too.

    Each waits for the one before: two requests that want the same rows then lock them in the same order.
    Nothing else is read here: the statement sees the database as it was before it waited for anybody.
    """
    marks = _Marks()
    parts, wanted, converts = [], [], []
    for number, shape in enumerate(shapes):
        sql = shape.sql(marks.of(shape.table), after=f"c{number - 1}" if number else "")
        parts.append(f"c{number} AS ({sql})")
        wanted += [f'c{number}."{name}"' for name in shape.returning]
        converts += [bound(shape.table.c[name].type, "postgresql") for name in shape.columns]
    source = ", ".join(f"c{number}" for number in range(len(parts)))
    return f"WITH {', '.join(parts)} SELECT {', '.join(wanted)} FROM {source}", tuple(converts)


def _numbered(sql: str, mark: Mark) -> str:
    """`sql` with its question marks spelled by `mark`."""
    first, *others = sql.split("?")
    return first + "".join(mark("") + piece for piece in others)
