"""The database: one commit per request, job or command, and every difference between SQLite and PostgreSQL."""

from __future__ import annotations

import select
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from functools import cached_property
from pathlib import Path
from typing import Any

from flask import Flask, current_app
from flask_sqlalchemy import SQLAlchemy
from psycopg import OperationalError as OperationalDriverError
from sqlalchemy import (
    Connection,
    CursorResult,
    Engine,
    MetaData,
    Result,
    Table,
    event,
    orm,
)
from sqlalchemy.dialects import postgresql
from sqlalchemy.dialects import sqlite as sqlite_dialect
from sqlalchemy.exc import DBAPIError, InvalidatePoolError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.orm import DeclarativeBase, sessionmaker

from signup.core import sqlite, writes
from signup.core.columns import Choice, Json, Rfc3339, UtcDateTime
from signup.core.config import Config
from signup.core.driver import Prepared
from signup.core.errors import Busy
from signup.core.signing import Keys
from signup.core.sqlite import GroupSync
from signup.core.writes import Claim, ClaimShape, Shape, Write

# A write waits this long for the ones before it; then the visitor is asked to try again.
WRITE_WAIT_SECONDS = 5.0
SCRUB_WAIT_MS = 100
# A server that vanished without a word is noticed by the kernel: when idle, and when it owes us an answer.
KEEPALIVE_SECONDS = 30
DEAD_PEER_MS = 20_000
# As many as a process has threads, and a few for commands; docs/operations.md adds them up.
POOL_SIZE = 10


class Base(DeclarativeBase):
    metadata = MetaData(
        naming_convention={
            "ix": "ix_%(table_name)s_%(column_0_N_name)s",
            "uq": "uq_%(table_name)s_%(column_0_N_name)s",
            "ck": "ck_%(table_name)s_%(constraint_name)s",
            "fk": "fk_%(table_name)s_%(column_0_N_name)s_%(referred_table_name)s",
            "pk": "pk_%(table_name)s",
        }
    )


db = SQLAlchemy(metadata=Base.metadata)


class Session(orm.Session):
    """A unit of database work that knows the keys which open its rows.

    `put`, `change` and `put_select` queue writes. They reach the database together, on PostgreSQL as one
    statement, before the next read and before the commit.
    """

    _queue: list[Write]
    driven: Connection  # of this unit of work, in its one transaction

    def __init__(self, *, keys: Keys, config: Config, **options: Any) -> None:
        super().__init__(**options)
        self.keys = keys
        self.config = config
        self._queue = []

    def put(self, model: type[Base], row: Mapping[str, Any], *, on_conflict: str = "") -> None:
        """Queue one row; `on_conflict` is the SQL after the values, such as `ON CONFLICT DO NOTHING`."""
        writes.add(self._queue, Shape(_table(model), tuple(row), on_conflict), tuple(row.values()))

    def change(self, model: type[Base], key: Mapping[str, Any], values: Mapping[str, Any]) -> None:
        """Queue an UPDATE of the rows that `key` matches. A row may be changed once between two reads."""
        shape = Shape(_table(model), tuple(values), key=tuple(key))
        writes.add(self._queue, shape, (*values.values(), *key.values()))

    def put_select(
        self, model: type[Base], row: Mapping[str, Any], computed: Mapping[str, str], source: str, values: Sequence[str]
    ) -> None:
        """Queue INSERT ... SELECT: one row like `row` for each row of `source`, with `computed` columns as SQL.

        Args:
            source: FROM and what follows, with `?` for each of `values`.
        """
        shape = Shape(_table(model), tuple(row), ", ".join(computed.values()), (), tuple(computed), source)
        writes.add(self._queue, shape, (*row.values(), *values))

    def claim(self, claims: Sequence[Claim]) -> list[Any]:
        """The claimed rows exist and are ours until the commit, in the order given.

        On PostgreSQL that is one statement. What is queued goes on waiting.

        Returns:
            One tuple a claim with the columns it asked for.
        """
        return writes.claim(self.driven, claims)

    def remove(self, model: type[Base], key: Mapping[str, Any]) -> None:
        """Queue a DELETE of the rows that `key` matches."""
        writes.add(self._queue, Shape(_table(model), (), key=tuple(key)), tuple(key.values()))

    def rows(self, query: Prepared, values: Mapping[str, Any], *, keep_queue: bool = False) -> list[Any]:
        """The rows of a prepared query, after what is queued was written.

        Args:
            keep_queue: the query touches no row that may be queued, so the queue goes on growing behind it.
        """
        if not keep_queue:
            self.flush()
            self.write_queued()
        return query.rows(self.driven, values)

    def write_queued(self) -> None:
        """What was queued is in the database now, not yet committed."""
        if self._queue:
            queue, self._queue = self._queue, []
            writes.execute(self.driven, queue)


