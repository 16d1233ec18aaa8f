"""The whole database at one moment, read or put in place. Rows are plain values that both databases understand."""

from __future__ import annotations

import fcntl
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from psycopg import sql
from sqlalchemy import (
    Connection,
    Engine,
    Select,
    column,
    create_engine,
    event,
    func,
    insert,
    inspect,
    select,
    table,
    text,
)
from sqlalchemy.exc import ProgrammingError

from signup.core.db import WRITE_WAIT_SECONDS, Base, Database, database, engine_options, tune
from signup.core.errors import Conflict

# Some hundred kilobytes of rows: few round trips, flat memory.
BATCH_ROWS = 1000
# Where PostgreSQL keeps a database that is being made, and what SQLite's file is called meanwhile.
WORKSHOP_SCHEMA = "signup_restoring"
WORKSHOP_SUFFIX = ".restoring"
VERSION_TABLE = "alembic_version"
RESTORE_LOCK = 0x5169

Row = Sequence[Any]


@contextmanager
def one_moment() -> Iterator[Connection]:
    """A connection to which the database stands still, while all others go on writing.

    On SQLite this is one read transaction rather than a copy of the file: a copy would lie on the disk with every
    address in the clear, and would stay there after a kill. The write-ahead log grows meanwhile.
    """
    held = database()
    with held.engine.connect() as connection:
        if held.sqlite:
            connection.execution_options(begin_immediate=False)
        else:
            connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        with connection.begin():
            yield connection


def rows(connection: Connection, query: Select[Any]) -> Iterator[list[Row]]:
    """What `query` finds, in batches, without ever holding all of it."""
    streamed = {"stream_results": True, "yield_per": BATCH_ROWS}
    with connection.execute(query, execution_options=streamed) as result:
        for batch in result.partitions(BATCH_ROWS):
            yield list(batch)


def plain_table(name: str, columns: Iterable[str]) -> Any:
    """A table whose values pass as the driver has them; its columns may be those of another day."""
    return table(name, *(column(item) for item in columns))


def write(connection: Connection, name: str, columns: Sequence[str], batch: Sequence[Row]) -> None:
    """These rows are in the table. Times are text; both databases read the same one."""
    if connection.dialect.name == "sqlite":
        connection.execute(insert(plain_table(name, columns)), [dict(zip(columns, row, strict=True)) for row in batch])
        return
    statement = sql.SQL("COPY {} ({}) FROM STDIN").format(
        sql.Identifier(name), sql.SQL(", ").join(map(sql.Identifier, columns))
    )
    cursor: Any = connection.connection.cursor()
    with cursor.copy(statement) as copy:
        for row in batch:
            copy.write_row(row)


def filled_tables(connection: Connection) -> list[str]:
    """Those of our tables that hold a row."""
    there = set(inspect(connection).get_table_names())
    return [
        name
        for name in sorted(Base.metadata.tables.keys() & there)
        if connection.scalar(
            select(func.count()).select_from(select(text("1")).select_from(table(name)).limit(1).subquery())
        )
    ]


@contextmanager
def workshop() -> Iterator[Database]:
    """For the block, `transaction()` and `reading()` mean a new database beside ours, which nobody else sees.

    What is left of an earlier one is removed first, and nothing is left at the end.

    Yields:
        Ours, as it is outside.
    """
    held = database()
    ours = Database(held.engine, held.keys, held.config)
    with _alone(ours):
        _clear(ours)
        engine = _beside(ours)
        try:
            _point(held, engine)
            yield ours
        finally:
            _point(held, ours.engine)
            engine.dispose()
            _clear(ours)


def _point(held: Database, engine: Engine) -> None:
    """Migrations, `transaction()` and `reading()` go to `engine` from now on."""
    held.engine = engine


