"""A sealer that is killed at any moment leaves a log that is sound, and the next one goes on."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import func, select

from signup.contacts import actions as contacts
from signup.core.db import reading
from signup.core.values import utc_now
from signup.eventlog import audit, health, sealing, stamping
from signup.eventlog.kinds import EventType
from signup.eventlog.models import Checkpoint, Event, LogTimestamp
from tests.conftest import Place, environment
from tests.faults import sealer
from tests.support.servers import ROOT, clean_environment
from tests.support.tsa import Authority, make_authority, running
from tests.support.waiting import wait_for

KILLS = 50
# From the moment that a sealer says what it is about to do to its end: in the middle of it, or some steps later.
LIFE_SECONDS = (0.0, 0.03)


@pytest.fixture
def tsa(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Authority]:
    with running(make_authority(tmp_path_factory.mktemp("tsa") / "good")) as authority:
        yield authority


@pytest.fixture
def settings(tsa: Authority) -> dict[str, str]:
    return tsa.settings()


class Nursery:
    """Starts sealers and kills them; knows what each was about to do when it died."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._said = bytearray()
        self._lock = threading.Lock()
        threading.Thread(target=self._listen, daemon=True).start()
        self.died_at: Counter[str] = Counter()
        self.committed = 0

    def _listen(self) -> None:
        assert self._process.stdout is not None
        while said := os.read(self._process.stdout.fileno(), 4096):
            with self._lock:
                self._said += said

    def _heard(self) -> bytes:
        with self._lock:
            return bytes(self._said)

    def kill_one(self, step: str, seconds: float, pause: threading.Event) -> None:
        """A sealer that was about to do `step` is dead some `seconds` later."""
        assert self._process.stdin is not None
        with self._lock:
            self._said.clear()
        self._process.stdin.write(b"start\n")
        self._process.stdin.flush()
        # Its number and its first words come from two processes, in any order.
        wait_for(lambda: b"\n" in self._heard() and step.encode() in self._heard(), seconds=60, describe="a sealer")
        number = int(bytes(byte for byte in self._heard().partition(b"\n")[0] if chr(byte).isdigit()))
        pause.wait(seconds)
        os.kill(number, signal.SIGKILL)
        wait_for(lambda: self._heard().count(b"\n") == 2, seconds=60, describe="its end")
        words = self._heard().decode()
        assert "-9" in words, words
        steps = [letter for letter in words if letter in "wcst"]
        self.died_at[steps[-1]] += 1
        self.committed += steps.count("c")


@contextmanager
def nursery(place: Place, settings: dict[str, str], log: Path) -> Iterator[Nursery]:
    environ = {**clean_environment(), **environment(place.folder, place.url, **settings)}
    with (
        log.open("wb") as errors,
        subprocess.Popen(
            [sys.executable, "-m", "tests.faults.sealer"],
            cwd=ROOT,
            env=environ,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
        ) as process,
    ):
        try:
            yield Nursery(process)
        finally:
            process.kill()


@pytest.mark.req("E34")
def test_the_log_is_sound_when_sealing_and_stamping_are_killed_at_random(
    app: Flask, place: Place, settings: dict[str, str], tmp_path: Path
) -> None:
    dice, pause, log = random.Random(11), threading.Event(), tmp_path / "sealer.log"
    with nursery(place, settings, log) as sealers:
        for _ in range(KILLS):
            sealers.kill_one(dice.choice("wsstt"), dice.uniform(*LIFE_SECONDS), pause)
        died_at, committed = sealers.died_at, sealers.committed
    assert died_at.total() == KILLS
    # Otherwise this showed nothing about sealing and stamping.
    assert min(died_at["s"], died_at["t"]) >= 3, died_at
    _finish()
    report = audit.audit(contacts.open_keys)
    assert report.wrong is None, log.read_text(encoding="utf-8")
    assert "damaged" not in log.read_text(encoding="utf-8")
    with reading() as session:
        figures = health.figures(session)
        written = session.scalar(select(func.count()).where(Event.kind == EventType.RETENTION_RUN)) or 0
        places = session.scalars(select(Event.leaf_index).order_by(Event.leaf_index)).all()
        checkpoints = session.scalar(select(func.count()).select_from(Checkpoint))
        stamps = session.scalar(select(func.count()).select_from(LogTimestamp))
    # Nothing that was committed is lost, and each event has one place.
    assert written >= committed * sealer.EVENTS > 0
    assert list(places) == list(range(figures.size))
    assert (figures.unsealed, figures.unstamped_since) == (0, None)
    assert (report.events, report.checkpoints, report.stamps) == (figures.size, checkpoints, stamps)


def _finish() -> None:
    """What is left is done by somebody who lives; on PostgreSQL a dead sealer's lock may last for a moment."""

    def all_sealed() -> Any:
        sealing.run([], utc_now)
        with reading() as session:
            return session.scalar(select(func.count()).where(Event.leaf_index.is_(None))) == 0

    wait_for(all_sealed, seconds=60, describe="the rest to be sealed")
    stamping.run([], utc_now)
