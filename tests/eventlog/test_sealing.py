"""Sealing on both databases: every event gets one place, signed, and a log that was touched is not signed again."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import delete, func, select, text, update

from signup import jobs
from signup.core.db import Session, database, reading, transaction
from signup.core.values import utc_now
from signup.eventlog import merkle, notes, sealing
from signup.eventlog.kinds import EventType
from signup.eventlog.models import Checkpoint, Event, LogKey, LogTile
from signup.eventlog.record import record
from signup.eventlog.sealing import LogDamaged
from signup.worker import register_timed_jobs, run_until_idle
from tests.conftest import in_threads

NOW = utc_now()


def write(count: int) -> None:
    with transaction() as session:
        for _ in range(count):
            record(session, None, EventType.RETENTION_RUN, {"counts": {}}, now=NOW)


def seal(limit: int = 1000) -> sealing.Sealed | None:
    with transaction() as session:
        return sealing.seal(session, now=NOW, limit=limit)


def seal_all(limit: int = 1000) -> int:
    while (done := seal(limit)) is not None and done.count >= limit:
        pass
    with reading() as session:
        last = sealing.newest(session)
    assert last is not None
    return last.size


def leaves(session: Session) -> list[bytes]:
    found = session.execute(select(Event.leaf_index, Event.leaf).order_by(Event.leaf_index)).all()
    assert [index for index, _ in found] == list(range(len(found)))
    return [bytes(leaf) for _, leaf in found]


@pytest.fixture(autouse=True)
def some_events(app: Flask) -> None:
    """What the demo wrote is sealed; a few events wait."""
    seal_all()
    write(3)


def test_every_event_has_one_place_under_a_signed_checkpoint_when_sealed() -> None:
    before = seal_all()
    write(5)
    size = seal_all(limit=2)
    with reading() as session:
        found = leaves(session)
        # Each batch begins with one leaf of its own, about the checkpoint before.
        assert size == len(found) == before + 5 + 3
        for at, note in session.execute(select(Checkpoint.size, Checkpoint.note)).all():
            head = notes.head_of(note, sealing.verifier_of(session, at))
            fresh = merkle.Tree(lambda _level, _number: b"", 0)
            fresh.append([merkle.leaf_hash(leaf) for leaf in found[:at]])
            assert (head.size, head.root) == (at, fresh.root())


def test_nothing_is_written_when_nothing_waits() -> None:
    size = seal_all()
    assert seal() is None
    assert seal_all() == size


@pytest.mark.req("E38")
def test_the_first_leaf_of_a_batch_names_the_checkpoint_before() -> None:
    before = seal_all()
    with reading() as session:
        note = session.scalar(select(Checkpoint.note).where(Checkpoint.size == before))
    write(1)
    seal_all()
    with reading() as session:
        kind, ident = session.execute(select(Event.kind, Event.id).where(Event.leaf_index == before)).one()
        data = session.scalar(text("SELECT data FROM disclosure WHERE event_id = :ident").bindparams(ident=ident))
    assert kind is EventType.LOG_SEALED
    assert note is not None
    disclosed = {name: value for _, name, value in map(json.loads, bytes(data).split(b"\n"))}
    assert disclosed["log_size"] == before
    assert disclosed["note_sha256"] == hashlib.sha256(note.encode()).hexdigest()


def test_each_event_is_sealed_once_when_several_seal_while_others_write(app: Flask) -> None:
    def act(number: int) -> None:
        with app.app_context():
            for _ in range(15):
                if number % 2:
                    write(2)
                else:
                    seal(limit=7)

    assert [result for result in in_threads(6, act) if result is not None] == []
    size = seal_all()
    with reading() as session:
        assert len(leaves(session)) == size
        assert session.scalar(select(func.count()).where(Event.leaf_index.is_(None))) == 0


def tampered_root(session: Session) -> None:
    session.execute(update(LogTile).where(LogTile.level == 0, LogTile.number == 0).values(hashes=b"x" * 32 * 200))


def short_tile(session: Session) -> None:
    session.execute(update(LogTile).where(LogTile.level == 0, LogTile.number == 0).values(hashes=b"x" * 32))


def deleted_tail(session: Session) -> None:
    last = session.scalar(select(func.max(Event.leaf_index)))
    ident = session.scalar(select(Event.id).where(Event.leaf_index == last))
    session.execute(text("DELETE FROM disclosure WHERE event_id = :ident").bindparams(ident=ident))
    session.execute(delete(Event).where(Event.id == ident))


def deleted_checkpoint(session: Session) -> None:
    session.execute(delete(Checkpoint).where(Checkpoint.size == session.scalar(select(func.max(Checkpoint.size)))))


def forged_note(session: Session) -> None:
    size = session.scalar(select(func.max(Checkpoint.size)))
    forged = notes.Signer("elsewhere.example", b"x" * 32).sign(f"elsewhere.example\n{size}\nAAAA\n")
    session.execute(update(Checkpoint).where(Checkpoint.size == size).values(note=forged))


def unknown_key(session: Session) -> None:
    session.execute(delete(LogKey))


@pytest.mark.req("E37")
@pytest.mark.parametrize(
    ("touch", "named"),
    [
        (tampered_root, "the tree has another root|holds more than"),
        (short_tile, "tile 0/0 holds 1 hashes"),
        (deleted_tail, "the last checkpoint is over"),
        (deleted_checkpoint, "the last checkpoint is over"),
        (forged_note, "no signature is by"),
        (unknown_key, "no key is known"),
    ],
)
def test_nothing_is_signed_and_the_damage_is_named_when_the_log_was_touched(touch: Any, named: str) -> None:
    size = seal_all()
    write(1)
    with transaction() as session:
        touch(session)
    with pytest.raises(LogDamaged, match=named):
        seal()
    with reading() as session:
        assert session.scalar(select(func.count()).where(Checkpoint.size > size)) == 0


def test_a_new_key_goes_on_where_the_former_ended_when_the_secret_changes(app: Flask) -> None:
    before = seal_all()
    write(1)
    held = database()
    held.sessions.kw["config"] = replace(held.config, evidence_key=b"k" * 32)
    after = seal_all()
    with reading() as session:
        former, now = sealing.verifier_of(session, before), sealing.verifier_of(session, after)
        assert former.name == now.name
        assert now.public_key == notes.public_key_of(b"k" * 32) != former.public_key


@pytest.mark.req("E35")
def test_the_worker_seals_by_itself_within_a_minute_when_it_runs(app: Flask) -> None:
    register_timed_jobs(lambda: NOW)
    with reading() as session:
        assert jobs.any_due(session, sealing.JOB_SEAL, now=NOW)
    run_until_idle(lambda: NOW)
    with reading() as session:
        assert session.scalar(select(func.count()).where(Event.leaf_index.is_(None))) == 0
        assert not jobs.any_due(session, sealing.JOB_SEAL, now=NOW + timedelta(seconds=59))
        assert jobs.any_due(session, sealing.JOB_SEAL, now=NOW + timedelta(seconds=60))
