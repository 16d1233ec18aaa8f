"""Whether the processes that this machine starts fit their pools and the database server."""

from __future__ import annotations

import os
import runpy
import shlex
from argparse import ArgumentParser
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy import text

from signup.core.db import POOL_SIZE, Session

GUNICORN_CONF = Path(__file__).parents[2] / "gunicorn.conf.py"
# One `flask worker` on this machine.
WORKERS = 1
# Migration, backup or an export may run beside them.
FOR_COMMANDS = 5


@dataclass(frozen=True)
class Processes:
    """What gunicorn would start here."""

    web: int
    threads: int

    @property
    def connections(self) -> int:
        """The most that this machine opens."""
        return POOL_SIZE * (self.web + WORKERS) + FOR_COMMANDS


@dataclass(frozen=True)
class Server:
    """What the database server grants, and what others have taken of it."""

    max_connections: int
    reserved: int
    others: int

    @property
    def free(self) -> int:
        return max(self.max_connections - self.reserved - self.others, 0)


def planned(environ: Mapping[str, str] = os.environ) -> Processes:
    """The processes and threads that gunicorn would start here: its arguments win over its file, as with gunicorn."""
    settings = runpy.run_path(str(GUNICORN_CONF))
    parser = ArgumentParser(add_help=False, exit_on_error=False)
    parser.add_argument("--workers", "-w", type=int, default=settings["workers"])
    parser.add_argument("--threads", type=int, default=settings["threads"])
    given, _others = parser.parse_known_args(shlex.split(environ.get("GUNICORN_CMD_ARGS", "")))
    return Processes(given.workers, given.threads)


def server(session: Session) -> Server:
    """The limits of the PostgreSQL server, as this account sees them."""
    setting = "(SELECT sum(setting::int) FROM pg_settings WHERE name {})"
    # Our own connections are part of the plan already; those of this account to this database are ours.
    ours = "usename = current_user AND datname = current_database()"
    # Without special rights others' rows hold little more than names.
    client = "datname IS NOT NULL AND coalesce(backend_type, 'client backend') = 'client backend'"
    query = (
        f"SELECT {setting.format('= :maximum')}, {setting.format('LIKE :reserved')}, "  # noqa: S608 - all of it is fixed
        f"(SELECT count(*) FROM pg_stat_activity WHERE {client} AND NOT ({ours}))"
    )
    row = session.execute(text(query), {"maximum": "max_connections", "reserved": "%reserved_connections"}).one()
    return Server(*row)


def too_many_threads(processes: Processes) -> str | None:
    """Why the threads do not fit their pool, in words; None if they do."""
    if processes.threads <= POOL_SIZE:
        return None
    return (
        f"gunicorn is set to {processes.threads} threads, but each process keeps only {POOL_SIZE} database "
        f"connections: the others would wait. Set threads to {POOL_SIZE} at most, and WEB_CONCURRENCY higher."
    )


def connections(processes: Processes, found: Server) -> list[str]:
    """What this machine may open and what is left for it; a warning if that is too little."""
    need = processes.connections
    sum_here = f"{POOL_SIZE} x ({processes.web} web + {WORKERS} worker) + {FOR_COMMANDS} for commands"
    granted = f"{found.max_connections} max_connections - {found.reserved} reserved - {found.others} in use by others"
    lines = [
        f"connections        {need} = {sum_here}, on each machine like this",
        f"server allows      {found.free} = {granted}",
    ]
    if need <= found.free:
        return [*lines, f"room for           {found.free // need} machines like this"]
    web = (found.free - FOR_COMMANDS) // POOL_SIZE - WORKERS
    fewer = f"WEB_CONCURRENCY to {web} at most" if web > 0 else "nothing on this machine can be small enough"
    wanted = need + found.reserved + found.others
    return [*lines, f"warning: too few connections: set max_connections to {wanted} at least, or {fewer}"]