@event.listens_for(Session, "do_orm_execute")
def _write_before_reading(state: orm.ORMExecuteState) -> None:
    session = state.session
    if isinstance(session, Session):
        session.write_queued()


def _table(model: type[Base]) -> Table:
    table = model.__table__
    assert isinstance(table, Table)  # noqa: S101 - a mapped class of ours is never a join
    return table


def claim_of(
    model: type[Base], row: Mapping[str, Any], *, on: Sequence[str], update: str, returning: Sequence[str]
) -> Claim:
    """The claim to a row of `model`; see `ClaimShape` for `on`, `update` and `returning`."""
    shape = ClaimShape(_table(model), tuple(row), tuple(on), update, tuple(returning))
    return Claim(shape, tuple(row.values()))


def upsert(
    session: Session, model: type[Base], row: Mapping[str, Any], *, on: Sequence[str], update: Mapping[str, Any]
) -> postgresql.Insert | sqlite_dialect.Insert:
    """INSERT ... ON CONFLICT (`on`) DO UPDATE in the session's dialect; the row is locked afterwards either way."""
    dialect = session.get_bind().dialect.name
    insert = sqlite_dialect.insert(model) if dialect == "sqlite" else postgresql.insert(model)
    return insert.values(**row).on_conflict_do_update(index_elements=list(on), set_=dict(update))


def affected(result: Result[Any]) -> int:
    """How many rows a bulk statement touched."""
    return result.rowcount if isinstance(result, CursorResult) else 0


_in_transaction: ContextVar[bool] = ContextVar("in_transaction", default=False)


def assert_no_transaction() -> None:
    """Refuse to go on while this thread has a transaction open.

    Raises:
        RuntimeError: a network call here would hold locks for as long as a stranger pleases.
    """
    if _in_transaction.get():
        raise RuntimeError("a network call was about to be made inside a database transaction")


def _refuse_nesting() -> None:
    if _in_transaction.get():
        raise RuntimeError("transactions do not nest: the edge opens the one that there is")


class Database:
    """One engine and the two ways to use it: `transaction` writes, `reading` reads."""

    def __init__(self, engine: Engine, keys: Keys, config: Config) -> None:
        self.engine, self.keys, self.config = engine, keys, config
        # What this process read last and may find outdated; nothing here decides without looking again.
        self.memory: dict[tuple[str, ...], Any] = {}
        self.sessions = sessionmaker(class_=Session, expire_on_commit=False, keys=keys, config=config)

        self._group_sync = None
        if self.sqlite and engine.url.database and engine.url.database != ":memory:":
            # SQLite keeps its log beside the file itself, wherever links to it are.
            self._group_sync = GroupSync(f"{Path(engine.url.database).resolve()}-wal")

    @cached_property
    def sqlite(self) -> bool:
        return self.engine.dialect.name == "sqlite"

    @contextmanager
    def transaction(self, wait_seconds: float) -> Iterator[Session]:
        _refuse_nesting()
        with self.write_lock(wait_seconds), self._session(write=True) as session:
            if not self.sqlite and wait_seconds < WRITE_WAIT_SECONDS:
                session.driven.exec_driver_sql(f"SET LOCAL lock_timeout = '{int(wait_seconds * 1000)}ms'")
            yield session
            session.flush()
            session.write_queued()
            session.driven.commit()
        if self._group_sync:
            self._durable(self._group_sync)

    @staticmethod
    def _durable(group_sync: GroupSync) -> None:
        try:
            group_sync.wait()
        except OSError as error:
            raise Busy("The service is busy. Please try again in a moment.", retry_after_seconds=5) from error

    @contextmanager
    def reading(self) -> Iterator[Session]:
        with self._session(write=False) as session:
            yield session

    @contextmanager
    def _session(self, *, write: bool) -> Iterator[Session]:
        _refuse_nesting()
        mark = _in_transaction.set(True)
        try:
            with self.engine.connect() as connection:
                if self.sqlite:
                    connection.execution_options(begin_immediate=write)
                connection.begin()
                with self.sessions(bind=connection) as session:
                    session.driven = connection
                    yield session
        except PoolTimeout as error:
            raise Busy("The service is busy. Please try again in a moment.", retry_after_seconds=5) from error
        except DBAPIError as error:
            missing = "no such table" in str(error.orig)
            if error.connection_invalidated or (isinstance(error, OperationalError) and not missing):
                raise Busy("The service is busy. Please try again in a moment.", retry_after_seconds=5) from error
            raise
        finally:
            _in_transaction.reset(mark)

    @contextmanager
    def write_lock(self, wait_seconds: float) -> Iterator[None]:
        """On SQLite all writers of all processes queue here; PostgreSQL needs no such thing."""
        path = self.engine.url.database
        if not self.sqlite or not path or path == ":memory:":
            yield
            return
        with sqlite.file_lock(path + ".lock", wait_seconds):
            yield


