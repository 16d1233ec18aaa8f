"""What SQLite needs: writers in one queue, durable commits, a private file."""

from __future__ import annotations

import errno
import fcntl
import os
import sqlite3
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from signup.core import driver
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


class _Group:
    """Commits that wait for the same sync."""

    def __init__(self) -> None:
        self.members = 0
        self.over = False
        self.durable = False


class GroupSync:
    """Commits are on disk, and one sync serves all that wait for it.

    With `synchronous=FULL` each commit would sync for itself, while all other writers wait behind it. The log holds
    the commits in their order, so syncing it makes durable everything that was committed before.
    """

    def __init__(self, log: str) -> None:
        self._log = log
        self._changed = threading.Condition()
        self._next = _Group()
        self._busy = False

    def wait(self) -> None:
        """What this thread has committed survives a power cut from now on.

        Raises:
            OSError: the disk refused; nobody may be told that it is stored.
        """
        with self._changed:
            group = self._next
            group.members += 1
            while self._busy and not group.over:
                self._changed.wait()
            if group.over:
                # A disk reports an error only once: to sync again would say nothing about this group.
                if not group.durable:
                    raise OSError(errno.EIO, "the disk refused the log")
                return
            self._busy, self._next = True, _Group()
        try:
            _sync(self._log)
            group.durable = True
        finally:
            with self._changed:
                self._busy, group.over = False, True
                self._changed.notify_all()


def _sync(path: str) -> None:
    try:
        # Opened anew each time: the log goes with its last connection and comes back as another file.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        # It went into the database file, which was synced for that.
        return
    try:
        getattr(os, "fdatasync", os.fsync)(descriptor)
    finally:
        os.close(descriptor)


def on_connect(connection: Any, _record: object) -> None:
    # The driver's own BEGIN comes too late for a read-then-write transaction; we send ours.
    connection.isolation_level = None
    if connection.execute("PRAGMA journal_mode=WAL").fetchone()[0] not in ("wal", "memory"):
        raise sqlite3.OperationalError("this file system cannot keep SQLite's write-ahead log")
    for pragma in (
        # A commit leaves the disk alone; `GroupSync` waits for it afterwards, outside the writers' queue.
        "synchronous=NORMAL",
        "foreign_keys=ON",
        # What is erased must not be found in the file.
        "secure_delete=ON",
        "cache_size=-16000",
        "temp_store=MEMORY",
        # In pages: the log is copied into the file every few hundred sign-ups, which touch the same pages.
        "wal_autocheckpoint=8000",
    ):
        connection.execute(f"PRAGMA {pragma}")


def on_begin(connection: Any) -> None:
    immediate = connection.get_execution_options().get("begin_immediate", True)
    driver.run(connection, "BEGIN IMMEDIATE" if immediate else "BEGIN", ())


def keep_private(path: str | None) -> None:
    """The file holds addresses, so only its owner reads it; SQLite gives its log the mode of the file."""
    if not path or path == ":memory:":
        return
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise ConfigError([f"DATABASE_URL: the file {path} cannot be used: {error.strerror}"]) from None
