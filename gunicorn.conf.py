"""How gunicorn serves wsgi:app; flags and GUNICORN_CMD_ARGS win over this file."""

import gc
import os
from pathlib import Path

_host = os.environ.get("HOST") or "127.0.0.1"
_port = os.environ.get("PORT") or "8000"
_database = os.environ.get("DATABASE_URL", "")
if not _database and os.environ.get("DATABASE_URL_FILE"):
    _database = Path(os.environ["DATABASE_URL_FILE"]).read_text(encoding="utf-8")
_postgresql = _database.strip().startswith("postgres")

bind = f"[{_host}]:{_port}" if ":" in _host else f"{_host}:{_port}"
worker_class = "gthread"
# SQLite lets one connection write at a time, so a second process would only wait for the first.
workers = int(os.environ.get("WEB_CONCURRENCY") or 2) if _postgresql else 1
threads = 8
# Each process opens its own database connections; a preloaded one would be shared across the fork.
preload_app = False
graceful_timeout = 30
# On a disk, the heartbeat file makes a healthy worker look dead whenever the disk stalls.
worker_tmp_dir = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 - gunicorn makes a private file there
# The application writes its own request log, without tokens and addresses.
accesslog = None


def post_worker_init(worker: object) -> None:
    """What start-up made stays: the collector need not look through it after every few hundred requests."""
    gc.collect()
    gc.freeze()


# Its path is one per account: a second gunicorn of the same account would take over the first one's.
control_socket_disable = True