def engine_options(config: Config) -> dict[str, Any]:
    """The connection settings that each database needs, for Flask-SQLAlchemy."""
    options: dict[str, Any] = {
        "pool_size": POOL_SIZE,
        "max_overflow": 0,
        "pool_timeout": WRITE_WAIT_SECONDS,
        # An error message must not carry an address into a log.
        "hide_parameters": True,
    }
    if config.sqlite:
        return {**options, "connect_args": {"check_same_thread": False, "timeout": WRITE_WAIT_SECONDS}}
    return {**options, "connect_args": {"keepalives_idle": KEEPALIVE_SECONDS, "tcp_user_timeout": DEAD_PEER_MS}}


def _refuse_dead(connection: Any, _record: object, _proxy: object) -> None:
    """A connection that its server has closed is replaced before anything is sent on it.

    A healthy idle connection has nothing to read. Asking the socket costs no round trip, as a ping would.
    """
    socket = select.poll()
    try:
        socket.register(connection.fileno(), select.POLLIN)
    except OperationalDriverError:
        raise InvalidatePoolError from None
    if socket.poll(0):
        raise InvalidatePoolError


def init_app(app: Flask, config: Config, keys: Keys) -> None:
    """Give `app` its database; `transaction()` and `reading()` work in its context from now on."""
    config.instance.mkdir(parents=True, exist_ok=True, mode=0o700)
    app.config["SQLALCHEMY_DATABASE_URI"] = config.database_url
    app.config["SQLALCHEMY_ENGINE_OPTIONS"] = engine_options(config)
    db.init_app(app)
    with app.app_context():
        engine = db.engine
    tune(engine)
    app.extensions["signup.database"] = Database(engine, keys, config)


def tune(engine: Engine) -> None:
    """Connections of `engine` are what the rest of the program relies on; on SQLite its file is private."""
    if engine.dialect.name == "sqlite":
        sqlite.keep_private(engine.url.database)
        event.listen(engine, "connect", sqlite.on_connect)
        event.listen(engine, "begin", sqlite.on_begin)
    else:
        event.listen(engine, "checkout", _refuse_dead)


def scrub() -> bool:
    """On SQLite, what was erased is not left over in the write-ahead log either.

    PostgreSQL's way to raw files is a VACUUM FULL of the holders by the operator.

    Returns:
        False when a reader kept the log in use; it is to be tried again later.

    Rule: GDPR 17(1).
    """
    held = database()
    if not held.sqlite:
        return True
    with held.write_lock(WRITE_WAIT_SECONDS), held.engine.connect() as connection:
        cursor = connection.connection.cursor()
        # All writers wait meanwhile, so a reader in the way is not waited for.
        cursor.execute(f"PRAGMA busy_timeout={SCRUB_WAIT_MS}")
        busy, _, _ = cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
        cursor.execute(f"PRAGMA busy_timeout={int(WRITE_WAIT_SECONDS * 1000)}")
        return not busy


def hold_still(session: Session) -> None:
    """What this session reads is of one moment, however long it reads; to be called before its first read."""
    # On SQLite each reading is so by itself.
    if session.get_bind().dialect.name == "postgresql":
        session.driven.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")


def database() -> Database:
    found: Database = current_app.extensions["signup.database"]
    return found


def transaction(*, wait_seconds: float = WRITE_WAIT_SECONDS) -> AbstractContextManager[Session]:
    """A context manager: the session of one commit. Everything in it is written, or nothing is.

    Args:
        wait_seconds: how long to queue behind other writers; below the default on PostgreSQL too, for each lock.

    Raises:
        Busy: the queue did not get to us in time, or the database is away. Nothing was written, unless it went away
            during the commit or the disk refused to sync: then nobody knows, and asking again must be harmless.
    """
    return database().transaction(wait_seconds)


def reading() -> AbstractContextManager[Session]:
    """A context manager: a session to read with, which never commits."""
    return database().reading()


__all__ = [
    "Base",
    "Choice",
    "Claim",
    "Database",
    "Json",
    "Prepared",
    "Rfc3339",
    "Session",
    "UtcDateTime",
    "affected",
    "assert_no_transaction",
    "claim_of",
    "database",
    "db",
    "hold_still",
    "init_app",
    "reading",
    "scrub",
    "transaction",
    "tune",
    "upsert",
]
