"""Several machines on one PostgreSQL: each its own processes, folders and home; nothing shared but the database.

They run as in production. What a test adds is one clock for all, so that a lease can end without anybody waiting.
"""

from __future__ import annotations

import itertools
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from sqlalchemy import delete, text, update

from signup.app import create_app
from signup.core.config import Config
from signup.core.db import Base, database, reading, transaction
from signup.forms.models import Form
from tests.conftest import environment
from tests.faults import oracle
from tests.faults.clock import SETTING, SharedClock
from tests.faults.crowd import Crowd, Ledger
from tests.faults.rig import MAIL_TIMEOUT_SECONDS, PATIENCE_SECONDS, Rig, _keys, build, until
from tests.journeys.world import Answer, call
from tests.machines.watch.sitecustomize import SIGN
from tests.support import receiver as receivers
from tests.support.ports import free_port
from tests.support.receiver import running_receiver
from tests.support.servers import ROOT, Process, clean_environment, http_status
from tests.support.smtp import Behaviour, running_smtp

PUBLIC_URL = "https://signup.example"
NAMES = ("machine-a", "machine-b")
# What a controller has before the first visitor comes, and the timed jobs.
KEPT = ("controller", "topic", "purpose", "consent_text", "form", "form_version", "endpoint", "endpoint_type", "job")


