"""SQLite's write-ahead log ends in the middle of something: what was committed before is there, and nothing else."""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import sqlite3
import struct
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from signup.app import create_app
from signup.core.config import Config
from signup.core.db import database
from tests.conftest import environment
from tests.faults import oracle
from tests.faults.crowd import Ledger
from tests.faults.rig import is_sound, running_rig

HEADER_BYTES, FRAME_HEADER_BYTES = 32, 24
PEOPLE, CUTS = 8, 30


@dataclass
class Remains:
    """The files of a service that was killed, and what its clients had been promised by then."""

    folder: Path
    ledger: Ledger
    accepted_at: dict[str, int]  # address -> size of the log when the answer came

    @property
    def log(self) -> bytes:
        return (self.folder / "signup.db-wal").read_bytes()

    def commits(self) -> list[int]:
        """Where in the log each commit ends.

        Rule: SQLite file format 4.1, a frame that ends a transaction says how large the database is.
        """
        log = self.log
        step = FRAME_HEADER_BYTES + struct.unpack_from(">I", log, 8)[0]
        salt = log[16:24]
        ends = []
        for start in range(HEADER_BYTES, len(log) - step + 1, step):
            if log[start + 8 : start + 16] != salt:
                break
            if struct.unpack_from(">I", log, start + 4)[0]:
                ends.append(start + step)
        return ends

    def copy(self, folder: Path, log: bytes) -> Path:
        folder.mkdir()
        shutil.copy(self.folder / "signup.db", folder)
        (folder / "signup.db-wal").write_bytes(log)
        return folder


@pytest.fixture(scope="module")
def remains(tmp_path_factory: pytest.TempPathFactory) -> Remains:
    folder = tmp_path_factory.mktemp("rig")
    with running_rig(folder, worker=False) as rig:
        crowd, accepted_at = rig.crowd(), {}
        for number in range(PEOPLE):
            email = f"torn-{number}@beispiel.example"
            assert crowd.sign_up(email)
            accepted_at[email] = (folder / "signup.db-wal").stat().st_size
        assert rig.web is not None
        os.killpg(rig.web.popen.pid, signal.SIGKILL)
        rig.web.popen.wait()
        kept = tmp_path_factory.mktemp("remains")
        for name in ("signup.db", "signup.db-wal"):
            shutil.copy(folder / name, kept)
    return Remains(kept, rig.ledger, accepted_at)


def everything(folder: Path) -> str:
    """A digest of every table."""
    digest = hashlib.sha256()
    with closing(sqlite3.connect(folder / "signup.db")) as connection:
        for line in connection.iterdump():
            digest.update(line.encode())
    return digest.hexdigest()


def judged(folder: Path, ledger: Ledger) -> tuple[oracle.Verdict, set[str]]:
    """What the oracle says of the files, and who is in there."""
    app = create_app(Config.from_env(environment(folder)))
    with app.app_context():
        verdict = oracle.judge(ledger, [], [], finished=False)
        database().engine.dispose()
    lost = {line.split()[0] for line in verdict.lost}
    return verdict, ledger.accepted - lost


def cut(log: bytes, at: int) -> bytes:
    return log[:at]


def overwritten(log: bytes, at: int) -> bytes:
    """The disk holds something else from there on, as after a power cut."""
    return log[:at] + random.Random(at).randbytes(len(log) - at)


@pytest.mark.parametrize("damage", [cut, overwritten])
def test_exactly_the_commits_before_it_are_there_when_the_log_ends_anywhere(
    damage: Callable[[bytes, int], bytes], remains: Remains, tmp_path: Path
) -> None:
    log, ends = remains.log, remains.commits()
    assert len(ends) >= PEOPLE
    states: dict[int, str] = {}
    for number, end in enumerate([0, *ends]):
        folder = remains.copy(tmp_path / f"commit-{number}", log[:end])
        verdict, there = judged(folder, remains.ledger)
        assert verdict.half == []
        assert {email for email, size in remains.accepted_at.items() if size <= end} <= there
        states[end] = everything(folder)
    assert len(set(states.values())) == len(ends) + 1
    dice = random.Random(11)
    for number in range(CUTS):
        at = dice.choice([dice.randrange(len(log)), dice.choice(ends) - 1, dice.choice(ends[:-1]) + 1])
        folder = remains.copy(tmp_path / f"cut-{number}", damage(log, at))
        assert is_sound(folder / "signup.db")
        assert everything(folder) == states[max((end for end in ends if end <= at), default=0)], at


def test_everybody_who_was_accepted_is_there_when_the_killed_service_starts_again(remains: Remains) -> None:
    verdict, there = judged(remains.folder, remains.ledger)
    assert verdict.problems() == []
    assert there == set(remains.accepted_at)