@contextmanager
def _alone(ours: Database) -> Iterator[None]:
    """Two restores at once would take each other's workshop away."""
    busy = Conflict("Another restore into this database is under way.")
    if ours.sqlite:
        # A file of its own: closing the database's would drop the locks that SQLite holds on it.
        with Path(f"{ours.engine.url.database}.restore.lock").open("w") as mark:
            try:
                fcntl.flock(mark, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise busy from None
            yield
        return
    with ours.engine.connect() as connection:
        if not connection.scalar(text(f"SELECT pg_try_advisory_lock({RESTORE_LOCK})")):
            raise busy
        connection.commit()
        try:
            yield
        finally:
            connection.execute(text(f"SELECT pg_advisory_unlock({RESTORE_LOCK})"))


def _beside(ours: Database) -> Engine:
    options = engine_options(ours.config)
    if ours.sqlite:
        made = create_engine(ours.engine.url.set(database=str(_workshop_file(ours))), **options)
        tune(made)
        # Nothing here has to survive a crash: the whole goes into the real file by one durable transaction.
        event.listen(made, "connect", lambda connection, _record: connection.execute("PRAGMA synchronous=OFF"))
        return made
    try:
        with ours.engine.begin() as connection:
            connection.execute(text(f"CREATE SCHEMA {WORKSHOP_SCHEMA}"))
    except ProgrammingError:
        raise Conflict(
            f"A restore needs a schema of its own meanwhile: GRANT CREATE ON DATABASE … TO {ours.engine.url.username}."
        ) from None
    # Commits need not wait here either: the one that moves the tables waits for all before it.
    there = {"options": f"-csearch_path={WORKSHOP_SCHEMA} -csynchronous_commit=off"}
    options["connect_args"] = {**options.get("connect_args", {}), **there}
    made = create_engine(ours.engine.url, **options)
    tune(made)
    return made


def _workshop_file(ours: Database) -> Path:
    return Path(f"{ours.engine.url.database}{WORKSHOP_SUFFIX}")


def _clear(ours: Database) -> None:
    if not ours.sqlite:
        with ours.engine.begin() as connection:
            connection.execute(text(f"DROP SCHEMA IF EXISTS {WORKSHOP_SCHEMA} CASCADE"))
        return
    for suffix in ("", "-wal", "-shm", "-journal", ".lock"):
        with suppress(FileNotFoundError):
            Path(f"{_workshop_file(ours)}{suffix}").unlink()


def put_in_place(ours: Database) -> None:
    """What the workshop holds is our database from one moment to the next; before, nothing of it was there.

    Raises:
        Conflict: somebody wrote into our database meanwhile; nothing was changed.
    """
    workshop_engine = database().engine
    if ours.sqlite:
        _copy_file(workshop_engine, ours)
    else:
        workshop_engine.dispose()
        _move_tables(ours)


def _refuse_filled(connection: Connection) -> None:
    filled = filled_tables(connection)
    if filled:
        raise Conflict(f"The database is not empty ({', '.join(filled[:3])}). Restore into a new one.")


def _copy_file(source: Engine, ours: Database) -> None:
    with ours.write_lock(WRITE_WAIT_SECONDS):
        with ours.engine.connect() as connection:
            _refuse_filled(connection)
        made, target = source.raw_connection(), ours.engine.raw_connection()
        try:
            # One transaction for SQLite: who has the file open sees the empty database, and then the full one.
            driver: Any = made.driver_connection
            # This goes past `transaction()`, which would wait for the disk.
            target.cursor().execute("PRAGMA synchronous=FULL")
            driver.backup(target.driver_connection)
            target.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        finally:
            made.close()
            target.close()


def _move_tables(ours: Database) -> None:
    with ours.engine.begin() as connection:
        place = connection.scalar(text("SELECT current_schema()"))
        there = set(inspect(connection).get_table_names())
        known = sorted({*Base.metadata.tables, VERSION_TABLE} & there)
        if known:
            names = ", ".join(f'"{place}"."{name}"' for name in known)
            connection.execute(text(f"LOCK TABLE {names} IN ACCESS EXCLUSIVE MODE"))
            _refuse_filled(connection)
            connection.execute(text(f"DROP TABLE {names}"))
        for name in inspect(connection).get_table_names(schema=WORKSHOP_SCHEMA):
            connection.execute(text(f'ALTER TABLE {WORKSHOP_SCHEMA}."{name}" SET SCHEMA "{place}"'))
        connection.execute(text(f"DROP SCHEMA {WORKSHOP_SCHEMA}"))


def settle_statistics() -> None:
    """PostgreSQL knows what it holds, and counters go on behind the highest number that came in."""
    held = database()
    if held.sqlite:
        return
    with held.engine.begin() as connection:
        for name in inspect(connection).get_table_names():
            for item in inspect(connection).get_columns(name):
                counter = connection.scalar(
                    text("SELECT pg_get_serial_sequence(:name, :column)"), {"name": name, "column": item["name"]}
                )
                if counter:
                    highest = f'SELECT setval(:counter, max("{item["name"]}")) FROM "{name}"'  # noqa: S608 - our own names
                    connection.execute(text(highest), {"counter": counter})
        connection.execute(text("ANALYZE"))