@dataclass
class Machine:
    """One gunicorn and one worker with folders of their own; what they say goes through pipes, as to a journal."""

    name: str
    folder: Path
    logs: Path
    environ: dict[str, str]
    port: int
    programs: dict[str, Process] = field(default_factory=dict)
    readers: list[threading.Thread] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    starts: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        self.starts += 1
        web = ["-m", "gunicorn", "-c", str(ROOT / "gunicorn.conf.py"), "tests.faults.web:app"]
        self.programs = {"web": self._start("web", web), "worker": self._start("worker", [*COMMAND, "worker"])}

    def _start(self, name: str, arguments: list[str]) -> Process:
        popen = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=self.folder / "work",
            env=self.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        assert popen.stdout is not None
        log = self.logs / f"{self.name}-{name}-{self.starts}.log"
        log.touch()
        self.readers.append(threading.Thread(target=_keep, args=(popen.stdout, log), daemon=True))
        self.readers[-1].start()
        return Process(f"{name} of {self.name}", popen, log)

    def wait_ready(self) -> None:
        def ready() -> bool:
            for program in self.programs.values():
                program.check_alive()
            return "worker started" in self.programs["worker"].output() and http_status(self.url, "/readyz") == 200

        until(ready, f"machine {self.name}")

    @property
    def runs(self) -> bool:
        return bool(self.programs) and all(program.popen.poll() is None for program in self.programs.values())

    def flask(self, *arguments: str) -> None:
        """A command of the operator on this machine."""
        self.said.append(self._run(*COMMAND, *arguments))

    def python(self, program: str) -> str:
        """What a program on this machine says on standard error."""
        return self._run("-c", program)

    def _run(self, *arguments: str) -> str:
        command, work = [sys.executable, *arguments], self.folder / "work"
        done = subprocess.run(
            command, cwd=work, env=self.environ, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        return done.stderr

    def written(self) -> set[str]:
        """Every path that a program of this machine opened to write or made."""
        said = [*self.said, *(path.read_text() for path in self.logs.glob(f"{self.name}-*.log"))]
        lines = [line for output in said for line in output.splitlines() if line.startswith(SIGN)]
        return {line.removeprefix(SIGN) for line in lines}

    def signal_worker(self, number: signal.Signals) -> None:
        self.programs["worker"].popen.send_signal(number)

    def kill(self) -> None:
        """Everything on it is gone at once, as when the power fails, and the database has noticed."""
        for program in self.programs.values():
            with suppress(ProcessLookupError):
                os.killpg(program.popen.pid, signal.SIGKILL)
        for program in self.programs.values():
            program.popen.wait()
        # What it had sent off before is still carried out.
        until(lambda: self.connections() == 0, "the end of its connections")

    def connections(self) -> int:
        mine = "datname = current_database() AND application_name = :name"
        query = text(f"SELECT count(*) FROM pg_stat_activity WHERE {mine}")
        with reading() as session:
            return session.scalar(query, {"name": self.environ["PGAPPNAME"]}) or 0

    def stop(self) -> None:
        for program in self.programs.values():
            if program.popen.poll() is None:
                program.popen.send_signal(signal.SIGCONT)
                program.popen.send_signal(signal.SIGTERM)
        try:
            for program in self.programs.values():
                program.stop(40)
        finally:
            for reader in self.readers:
                reader.join(10)

    def files(self) -> list[Path]:
        """Whatever is in its folders and is no folder."""
        return [path for path in sorted(self.folder.rglob("*")) if not path.is_dir()]


WATCH = Path(__file__).parent / "watch"
COMMAND = ("-m", "tests.machines.command")


def _keep(stream: IO[bytes], log: Path) -> None:
    with stream, log.open("wb") as file:
        for line in stream:
            file.write(line)
            file.flush()


class EitherDoor(Crowd):
    """People whom a balancer sends to one machine or the other, each from a network of their own."""

    def __init__(self, fleet: Fleet, **options: Any) -> None:
        rig = fleet.rig
        super().__init__(rig.ledger, rig.smtp, 0, rig.keys, rig.clock, **options)
        self.fleet = fleet
        self.doors = itertools.cycle([machine.port for machine in fleet.machines])

    def post(self, path: str, fields: dict[str, str], **headers: str) -> int:
        # Whichever thread reads it, either door is a good one.
        self.port = next(self.doors)
        return super().post(path, fields, **{"X-Forwarded-For": self.fleet.network(), **headers})


@dataclass
class Fleet:
    """The machines, and one more to look on: `rig` knows what clients saw and judges what became of it."""

    machines: list[Machine]
    rig: Rig
    networks: Iterator[int] = field(default_factory=itertools.count)

    def network(self) -> str:
        """The address of somebody whom no budget has seen."""
        number = next(self.networks)
        return f"10.{number >> 8 & 255}.{number & 255}.7"

    def post(
        self, machine: Machine, path: str, fields: Mapping[str, Any], *, ip: str | None = None, **headers: str
    ) -> Answer:
        return call("POST", machine.url + path, fields, {"X-Forwarded-For": ip or self.network(), **headers})

    def begin(self) -> None:
        """All machines run, have nothing to do, and know nobody."""
        for machine in self.machines:
            if not machine.runs:
                machine.start()
        for machine in self.machines:
            machine.wait_ready()
        until(lambda: oracle.unfinished() == 0, "the end of what was owed before")
        with transaction() as session:
            for table in reversed(Base.metadata.sorted_tables):
                if table.name not in KEPT:
                    session.execute(delete(table))
            session.execute(update(Form).values(closed=False))
        self.rig.smtp.behaviour = Behaviour()
        self.rig.receiver.default = receivers.Answer(200)
        self.rig.smtp.received.clear()
        self.rig.receiver.requests.clear()
        self.rig.ledger = Ledger()

    def crowd(self, **options: Any) -> EitherDoor:
        return EitherDoor(self, **options)

    def known(self, email: str, *, confirmed: bool = False) -> None:
        """The test itself signed this person up."""
        ledger = self.rig.ledger
        for group in (ledger.tried, ledger.accepted, *((ledger.confirming, ledger.confirmed) if confirmed else ())):
            group.add(email)


def hidden(page: str) -> dict[str, str]:
    """The hidden fields of a page's form."""
    tags = re.findall(r"<input[^>]*type=\"hidden\"[^>]*>", page)
    return {
        re.findall(r'name="([^"]*)"', tag)[0]: re.findall(r'value="([^"]*)"', tag)[0]
        for tag in tags
        if 'name="' in tag and 'value="' in tag
    }


@contextmanager
def running_fleet(folder: Path, url: str) -> Iterator[Fleet]:
    """The machines on an empty database with the demo, for as long as the block runs."""
    office, logs = folder / "office", folder / "logs"
    office.mkdir()
    logs.mkdir()
    with running_smtp() as smtp, running_receiver() as receiver:
        build(office, url, receiver.url)
        settings = environment(
            office,
            url,
            SIGNUP_ENV="production",
            PUBLIC_URL=PUBLIC_URL,
            SIGNUP_TRUSTED_PROXIES="1",
            SIGNUP_FORM_PER_HOUR="1000000",
            MAIL_PORT=str(smtp.port),
            MAIL_TIMEOUT=str(MAIL_TIMEOUT_SECONDS),
        )
        clock = SharedClock(office / "clock")
        machines = [_machine(name, folder / name, logs, settings, clock) for name in NAMES]
        app = create_app(Config.from_env(settings))
        with app.app_context():
            try:
                yield Fleet(machines, Rig(logs, {}, 0, clock, smtp, receiver, _keys(app)))
            finally:
                try:
                    for machine in machines:
                        machine.stop()
                finally:
                    database().engine.dispose()


def _machine(name: str, folder: Path, logs: Path, settings: Mapping[str, str], clock: SharedClock) -> Machine:
    for part in ("home", "tmp", "work"):
        (folder / part).mkdir(parents=True)
    port = free_port()
    own = {
        **settings,
        "SIGNUP_INSTANCE": str(folder / "instance"),
        "HOST": "127.0.0.1",
        "PORT": str(port),
        # One process each: the machine that the tests run on is small, and two machines make two processes.
        "WEB_CONCURRENCY": "1",
        "HOME": str(folder / "home"),
        "TMPDIR": str(folder / "tmp"),
        "PYTHONPATH": f"{WATCH}{os.pathsep}{ROOT}",
        "PYTHONDONTWRITEBYTECODE": "1",
        "FLASK_APP": "wsgi:app",
        "PGAPPNAME": name,
        SETTING: str(clock.path),
    }
    return Machine(name, folder, logs, clean_environment(**own), port)


__all__ = ["PATIENCE_SECONDS", "Fleet", "Machine", "hidden", "running_fleet"]
