"""A PostgreSQL that forgets nothing: as durable as in production, unlike the one that the tests use."""

from __future__ import annotations

import secrets
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
from sqlalchemy.engine import URL

from tests.support import postgres
from tests.support.ports import free_port
from tests.support.waiting import wait_for

# A quarter of a small server's memory is what PostgreSQL's own handbook starts from; the rest stays as shipped.
SETTINGS = ("fsync=on", "synchronous_commit=on", "full_page_writes=on", "shared_buffers=512MB", "max_connections=200")


class Cluster:
    """A running server and the id of its main process."""

    def __init__(self, admin: URL, process: subprocess.Popen[bytes]) -> None:
        self.admin = admin
        self.process = process

    def url(self, name: str) -> str:
        """The URL of a database as DATABASE_URL wants it; over TCP, as from another machine."""
        return self.admin.set(database=name, drivername="postgresql").render_as_string(hide_password=False)

    def create(self, template: str = "template0") -> str:
        """The name of a new database, a copy of `template`."""
        name = f"bench_{secrets.token_hex(4)}"
        self.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return name

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
        with psycopg.connect(self.url(database), autocommit=True) as connection:
            cursor = connection.execute(statement)
            return cursor.fetchall() if cursor.description else []

    @property
    def version(self) -> str:
        return str(self.execute("SHOW server_version")[0][0])


@contextmanager
def running_cluster(folder: Path | None = None) -> Iterator[Cluster]:
    """A server for as long as the block runs; its data stays in `folder` if one is given.

    Raises:
        PostgresMissing: no PostgreSQL was found.
    """
    if folder is not None:
        folder.mkdir(parents=True, exist_ok=True)
        with _serving(folder) as cluster:
            yield cluster
        return
    with tempfile.TemporaryDirectory(prefix="bench-pg") as temporary, _serving(Path(temporary)) as cluster:
        yield cluster


@contextmanager
def _serving(folder: Path) -> Iterator[Cluster]:
    binaries = postgres.find_binaries()
    identity = postgres._lent_identity(folder)
    if identity:
        binaries = postgres._reachable(binaries, folder)
    kept, password = folder / "kept-password", secrets.token_hex(16)
    if not (folder / "data").exists():
        postgres._initdb(binaries, folder, password, identity)
        kept.write_text(password)
        kept.chmod(0o600)
    port = free_port()
    settings = (*SETTINGS, "listen_addresses=127.0.0.1", f"port={port}", f"unix_socket_directories={folder}")
    command = [str(binaries / "postgres"), "-D", str(folder / "data")]
    command += [part for setting in settings for part in ("-c", setting)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=folder, start_new_session=True, **identity)
    admin = URL.create("postgresql", "postgres", kept.read_text(), "127.0.0.1", port, "postgres")
    cluster = Cluster(admin, process)
    try:
        wait_for(lambda: _accepts(cluster, folder / "log"), seconds=120, describe="PostgreSQL")
        yield cluster
    finally:
        # A fast stop: it would otherwise wait for clients that an error left behind.
        process.send_signal(signal.SIGINT)
        process.wait(60)


def _accepts(cluster: Cluster, log: Path) -> bool:
    if cluster.process.poll() is not None:
        raise RuntimeError(f"PostgreSQL ended at once:\n{log.read_text(errors='replace')}")
    try:
        return bool(cluster.execute("SELECT 1"))
    except psycopg.OperationalError:
        return False
