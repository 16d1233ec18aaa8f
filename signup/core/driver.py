"""Ready-made statements, handed to the driver as they are.

The hot path runs the same few statements all day. Building, compiling and adapting each of them anew for every
request would cost more than the database does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from psycopg import RawCursor
from sqlalchemy import Connection, Dialect, Select
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg
from sqlalchemy.dialects.sqlite import dialect as sqlite_dialect
from sqlalchemy.exc import DBAPIError

from signup.core.columns import Convert, bound, converted, loaded

# Parameters are `$1`, `$2` and so on: the driver need not read the statement to find them.
POSTGRESQL: Dialect = PGDialect_psycopg(paramstyle="numeric_dollar")  # type: ignore[no-untyped-call]
DIALECTS: Mapping[str, Dialect] = {"postgresql": POSTGRESQL, "sqlite": sqlite_dialect()}


def run(connection: Connection, statement: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
    """The rows that one statement returned; a statement seen a few times is prepared by the server."""
    driver: Any = connection.connection.driver_connection
    try:
        if connection.dialect.name == "sqlite":
            return list(driver.execute(statement, parameters))
        cursor = RawCursor(driver).execute(statement, parameters)
        # `description` would build an object for each column.
        return cursor.fetchall() if cursor.pgresult and cursor.pgresult.nfields else []
    except connection.dialect.loaded_dbapi.Error as error:
        raise _translated(connection, statement, error) from error


def run_many(connection: Connection, statement: str, parameters: Sequence[Sequence[Any]]) -> None:
    """One statement was run for each of `parameters`; for SQLite, where a statement costs no round trip."""
    driver: Any = connection.connection.driver_connection
    try:
        driver.executemany(statement, parameters)
    except connection.dialect.loaded_dbapi.Error as error:
        raise _translated(connection, statement, error) from error


def _translated(connection: Connection, statement: str, error: Exception) -> BaseException:
    """An error of the driver as SQLAlchemy's, without the values of the statement."""
    base = connection.dialect.loaded_dbapi.Error
    return DBAPIError.instance(statement, None, error, base, hide_parameters=True)


class Prepared:
    """A SELECT that is compiled once for each database.

    Args:
        select: with a `bindparam` for each value that differs between two runs.
    """

    def __init__(self, select: Select[*tuple[Any, ...]]) -> None:
        self._select = select
        self._loads = [loaded(column.type) for column in select.selected_columns]
        self._compiled: dict[str, tuple[str, list[tuple[str, Any, Convert]]]] = {}

    def rows(self, connection: Connection, values: Mapping[str, Any]) -> list[tuple[Any, ...]]:
        """Its rows, as SQLAlchemy would return them."""
        name = connection.dialect.name
        if name not in self._compiled:
            self._compiled[name] = self._compile(name)
        statement, parameters = self._compiled[name]
        given = [values[key] if fixed is None else fixed for key, fixed, _ in parameters]
        found = run(connection, statement, converted((convert for _, _, convert in parameters), given))
        # An export reads millions of rows as they are.
        return [tuple(converted(self._loads, row)) for row in found] if any(self._loads) else found

    def _compile(self, name: str) -> tuple[str, list[tuple[str, Any, Convert]]]:
        compiled = self._select.compile(dialect=DIALECTS[name])
        fixed = compiled.params
        order: Sequence[str] = compiled.positiontup or ()
        kinds = {key: bind.type for key, bind in compiled.binds.items()}
        return str(compiled), [(key, fixed.get(key), bound(kinds[key], name)) for key in order]
