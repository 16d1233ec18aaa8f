"""A database that was put back to an earlier state is not signed on, until somebody says so; old proofs stay good."""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path

import pytest
from flask import Flask
from sqlalchemy import delete, select, text, update

from signup.core.config import Config
from signup.core.db import Session, database, reading, transaction
from signup.core.values import utc_now
from signup.eventlog import heads, health, merkle, notes, sealing
from signup.eventlog.health import Part
from signup.eventlog.kinds import EventType
from signup.eventlog.models import Checkpoint, Event, LogKey, LogTile
from signup.eventlog.record import record
from signup.eventlog.sealing import LogDamaged
from tests.conftest import environment

NOW = utc_now()


def write(count: int = 1) -> None:
    with transaction() as session:
        for _ in range(count):
            record(session, None, EventType.RETENTION_RUN, {"counts": {}}, now=NOW)


def seal() -> tuple[int, str]:
    while (done := sealing.seal_now(lambda: NOW)) is not None and done.count >= sealing.BATCH:
        pass
    with reading() as session:
        last = sealing.newest(session)
    assert last is not None
    return last.size, last.note


class Kept:
    """The sealed part of the database at one moment; to put it back is what a restored snapshot does."""

    def __init__(self) -> None:
        with reading() as session:
            self.tiles = session.execute(select(LogTile.level, LogTile.number, LogTile.hashes)).all()
            self.size = session.scalar(select(Checkpoint.size).order_by(Checkpoint.size.desc()).limit(1)) or 0

    def put_back(self) -> None:
        with transaction() as session:
            later = select(Event.id).where((Event.leaf_index >= self.size) | Event.leaf_index.is_(None))
            idents = list(session.scalars(later))
            for ident in idents:
                session.execute(text("DELETE FROM disclosure WHERE event_id = :ident").bindparams(ident=ident))
            session.execute(delete(Event).where(Event.id.in_(idents)))
            session.execute(delete(Checkpoint).where(Checkpoint.size > self.size))
            session.execute(delete(LogKey).where(LogKey.first_size >= self.size))
            session.execute(delete(LogTile))
            for level, number, hashes in self.tiles:
                session.put(LogTile, {"level": level, "number": number, "hashes": hashes})


@pytest.mark.req("E37")
def test_a_log_that_was_put_back_is_not_signed_on_until_it_has_a_new_name(app: Flask) -> None:
    write()
    seal()
    kept = Kept()
    write(3)
    size, lost = seal()
    with reading() as session:
        former = sealing.verifier_of(session, size)
    kept.put_back()
    write(2)
    with pytest.raises(LogDamaged, match=rf"this machine signed {size} leaves .* put back to an earlier state"):
        seal()
    # With as many other events in the place of those that are lost, too.
    write(size)
    with pytest.raises(LogDamaged, match="put back"):
        seal()
    result = app.test_cli_runner().invoke(args=["evidence", "new-name"])
    assert result.exit_code == 0, result.output
    name = result.stdout.strip()
    after, note = seal()
    with reading() as session:
        now = sealing.verifier_of(session, after)
        of_before = session.scalar(select(Checkpoint.note).where(Checkpoint.size == kept.size)) or ""
        root = merkle.Tree(sealing.reader(session), after).root(kept.size)
    assert notes.head_of(note, now).origin == now.name == name != former.name
    # What others hold of before is still signed by a key that is known, and the new log adds to what was kept.
    assert notes.head_of(lost, former).size == size
    assert root == notes.head_of(of_before, former).root
    write()
    seal()


@pytest.mark.req("E37")
def test_a_log_with_another_past_is_not_signed_on_though_it_is_longer(app: Flask) -> None:
    write()
    seal()
    kept = Kept()
    write(2)
    size, _ = seal()
    head = heads.path_of(database().config).read_bytes()
    kept.put_back()
    heads.path_of(database().config).unlink()
    # Another machine, which knows nothing of it, signs other events in their place.
    write(size)
    seal()
    heads.path_of(database().config).write_bytes(head)
    write()
    with pytest.raises(LogDamaged, match=rf"the first {size} of the database have another root"):
        seal()


@pytest.mark.req("E37")
def test_a_log_of_somebody_else_is_not_signed_when_this_machine_knows_its_own(app: Flask) -> None:
    write()
    seal()
    with transaction() as session:
        session.execute(update(LogKey).values(name="elsewhere.example/evidence"))
        session.execute(delete(Checkpoint))
        session.execute(update(Event).values(leaf_index=None))
        session.execute(delete(LogTile))
    with pytest.raises(LogDamaged, match=r"the database is of elsewhere\.example/evidence"):
        seal()


def test_what_was_signed_is_kept_privately_beside_the_database(app: Flask) -> None:
    write()
    _, note = seal()
    path = heads.path_of(database().config)
    assert path.read_text(encoding="utf-8") == note
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [item.name for item in path.parent.iterdir() if item.name.startswith(".evidence")] == []


def test_nothing_is_signed_when_the_head_cannot_be_read(app: Flask) -> None:
    heads.path_of(database().config).write_text("rubbish", encoding="utf-8")
    write()
    with pytest.raises(LogDamaged, match="evidence-head cannot be read"):
        seal()


def test_the_worker_tells_why_it_does_not_seal_and_when_that_is_over(app: Flask) -> None:
    path = heads.path_of(database().config)
    path.write_text("rubbish", encoding="utf-8")
    write()
    sealing.run([], lambda: NOW)
    with reading() as session:
        found = health.of(session)[Part.SEAL]
    assert "evidence-head cannot be read" in (found.trouble or "")
    assert found.since == found.checked_at == NOW
    path.unlink()
    sealing.run([], lambda: NOW)
    with reading() as session:
        assert health.of(session)[Part.SEAL].trouble is None


def test_two_restores_of_one_backup_have_two_names(app: Flask) -> None:
    write()
    seal()
    names = set()
    for milliseconds in (0, 1):
        with transaction() as session:
            now = NOW.replace(microsecond=milliseconds * 1000)
            names.add(sealing.rename(session, now=now))
    assert len(names) == 2
    assert len({heads.base(name) for name in names}) == 1
    with reading() as session:
        # The first of them signed nothing.
        assert len(list(session.scalars(select(LogKey.name)))) == 2


def test_new_keys_are_each_another_and_fit_the_setting(app: Flask, tmp_path: Path) -> None:
    made = [app.test_cli_runner().invoke(args=["evidence", "key"]).stdout.strip() for _ in range(2)]
    keys = [Config.from_env(environment(tmp_path, SIGNUP_EVIDENCE_KEY=value)).evidence_key for value in made]
    assert keys[0] != keys[1]
    assert all(key and len(key) == 32 for key in keys)


def test_a_key_that_never_signed_is_forgotten_when_the_next_takes_its_place(app: Flask) -> None:
    write()
    seal()
    with transaction() as session:
        sealing.rename(session, now=NOW)
    held = database()
    held.sessions.kw["config"] = replace(held.config, evidence_key=b"k" * 16 + bytes(range(16)))
    write()
    size, note = seal()
    with reading() as session:
        assert notes.head_of(note, sealing.verifier_of(session, size)).size == size
        assert _keys(session) == 2


def _keys(session: Session) -> int:
    return len(session.scalars(select(LogKey.first_size)).all())
