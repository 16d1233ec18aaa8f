"""One commit, one queue of writers, queued rows."""

import threading
import time

import pytest
from sqlalchemy import select

from signup.abuse.models import Budget
from signup.core import db
from signup.core.db import reading, transaction
from signup.core.errors import Busy
from tests.conftest import in_threads


def row(key, spent, now):
    return {"key": key, "spent": spent, "expires_at": now}


def stored():
    with reading() as session:
        return {item.key: item.spent for item in session.scalars(select(Budget))}


def test_queued_rows_are_seen_by_the_next_read_and_written_by_the_commit(app, now):
    with transaction() as session:
        session.put(Budget, row(b"a", [1], now))
        session.put(Budget, row(b"b", [2], now))
        assert len(session.scalars(select(Budget.key)).all()) == 2
        session.change(Budget, {"key": b"a"}, {"spent": [1, 2]})
        session.put(Budget, row(b"b", [3], now), on_conflict="ON CONFLICT (key) DO UPDATE SET spent = excluded.spent")
    assert stored() == {b"a": [1, 2], b"b": [3]}


def test_times_come_back_as_they_went_in(app, now):
    with transaction() as session:
        session.put(Budget, row(b"a", [], now))
    with reading() as session:
        assert session.scalar(select(Budget.expires_at)) == now
        assert session.scalar(select(Budget.key).where(Budget.expires_at == now)) == b"a"


def test_nothing_is_written_when_the_block_fails(app, now):
    with pytest.raises(ZeroDivisionError), transaction() as session:
        session.put(Budget, row(b"a", [], now))
        session.write_queued()
        raise ZeroDivisionError
    assert stored() == {}


def test_a_reading_session_writes_nothing(app, now):
    with reading() as session:
        session.put(Budget, row(b"a", [], now))
    assert stored() == {}


def test_many_rows_go_out_in_bounded_statements(app, now, monkeypatch):
    from signup.core import writes

    monkeypatch.setattr(writes, "MAX_PARAMETERS", 30)
    with transaction() as session:
        for number in range(100):
            session.put(Budget, row(number.to_bytes(2, "big"), [number], now))
    assert len(stored()) == 100


def test_transactions_do_not_nest(app):
    with pytest.raises(RuntimeError, match="do not nest"), transaction(), transaction():
        pass


def test_network_calls_are_refused_inside_and_allowed_outside(app):
    db.assert_no_transaction()
    with transaction(), pytest.raises(RuntimeError, match="inside a database transaction"):
        db.assert_no_transaction()
    with reading(), pytest.raises(RuntimeError):
        db.assert_no_transaction()
    db.assert_no_transaction()


def test_writers_queue_and_none_is_lost(app, now):
    with transaction() as session:
        session.put(Budget, row(b"a", [0], now))

    def add(_number):
        with app.app_context(), transaction() as session:
            spent = session.scalar(select(Budget.spent).where(Budget.key == b"a").with_for_update())
            session.change(Budget, {"key": b"a"}, {"spent": [spent[0] + 1]})

    assert in_threads(12, add) == [None] * 12
    assert stored() == {b"a": [12]}


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_a_writer_gives_up_with_a_clear_error_when_the_queue_does_not_move(app):
    held, release = threading.Event(), threading.Event()

    def hold():
        with app.app_context(), transaction():
            held.set()
            release.wait(10)

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait(10)
    started = time.monotonic()
    with pytest.raises(Busy), transaction(wait_seconds=0.05):
        pass
    release.set()
    thread.join()
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("backend", ["sqlite"], indirect=True)
def test_sqlite_is_set_up_to_lose_nothing(app):
    with reading() as session:
        connection = session.connection()
        pragmas = {
            name: connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "foreign_keys", "secure_delete")
        }
    assert pragmas == {"journal_mode": "wal", "synchronous": 1, "foreign_keys": 1, "secure_delete": 1}
