"""The whole service as processes that may be killed: gunicorn, a worker, a mail server, webhook receivers."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from flask import Flask
from flask_migrate import upgrade
from sqlalchemy import func, select

from signup import demo, jobs
from signup.app import create_app
from signup.core.config import Config
from signup.core.db import database, reading, transaction
from signup.core.signing import Keys
from signup.eventlog.models import Publication
from signup.mail.compose import JOB_SEND
from signup.mail.models import Message
from signup.webhooks import endpoints
from signup.webhooks.models import Delivery, DeliveryState, Endpoint
from tests.conftest import environment
from tests.faults import oracle
from tests.faults.clock import SETTING, SharedClock
from tests.faults.crowd import Crowd, Ledger
from tests.support.ports import free_port
from tests.support.receiver import Receiver, running_receiver
from tests.support.servers import ROOT, Process, clean_environment, http_status, start_process
from tests.support.smtp import ScriptedSmtp, running_smtp
from tests.support.waiting import wait_for

PATIENCE_SECONDS = 60.0
# Longer than any lease of a mail or delivery.
LEASE_SECONDS = 61
TYPES = [oracle.REQUESTED, oracle.CONFIRMED]
HOOKS = 2
# A mail server in a test on a busy machine may need a second; one that took longer would be sent a copy.
MAIL_TIMEOUT_SECONDS = 5
# Longer than any mail or post is under way here; then what is left waits for its time.
IDLE_SECONDS = 2.5


@dataclass
class Rig:
    """One installation under fault; its ledger grows over all faults."""

    folder: Path
    environ: dict[str, str]
    port: int
    clock: SharedClock
    smtp: ScriptedSmtp
    receiver: Receiver
    keys: Keys
    ledger: Ledger = field(default_factory=Ledger)
    kills: Counter[str] = field(default_factory=Counter)
    restarts: int = 0
    web: Process | None = None
    nursery: subprocess.Popen[str] | None = None
    worker: int | None = None
    _logs: int = 0
    _seen: set[str] = field(default_factory=set)

    # --- processes ---------------------------------------------------------------------------------------------------

    def start_web(self) -> None:
        command = [sys.executable, "-m", "gunicorn", "-c", "gunicorn.conf.py", "tests.faults.web:app"]
        self._logs += 1
        log = self.folder / f"web-{self._logs}.log"
        self.web = start_process("web", command, environ=self.environ, log=log)

    def wait_ready(self) -> None:
        web = self.web
        assert web is not None

        def ready() -> bool:
            web.check_alive()
            return http_status(f"http://127.0.0.1:{self.port}", "/readyz") == 200

        wait_for(ready, seconds=PATIENCE_SECONDS, describe="the web server")

    def web_workers(self) -> list[psutil.Process]:
        assert self.web is not None
        with suppress(psutil.NoSuchProcess):
            return list(psutil.Process(self.web.popen.pid).children())
        return []

    def start_worker(self) -> None:
        if self.nursery is None:
            with (self.folder / "worker.log").open("wb") as log:
                self.nursery = subprocess.Popen(
                    [sys.executable, "-m", "tests.faults.worker"],
                    cwd=ROOT,
                    env=self.environ,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    text=True,
                    start_new_session=True,
                )
        self._ask("start")
        self.worker = int(self._answer())

    def _ask(self, line: str) -> None:
        assert self.nursery is not None
        assert self.nursery.stdin is not None
        self.nursery.stdin.write(line + "\n")
        self.nursery.stdin.flush()

    def _answer(self) -> str:
        assert self.nursery is not None
        assert self.nursery.stdout is not None
        line = self.nursery.stdout.readline()
        assert line, f"no worker:\n{self.logs()}"
        return line.strip()

    def pids(self) -> list[int]:
        """Everybody who writes: web processes and the worker."""
        return [*(child.pid for child in self.web_workers()), *([self.worker] if self.worker else [])]

    # --- kills -------------------------------------------------------------------------------------------------------

    def kill_worker(self, *, jump: bool = True) -> None:
        """The worker is dead, and a minute later (without `jump` at once) another one starts."""
        self.end_worker()
        # Its leases end by themselves; nobody writes meanwhile, so nobody else's do.
        if jump:
            self.clock.jump(LEASE_SECONDS)
        self.start_worker()

    def end_worker(self) -> None:
        """The worker is dead, and what it held is noted."""
        assert self.worker is not None
        os.kill(self.worker, signal.SIGKILL)
        ended = int(self._answer())
        assert ended == -signal.SIGKILL, f"the worker had ended by itself with {ended}:\n{self.logs()}"
        self.worker = None
        self.kills["worker"] += 1
        self.note_in_flight()

    def kill_web_worker(self) -> None:
        """A web process is dead; gunicorn starts another one."""
        workers = wait_for(self.web_workers, seconds=PATIENCE_SECONDS, describe="a web process")
        with suppress(psutil.NoSuchProcess):
            workers[self.kills.total() % len(workers)].kill()
            self.kills["web process"] += 1

    def kill_web(self, *, master_only: bool = False) -> None:
        """Gunicorn is dead, and a supervisor starts it again.

        Args:
            master_only: its processes live on for a moment, until they miss it; otherwise all die at once.
        """
        assert self.web is not None
        if master_only:
            self.web.popen.kill()
        else:
            os.killpg(self.web.popen.pid, signal.SIGKILL)
        self.web.popen.wait()
        self.kills["gunicorn master" if master_only else "gunicorn"] += 1
        self.start_web()
        self.wait_ready()

    def note_in_flight(self) -> None:
        """Mails and posts that are leased now may arrive twice; each lease is counted once."""
        with reading() as session:
            mails = session.execute(
                select(jobs.JobRow.lease_token, jobs.JobRow.payload, jobs.JobRow.id).where(
                    jobs.JobRow.kind == JOB_SEND, jobs.JobRow.lease_token.is_not(None)
                )
            ).all()
            wanted = [row.payload["message"] for row in mails if row.lease_token + row.id not in self._seen]
            header_ids = session.scalars(select(Message.message_id).where(Message.id.in_(wanted))).all()
            posts = session.execute(
                select(Delivery.lease_token, Delivery.id, Publication.id.label("ident"), Endpoint.url)
                .join(Publication, Publication.id == Delivery.publication_id)
                .join(Endpoint, Endpoint.id == Delivery.endpoint_id)
                .where(Delivery.lease_token.is_not(None), Delivery.state == DeliveryState.DUE)
            ).all()
        self.ledger.mails_in_flight.update(str(ident) for ident in header_ids)
        for row in posts:
            if row.lease_token + row.id not in self._seen:
                self.ledger.posts_in_flight[("/" + row.url.rpartition("/")[2], row.ident)] += 1
        self._seen |= {row.lease_token + row.id for row in [*mails, *posts]}

    # --- load and verdict --------------------------------------------------------------------------------------------

    def crowd(self, **options: Any) -> Crowd:
        return Crowd(self.ledger, self.smtp, self.port, self.keys, self.clock, **options)

    def drain(self, *, seconds: float = 120, jumps: bool = True) -> None:
        """The worker that runs now has done all that is owed.

        Args:
            jumps: when nothing moves, time moves on to the next try; without it, the real time passes.
        """
        best, since = oracle.unfinished(), time.monotonic()
        deadline = since + seconds
        while left := oracle.unfinished():
            now = time.monotonic()
            if left < best:
                best, since = left, now
            elif jumps and now - since > IDLE_SECONDS:
                self._go_to_next_try()
                since = now
            assert now < deadline, f"{left} things are not done after {seconds:g} s\n{self.logs()}"
            time.sleep(0.05)

    def _go_to_next_try(self) -> None:
        """What is under way meanwhile may be taken for abandoned."""
        self.note_in_flight()
        with reading() as session:
            mail = select(func.min(jobs.JobRow.next_at)).where(jobs.JobRow.kind == JOB_SEND)
            post = select(func.min(Delivery.next_at)).where(Delivery.state == DeliveryState.DUE)
            times = [at for at in (session.scalar(mail), session.scalar(post)) if at is not None]
        wait = (min(times) - self.clock()).total_seconds() if times else 0
        if wait > 0:
            self.clock.jump(wait + 1)
        self.note_in_flight()

    def judge(self) -> oracle.Verdict:
        return oracle.judge(self.ledger, self.smtp.received, self.receiver.requests)

    def settle(self, **options: Any) -> oracle.Verdict:
        """All is done, and nothing is wrong."""
        self.drain(**options)
        verdict = self.judge()
        problems = verdict.problems()
        assert problems == [], f"{len(problems)} problems, such as {problems[:10]}\n{self.logs()}"
        return verdict

    def check_same_processes(self, before: list[int]) -> None:
        """Nobody had to be started again."""
        assert sorted(self.pids()) == sorted(before), self.logs()
        assert all(psutil.pid_exists(pid) for pid in before), self.logs()

    def worker_log(self) -> str:
        return (self.folder / "worker.log").read_text(errors="replace")

    def logs(self, lines: int = 40) -> str:
        texts = []
        for path in sorted(self.folder.glob("*.log")):
            kept = [line for line in path.read_text(errors="replace").splitlines() if '"request"' not in line]
            texts.append("\n".join([f"--- {path.name}", *kept[-lines:]]))
        return "\n".join(texts)

    def stop(self) -> None:
        if self.worker is not None:
            with suppress(ProcessLookupError):
                os.kill(self.worker, signal.SIGTERM)
        if self.nursery is not None and self.nursery.stdin is not None:
            self.nursery.stdin.close()
            try:
                self.nursery.wait(30)
            finally:
                with suppress(ProcessLookupError):
                    os.killpg(self.nursery.pid, signal.SIGKILL)
                if self.nursery.stdout is not None:
                    self.nursery.stdout.close()
        if self.web is not None:
            self.web.stop(40)


def build(folder: Path, url: str | None, hooks: str) -> None:
    """An empty database becomes migrated and holds the demo with endpoints at `hooks`/1, /2 ..."""
    app = create_app(Config.from_env(environment(folder, url)))
    with app.app_context():
        upgrade()
        with transaction() as session:
            now = SharedClock(folder / "clock")()
            controller = demo.seed(session, now=now)
            for number in range(1, HOOKS + 1):
                endpoints.create(session, controller.id, f"{hooks}/hook-{number}", TYPES, now=now)
        database().engine.dispose()


@contextmanager
def running_rig(folder: Path, url: str | None = None, *, worker: bool = True, fast: bool = False) -> Iterator[Rig]:
    """A service on an empty database, with an app context to look into it, for as long as the block runs.

    Args:
        fast: gunicorn loads the application once for all its processes, so that a dead one is replaced at once.
    """
    port = free_port()
    with running_smtp() as smtp, running_receiver() as receiver:
        build(folder, url, receiver.url)
        settings = environment(
            folder,
            url,
            MAIL_PORT=str(smtp.port),
            MAIL_TIMEOUT=str(MAIL_TIMEOUT_SECONDS),
            HOST="127.0.0.1",
            PORT=str(port),
            PUBLIC_URL=f"http://127.0.0.1:{port}",
        )
        environ = clean_environment(**settings)
        environ[SETTING] = str(folder / "clock")
        if fast:
            environ["GUNICORN_CMD_ARGS"] = "--preload"
        app = create_app(Config.from_env(settings))
        clock = SharedClock(folder / "clock")
        with app.app_context():
            rig = Rig(folder, environ, port, clock, smtp, receiver, _keys(app))
            try:
                rig.start_web()
                if worker:
                    rig.start_worker()
                rig.wait_ready()
                yield rig
            finally:
                try:
                    rig.stop()
                finally:
                    database().engine.dispose()


def _keys(app: Flask) -> Keys:
    config = app.extensions["signup.config"]
    return Keys(config.secret_keys, config.pepper, config.data_key)


def is_sound(path: Path) -> bool:
    """SQLite finds nothing wrong with the file."""
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)] and not (
            connection.execute("PRAGMA foreign_key_check").fetchall()
        )


def until(condition: Callable[[], Any], what: str, seconds: float = PATIENCE_SECONDS) -> None:
    wait_for(condition, seconds=seconds, describe=what)
