"""A PostgreSQL of the rig's own, which may be stopped in the middle and started again."""

from __future__ import annotations

import secrets
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
from sqlalchemy.engine import URL

from tests.support import postgres
from tests.support.ports import free_port
from tests.support.postgres import PostgresServer
from tests.support.waiting import wait_for

# The machine does not lose power here, so the system's cache holds what the server wrote. But unlike other tests'
# servers, this one must have written it when it says so: synchronous_commit stays on.
FAST = ("fsync=off", "full_page_writes=off", "max_connections=100")


@dataclass
class Cluster:
    """Start and stop as often as you like; the data stays."""

    binaries: Path
    folder: Path
    identity: dict[str, Any]
    port: int = field(default_factory=free_port)
    password: str = field(default_factory=lambda: secrets.token_hex(16))
    process: subprocess.Popen[bytes] | None = None

    @property
    def server(self) -> PostgresServer:
        query = {"host": str(self.folder)}
        url = URL.create(
            "postgresql+psycopg", "postgres", self.password, port=self.port, database="postgres", query=query
        )
        return PostgresServer(url)

    def start(self) -> None:
        settings = (*FAST, "listen_addresses=127.0.0.1", f"port={self.port}", f"unix_socket_directories={self.folder}")
        options = [part for item in settings for part in ("-c", item)]
        command = [str(self.binaries / "postgres"), "-D", str(self.folder / "data"), *options]
        with (self.folder / "log").open("ab") as log:
            process = subprocess.Popen(
                command, stdout=log, stderr=log, start_new_session=True, cwd=self.folder, **self.identity
            )
        self.process = process
        wait_for(
            lambda: postgres._accepts(self.server, process, self.folder / "log"), seconds=60, describe="PostgreSQL"
        )

    def stop(self, how: int = signal.SIGINT) -> None:
        """SIGINT is a fast stop; SIGQUIT an immediate one, after which the server recovers from its log."""
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(30)
            self.process = None

    def pids(self) -> list[int]:
        """The server and its backends as they are now."""
        assert self.process is not None
        return [self.process.pid, *(child.pid for child in psutil.Process(self.process.pid).children())]


@contextmanager
def running_cluster(*initdb: str) -> Iterator[Cluster]:
    """A server for as long as the block runs.

    Raises:
        PostgresMissing: there are no binaries.
    """
    binaries = postgres.find_binaries()
    with tempfile.TemporaryDirectory(prefix="pgf") as name:
        folder = Path(name)
        identity = postgres._lent_identity(folder)
        if identity:
            binaries = postgres._reachable(binaries, folder)
        cluster = Cluster(binaries, folder, identity)
        postgres._initdb(binaries, folder, cluster.password, identity, *initdb)
        cluster.start()
        try:
            yield cluster
        finally:
            cluster.stop()
