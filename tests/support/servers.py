"""The web server and the worker as real processes, the way they run in production."""

import http.client
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from tests.support.ports import free_port
from tests.support.waiting import wait_for

ROOT = Path(__file__).resolve().parents[2]
# What a developer has set for the real thing must not reach a test's processes.
OWN_SETTINGS = (
    "SIGNUP_",
    "MAIL_",
    "SECRET_KEY",
    "DATABASE_URL",
    "PUBLIC_URL",
    "HOST",
    "PORT",
    "FLASK_",
    "NOTIFY_SOCKET",
)


def clean_environment(**settings: str) -> dict[str, str]:
    """This process's environment without any setting of Signup, plus `settings`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(OWN_SETTINGS)}
    return {**kept, "PYTHONUNBUFFERED": "1", **settings}


@dataclass
class Process:
    """A started program whose output goes to a file that a failing test can show."""

    name: str
    popen: "subprocess.Popen[bytes]"
    log: Path

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def check_alive(self) -> None:
        if self.popen.poll() is not None:
            raise AssertionError(f"{self.name} ended with {self.popen.returncode}:\n{self.output()}")

    def stop(self, seconds: float = 15.0) -> int:
        """SIGTERM, and SIGKILL to its own group for what is left after `seconds`; returns the exit code."""
        if self.popen.poll() is None:
            self.popen.send_signal(signal.SIGTERM)
        try:
            return self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(self.popen.pid, signal.SIGKILL)
            self.popen.wait()
            raise AssertionError(f"{self.name} did not stop within {seconds:g} s:\n{self.output()}") from None


def start_process(name: str, arguments: list[str], *, environ: Mapping[str, str], log: Path) -> Process:
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        popen = subprocess.Popen(
            arguments,
            cwd=ROOT,
            env=environ,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    return Process(name, popen, log)


def run_flask(*arguments: str, environ: Mapping[str, str]) -> "subprocess.CompletedProcess[str]":
    """`flask ARGUMENTS`, finished; the caller looks at returncode, stdout and stderr."""
    command = [sys.executable, "-m", "flask", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environ, capture_output=True, text=True, timeout=120, check=False)


def http_status(url: str, path: str, *, seconds: float = 5) -> int:
    """The status of a GET, 0 when nobody answers."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=seconds)
    try:
        connection.request("GET", path)
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


@dataclass
class Service:
    """A running installation."""

    url: str
    environ: dict[str, str]
    folder: Path
    processes: list[Process] = field(default_factory=list)

    def start_web(self) -> Process:
        command = [sys.executable, "-m", "gunicorn", "-c", "gunicorn.conf.py", "wsgi:app"]
        return self._start("web", command, self.environ)

    def start_worker(self) -> Process:
        return self._start("worker", [sys.executable, "-m", "flask", "worker"], self.environ)

    def flask(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return run_flask(*arguments, environ=self.environ)

    def wait_ready(self, seconds: float = 30.0) -> None:
        def ready() -> bool:
            for process in self.processes:
                process.check_alive()
            return http_status(self.url, "/readyz") == http.HTTPStatus.OK

        wait_for(ready, seconds=seconds, describe=f"{self.url}/readyz")

    def stop(self) -> None:
        for process in self.processes:
            if process.popen.poll() is None:
                process.popen.send_signal(signal.SIGTERM)
        for process in self.processes:
            process.stop()

    def logs(self) -> str:
        return "\n".join(f"--- {process.name}\n{process.output()}" for process in self.processes)

    def _start(self, name: str, command: list[str], environ: Mapping[str, str]) -> Process:
        log = self.folder / f"{name}-{len(self.processes)}.log"
        self.processes.append(start_process(name, command, environ=environ, log=log))
        return self.processes[-1]


@contextmanager
def running_service(
    folder: Path, *, database_url: str | None = None, workers: int = 1, migrate: bool = True, **settings: str
) -> Iterator[Service]:
    """Web and `workers` worker processes on free ports, ready, stopped at the end of the block.

    Args:
        folder: where the instance folder and the logs go.
        database_url: none means the SQLite file of the instance folder.
        migrate: bring the database to the newest version first.
        settings: environment variables, such as MAIL_SERVER; SIGNUP_ENV is development unless given.
    """
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    base = {"SIGNUP_ENV": "development", "SIGNUP_INSTANCE": str(folder / "instance"), "HOST": "127.0.0.1"}
    base |= {"PORT": str(port), "PUBLIC_URL": url} | ({"DATABASE_URL": database_url} if database_url else {})
    service = Service(url, clean_environment(**{**base, **settings}), folder)
    if migrate:
        done = service.flask("db", "upgrade")
        if done.returncode:
            raise AssertionError(f"flask db upgrade: {done.stdout}{done.stderr}")
    try:
        service.start_web()
        for _ in range(workers):
            service.start_worker()
        service.wait_ready()
        yield service
    finally:
        service.stop()
