"""The servers that are measured: gunicorn with the settings of production, and Signup complete with its worker."""

from __future__ import annotations

import json
import secrets
import subprocess
import sys
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from bench.cluster import Cluster, running_cluster
from bench.measuring import POSTGRESQL, Settings
from tests.support.ports import free_port
from tests.support.servers import ROOT, Process, clean_environment, http_status, start_process
from tests.support.waiting import wait_for

# Nothing of the measured traffic goes there; only its origin is compared.
PUBLIC_URL = "https://signup.example"


@dataclass
class Server:
    """A running gunicorn and what belongs to it.

    Args:
        more_pids: processes whose cost counts as the server's, such as its database.
    """

    url: str
    environ: dict[str, str]
    folder: Path
    web: Process
    more_pids: tuple[int, ...] = ()
    others: list[Process] = field(default_factory=list)

    @property
    def pids(self) -> tuple[int, ...]:
        return (self.web.popen.pid, *self.more_pids)

    def start_worker(self) -> Process:
        command = [sys.executable, "-m", "flask", "worker"]
        log = self.folder / f"worker-{len(self.others)}.log"
        self.others.append(start_process("worker", command, environ=self.environ, log=log))
        return self.others[-1]

    def stop_workers(self) -> None:
        while self.others:
            self.others.pop().stop(60)


@contextmanager
def gunicorn(
    app: str, folder: Path, environ: Mapping[str, str], *, path: str = "/", more_pids: tuple[int, ...] = ()
) -> Iterator[Server]:
    """`app` served by gunicorn.conf.py: one process of 8 threads, two when DATABASE_URL names PostgreSQL."""
    port = free_port()
    settings = {**environ, "HOST": "127.0.0.1", "PORT": str(port), "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "gunicorn", "-c", "gunicorn.conf.py", app]
    folder.mkdir(parents=True, exist_ok=True)
    web = start_process("web", command, environ=settings, log=folder / "web.log")
    server = Server(f"http://127.0.0.1:{port}", dict(settings), folder, web, more_pids)
    try:
        wait_for(lambda: _ready(server, path), seconds=60, describe=f"{app} at {server.url}")
        yield server
    finally:
        server.stop_workers()
        web.stop(60)


def _ready(server: Server, path: str) -> bool:
    server.web.check_alive()
    return http_status(server.url, path) == 200


def hello(stack: ExitStack, settings: Settings, kind: str) -> Server:
    """A Flask hello with as many processes and threads as Signup has on this kind of database."""
    named = "postgresql://" if kind == POSTGRESQL else ""
    environ = clean_environment(DATABASE_URL=named)
    return stack.enter_context(gunicorn("bench.references.hello:app", settings.folder / f"hello-{kind}", environ))


@dataclass
class Place:
    """Where a Signup keeps its data, prepared but not started."""

    kind: str
    folder: Path
    environ: dict[str, str]
    api_key: str
    cluster: Cluster | None = None

    @property
    def database_pids(self) -> tuple[int, ...]:
        return (self.cluster.process.pid,) if self.cluster else ()


def place(folder: Path, kind: str, cluster: Cluster | None, database: str = "", **more: str) -> Place:
    """An installation in production settings with the demo's controller, forms and an API key."""
    environ = production(folder, cluster.url(database or cluster.create()) if cluster else "", **more)
    return Place(kind, folder, environ, prepared(environ)["api_key"], cluster)


def production(folder: Path, database_url: str, **more: str) -> dict[str, str]:
    """Settings as docs/operations.md asks for; who the client is comes from X-Forwarded-For, as behind a proxy."""
    folder.mkdir(parents=True, exist_ok=True)
    settings = {
        "SIGNUP_INSTANCE": str(folder / "instance"),
        "SECRET_KEY": secrets.token_urlsafe(48),
        "SIGNUP_PEPPER": _key(),
        "SIGNUP_DATA_KEY": _key(),
        "SIGNUP_TRUSTED_PROXIES": "1",
        # The load is no attack.
        "SIGNUP_FORM_PER_HOUR": "1000000",
        "PUBLIC_URL": PUBLIC_URL,
        "MAIL_SERVER": "127.0.0.1",
        "MAIL_PORT": "2525",
        **more,
    }
    if database_url:
        settings["DATABASE_URL"] = database_url
    return clean_environment(**settings)


def _key() -> str:
    return urlsafe_b64encode(secrets.token_bytes(32)).decode()


def prepared(environ: Mapping[str, str]) -> dict[str, str]:
    done = subprocess.run(
        [sys.executable, "-m", "bench.prepare"], env=environ, cwd=ROOT, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"Signup could not be prepared:\n{done.stderr}")
    answer: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return answer


def serve(stack: ExitStack, at: Place) -> Server:
    """Signup's web processes on a prepared place."""
    return stack.enter_context(gunicorn("wsgi:app", at.folder, at.environ, path="/readyz", more_pids=at.database_pids))


def fresh_place(stack: ExitStack, settings: Settings, kind: str, **more: str) -> Place:
    """A new, empty installation on this kind of database."""
    cluster = stack.enter_context(running_cluster()) if kind == POSTGRESQL else None
    return place(settings.folder / f"signup-{kind}-{secrets.token_hex(3)}", kind, cluster, **more)
