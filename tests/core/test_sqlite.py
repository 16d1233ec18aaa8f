"""SQLite: what was answered is on disk, and one sync serves all that wait for it."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import create_engine, event, text

from signup.core import sqlite
from signup.core.db import Database, database, transaction
from signup.core.errors import Busy
from signup.core.sqlite import GroupSync
from tests.support.waiting import wait_for

SQLITE = pytest.mark.parametrize("backend", ["sqlite"], indirect=True)


def write(number: int) -> None:
    with transaction() as session:
        session.execute(text("UPDATE controller SET address = :address"), {"address": f"Weg {number}"})


@SQLITE
def test_a_transaction_returns_only_after_a_sync_that_began_after_its_commit(
    app: Flask, demo: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    event.listen(database().engine, "commit", lambda _connection: steps.append("commit"))
    real = sqlite._sync

    def sync(path: str) -> None:
        assert Path(path).stat().st_size > 0
        steps.append("sync begins")
        real(path)
        steps.append("sync ends")

    monkeypatch.setattr(sqlite, "_sync", sync)
    write(1)
    steps.append("returned")
    assert steps == ["commit", "sync begins", "sync ends", "returned"]


@SQLITE
def test_nobody_is_told_that_it_is_stored_when_the_disk_refuses(
    app: Flask, demo: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_path: str) -> None:
        raise OSError(5, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(sqlite, "_sync", refuse)
        with pytest.raises(Busy):
            write(1)
    write(2)


class SlowDisk:
    """A disk whose syncs end when told to."""

    def __init__(self) -> None:
        self.begun = 0
        self.may_end = threading.Semaphore(0)
        self.failing = False

    def sync(self, _path: str) -> None:
        self.begun += 1
        self.may_end.acquire()
        if self.failing:
            raise OSError(5, "Input/output error")


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> SlowDisk:
    slow = SlowDisk()
    monkeypatch.setattr(sqlite, "_sync", slow.sync)
    return slow


def test_commits_share_the_next_sync_when_they_come_during_one(disk: SlowDisk) -> None:
    group = GroupSync("log")
    with ThreadPoolExecutor(8) as threads:
        first = threads.submit(group.wait)
        wait_for(lambda: disk.begun == 1, describe="the first sync")
        others = [threads.submit(group.wait) for _ in range(7)]
        wait_for(lambda: group._next.members == 7, describe="seven that wait")
        assert not first.done()
        disk.may_end.release()
        first.result(timeout=10)
        wait_for(lambda: disk.begun == 2, describe="the second sync")
        # The one under way began before these commits, so it says nothing about them.
        assert not any(other.done() for other in others)
        disk.may_end.release()
        for other in others:
            other.result(timeout=10)
    assert disk.begun == 2


def test_the_next_one_syncs_for_itself_when_a_sync_failed(disk: SlowDisk) -> None:
    group = GroupSync("log")
    disk.failing = True
    with ThreadPoolExecutor(2) as threads:
        first = threads.submit(group.wait)
        wait_for(lambda: disk.begun == 1, describe="the first sync")
        second = threads.submit(group.wait)
        wait_for(lambda: group._next.members == 1, describe="one that waits")
        disk.may_end.release()
        with pytest.raises(OSError, match="Input/output"):
            first.result(timeout=10)
        wait_for(lambda: disk.begun == 2, describe="the second sync")
        disk.failing = False
        disk.may_end.release()
        second.result(timeout=10)


def test_all_that_a_failed_sync_was_to_cover_are_refused(disk: SlowDisk) -> None:
    """The disk reports the error once, so a second sync would succeed and mean nothing."""
    group = GroupSync("log")
    with ThreadPoolExecutor(3) as threads:
        first = threads.submit(group.wait)
        wait_for(lambda: disk.begun == 1, describe="the first sync")
        others = [threads.submit(group.wait) for _ in range(2)]
        wait_for(lambda: group._next.members == 2, describe="two that wait")
        disk.may_end.release()
        first.result(timeout=10)
        wait_for(lambda: disk.begun == 2, describe="the second sync")
        disk.failing = True
        disk.may_end.release()
        for other in others:
            with pytest.raises(OSError, match=r"disk refused|Input/output"):
                other.result(timeout=10)
    assert disk.begun == 2


@SQLITE
def test_the_log_is_found_when_the_file_is_a_link(app: Flask, demo: Any, tmp_path: Path) -> None:
    path = Path(database().engine.url.database or "")
    linked = tmp_path / "linked.db"
    linked.symlink_to(path)
    held = Database(create_engine(f"sqlite:///{linked}"), database().keys, database().config)
    assert held._group_sync is not None
    assert held._group_sync._log == f"{path.resolve()}-wal"


def test_a_log_that_went_into_the_database_needs_no_sync(tmp_path: Path) -> None:
    group = GroupSync(str(tmp_path / "signup.db-wal"))
    group.wait()
    (tmp_path / "signup.db-wal").write_bytes(b"x")
    group.wait()
    assert (tmp_path / "signup.db-wal").exists()
