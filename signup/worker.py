"""The worker: claims due work, runs it, and stops cleanly on SIGTERM."""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

from flask import Flask

from signup import jobs, wiring
from signup.core.db import database, reading, transaction
from signup.core.errors import Busy
from signup.core.values import utc_now
from signup.wiring import Clock, Kind, Turn

# At rest a worker asks this often; a mail or webhook leaves within a second of its commit.
IDLE_SECONDS = 0.25
# After an unexpected error the next try waits, so that a broken database is not hammered.
ERROR_SECONDS = 2.0
# Longer than one SMTP dialogue or HTTP request can take.
STOP_SECONDS = 25.0
# Several times within the time that a watchdog allows.
WATCH_SECONDS = 5.0
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)

log = logging.getLogger(__name__)


class ThreadLost(Exception):
    """A thread of the worker has ended though nobody stopped it."""


class JobTurn:
    """Claims one batch of a kind a call, runs it and says how many jobs there were."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        self._run = kind.make()

    def __call__(self, clock: Clock) -> int:
        kind = self.kind
        self._settle(clock)
        with reading() as session:
            if not jobs.any_due(session, kind.name, now=clock()):
                return 0
        with transaction() as session:
            leased = jobs.claim(session, kind.name, now=clock(), limit=kind.batch, lease_seconds=kind.lease_seconds)
        if not leased:
            return 0
        self._run(leased, clock)
        pause = kind.pause(database().config)
        if pause is None:
            return len(leased)
        with transaction() as session:
            for job in leased:
                at = jobs.next_run(clock(), pause)
                jobs.retry(session, job, at=at, error="", burns_attempt=False)
        return 0

    def _settle(self, clock: Clock) -> None:
        """Results that the database could not take last time are written before anything new is begun."""
        settle = getattr(self._run, "settle", None)
        if settle is not None:
            settle(clock)

    def close(self, clock: Clock) -> None:
        close = getattr(self._run, "close", None)
        if close is not None:
            close()


def register_timed_jobs(clock: Clock = utc_now) -> None:
    """Each timed job exists once in the database, however many workers there are."""
    with transaction() as session:
        for kind in wiring.JOBS:
            if kind.every_seconds is not None:
                jobs.every(session, kind.name, now=clock())


def run_until_idle(clock: Clock = utc_now) -> int:
    """Do all work that is due now, in this thread.

    Returns:
        How many jobs and deliveries were done.
    """
    turns: list[Turn] = [*(JobTurn(kind) for kind in wiring.JOBS), *(make() for make in wiring.TURNS)]
    done = 0
    try:
        while count := sum(turn(clock) for turn in turns):
            done += count
    finally:
        for turn in turns:
            turn.close(clock)
    return done


class Worker:
    """At least one thread per kind of work, so that a slow mail server never holds up a webhook."""

    def __init__(self, app: Flask) -> None:
        self.app = app
        self.stopping = threading.Event()
        self.lost = False

    def run(self) -> None:
        """Work until SIGTERM or SIGINT; what is under way is finished, what is leased falls due again.

        Raises:
            ThreadLost: one kind of work would be done no longer, so all of it is to be started again.
        """
        # Taken by sigwait below, not by a handler, which could interrupt the very lock that it needs.
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        makers: list[tuple[str, Callable[[], Turn]]] = [
            (kind.name, _maker(kind)) for kind in wiring.JOBS for _ in range(kind.threads)
        ]
        makers += [(f"turn-{number}", make) for number, make in enumerate(wiring.TURNS)]
        threads = [threading.Thread(target=self._loop, args=maker, name=maker[0], daemon=True) for maker in makers]
        helpers = [threading.Thread(target=self._watch, args=(tuple(threads),), name="watch", daemon=True)]
        if not self._registered():
            helpers.append(threading.Thread(target=self._register, name="timed-jobs", daemon=True))
        for thread in (*threads, *helpers):
            thread.start()
        _notify(b"READY=1")
        log.info("worker started", extra={"threads": len(threads)})
        signal.sigwait(STOP_SIGNALS)
        _notify(b"STOPPING=1")
        self.stopping.set()
        deadline = time.monotonic() + STOP_SECONDS
        for thread in threads:
            thread.join(max(0.0, deadline - time.monotonic()))
        log.info("worker stopped")
        if self.lost:
            raise ThreadLost

    def _registered(self) -> bool:
        """Whether the timed jobs are there; not when the database is away at the moment."""
        try:
            with self.app.app_context():
                register_timed_jobs()
        except Busy:
            log.warning("the database is away, work waits for it")
            return False
        return True

    def _register(self) -> None:
        while not self.stopping.wait(ERROR_SECONDS) and not self._registered():
            pass

    def _watch(self, threads: Sequence[threading.Thread]) -> None:
        """Tell a watchdog that every thread lives; when one has died, end the worker."""
        while not self.stopping.wait(WATCH_SECONDS):
            dead = [thread.name for thread in threads if not thread.is_alive()]
            if dead:
                log.critical("threads of the worker have died", extra={"threads": dead})
                self.lost = True
                os.kill(os.getpid(), signal.SIGTERM)
                return
            _notify(b"WATCHDOG=1")

    def _loop(self, name: str, make: Callable[[], Turn]) -> None:
        with self.app.app_context():
            turn = make()
            while not self.stopping.is_set():
                try:
                    worked = turn(utc_now)
                except Exception:
                    log.exception("work failed and will be tried again", extra={"work": name})
                    self.stopping.wait(ERROR_SECONDS)
                    continue
                if not worked:
                    self.stopping.wait(IDLE_SECONDS)
            turn.close(utc_now)


def _notify(state: bytes) -> None:
    """Tell whoever started us, by systemd's protocol, how we are."""
    path = os.environ.get("NOTIFY_SOCKET")
    if not path:
        return
    # Whoever listened may be gone, or listen no longer and leave the queue full; that is no reason to stop working,
    # nor to wait here for ever when told to stop.
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notice:
        notice.setblocking(False)
        notice.sendto(state, "\0" + path[1:] if path.startswith("@") else path)


def _maker(kind: Kind) -> Callable[[], Turn]:
    return lambda: JobTurn(kind)
