"""What SQLite needs: writers in one queue, durable commits, a private file."""

from __future__ import annotations

import fcntl
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from signup.core.config import ConfigError
from signup.core.errors import Busy

# How often a process asks again for the lock that another process holds.
LOCK_POLL_SECONDS = 0.002

_thread_locks: dict[str, threading.Lock] = {}


@contextmanager
def file_lock(path: str, wait_seconds: float) -> Iterator[None]:
    """Hold the advisory lock on `path`; threads queue among themselves, processes poll."""
    threads = _thread_locks.setdefault(path, threading.Lock())
    deadline = time.monotonic() + wait_seconds
    if not threads.acquire(timeout=wait_seconds):
        raise Busy("The service is busy. Please try again in a moment.", retry_after_seconds=5)
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            _flock(descriptor, deadline)
            yield
        finally:
            os.close(descriptor)
    finally:
        threads.release()


def _flock(descriptor: int, deadline: float) -> None:
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if time.monotonic() > deadline:
                raise Busy("The service is busy. Please try again in a moment.", retry_after_seconds=5) from None
            time.sleep(LOCK_POLL_SECONDS)


def on_connect(connection: Any, _record: object) -> None:
    # The driver's own BEGIN comes too late for a read-then-write transaction; we send ours.
    connection.isolation_level = None
    for pragma in (
        "journal_mode=WAL",
        # An answer "we have it" must survive a power cut.
        "synchronous=FULL",
        "foreign_keys=ON",
        # What is erased must not be found in the file.
        "secure_delete=ON",
        "cache_size=-16000",
        "temp_store=MEMORY",
    ):
        connection.execute(f"PRAGMA {pragma}")


def on_begin(connection: Any) -> None:
    immediate = connection.get_execution_options().get("begin_immediate", True)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")


def keep_private(path: str | None) -> None:
    """The file holds addresses, so only its owner reads it; SQLite gives its log the mode of the file."""
    if not path or path == ":memory:":
        return
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise ConfigError([f"DATABASE_URL: the file {path} cannot be used: {error.strerror}"]) from None
