"""Filled databases that outlive the run: made once, then used again and again until the program has changed."""

from __future__ import annotations

import fcntl
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import servers
from bench.cluster import Cluster, running_cluster
from bench.measuring import POSTGRESQL, Settings
from bench.servers import Place
from bench.sink import running_sink
from tests.support.servers import ROOT, run_flask

# Raised by hand when fill.py makes other rows than before. New migrations are simply run on what is there.
FORMAT = 1
# The counters in it are forgotten after a month.
KEEP_SECONDS = 25 * 86_400
SECRETS = ("SECRET_KEY", "SIGNUP_PEPPER", "SIGNUP_DATA_KEY")


@dataclass
class Store:
    """The folder of filled databases and the cluster in it; one bench at a time uses it."""

    folder: Path
    cluster: Cluster | None

    def place(self, kind: str, rows: int, **extra: int) -> tuple[Place, Path]:
        """A database of this kind with `rows` settled people, and some for this run alone.

        Args:
            extra: how many fresh people of a kind: pending, confirmed.

        Returns:
            The place to serve from, and the file that says what the database holds.
        """
        home = self.folder / f"{kind.lower()}-{rows}"
        place = self._kept(home, kind) or self._made(home, kind)
        migrated = run_flask("db", "upgrade", environ=place.environ)
        if migrated.returncode:
            raise RuntimeError(f"flask db upgrade: {migrated.stderr}")
        with running_sink() as sink:
            environ = {**place.environ, "MAIL_PORT": str(sink.port)}
            more = [part for name, count in extra.items() for part in (f"--{name}", str(count))]
            command = [sys.executable, "-m", "bench.fill", str(home / "state"), "--settled", str(rows), *more]
            subprocess.run(command, cwd=ROOT, env=environ, check=True)
        return place, home / "state"

    def _kept(self, home: Path, kind: str) -> Place | None:
        if not (home / "place.json").exists() or not (home / "state").exists():
            return None
        known = json.loads((home / "place.json").read_text())
        if known["format"] != FORMAT or time.time() - known["made_at"] > KEEP_SECONDS:
            return None
        more = {name: known["secrets"][name] for name in SECRETS}
        cluster = self.cluster if kind == POSTGRESQL else None
        url = cluster.url(known["database"]) if cluster else ""
        environ = servers.production(home, url, **more, **OUTBOUND)
        return Place(kind, home, environ, known["api_key"], cluster)

    def _made(self, home: Path, kind: str) -> Place:
        if home.exists():
            self._forget(home, kind)
        cluster = self.cluster if kind == POSTGRESQL else None
        name = cluster.create() if cluster else ""
        place = servers.place(home, kind, cluster, name, **OUTBOUND)
        known = {
            "format": FORMAT,
            "made_at": time.time(),
            "database": name,
            "api_key": place.api_key,
            "secrets": {secret: place.environ[secret] for secret in SECRETS},
        }
        (home / "place.json").write_text(json.dumps(known))
        (home / "place.json").chmod(0o600)
        return place

    def _forget(self, home: Path, kind: str) -> None:
        file = home / "place.json"
        if kind == POSTGRESQL and self.cluster and file.exists():
            name = json.loads(file.read_text())["database"]
            self.cluster.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
        shutil.rmtree(home)


# The receiver that the sample people's webhooks went to was on this machine.
OUTBOUND = {"SIGNUP_OUTBOUND_ALLOW": "127.0.0.1"}


def open_store(stack: ExitStack, settings: Settings) -> Store:
    """The filled databases, ours until the end of the run."""
    settings.cache.mkdir(parents=True, exist_ok=True)
    stack.enter_context(_alone(settings.cache / "lock"))
    wanted = POSTGRESQL in settings.databases
    cluster = stack.enter_context(running_cluster(settings.cache / "cluster")) if wanted else None
    return Store(settings.cache, cluster)


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SystemExit(
                f"another bin/bench is using {path.parent}; set BENCH_CACHE to use another folder"
            ) from None
        yield
