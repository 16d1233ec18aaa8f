"""Visitors who sign up while something is done to the service, and what each of them was told."""

from __future__ import annotations

import http.client
import itertools
import random
import select
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlencode

from tests.support.waiting import wait_for

THREADS = 3
# How many of them keep one connection for all they do.
STAYING = 1
PAUSE_SECONDS = 0.05
# A process that starts may keep a connection waiting in the listener's queue, but not for long.
PATIENCE_SECONDS = 30
TAKEN = (http.client.SEE_OTHER, http.client.ACCEPTED)


class Load:
    """Threads that sign new people up one after the other, each over a connection of its own."""

    def __init__(self, port: int, form: str) -> None:
        self.port, self.form = port, form
        self.accepted: list[str] = []
        self.lost: list[str] = []
        self.stopping = threading.Event()
        self._numbers = itertools.count()
        self._random = random.Random(7)
        self._threads = [threading.Thread(target=self._sign_up, daemon=True) for _ in range(THREADS)]
        self._threads += [threading.Thread(target=self._stay, daemon=True) for _ in range(STAYING)]
        self.pages = Counter[str]()

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        self.stopping.set()
        for thread in self._threads:
            thread.join(PATIENCE_SECONDS + 5)

    def wait(self, more: int, seconds: float = 60) -> None:
        """So many more people have signed up since."""
        target = len(self.accepted) + more
        wait_for(lambda: len(self.accepted) >= target or self.lost, seconds=seconds, describe=f"{more} more sign-ups")

    def _sign_up(self) -> None:
        while not self.stopping.wait(PAUSE_SECONDS):
            email = f"person{next(self._numbers)}@kunde.example"
            body = urlencode({"email": email, "purpose": "news"})
            # Each from a network of its own, so that no limit speaks instead of the service.
            source = ".".join(str(self._random.randint(11, 99)) for _ in range(4))
            headers = {
                "Content-Type": "application/x-www-form-urlencoded",
                "X-Forwarded-For": source,
                "Connection": "close",
            }
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_SECONDS)
            try:
                connection.request("POST", f"/f/{self.form}", body, headers)
                status = connection.getresponse().status
            except (OSError, http.client.HTTPException) as error:
                self.lost.append(f"{email}: {error!r}")
                continue
            finally:
                connection.close()
            if status in TAKEN:
                self.accepted.append(email)
            else:
                self.lost.append(f"{email}: {status}")

    def _stay(self) -> None:
        """One visitor who keeps a connection open and looks at pages over it."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_SECONDS)
        while not self.stopping.wait(PAUSE_SECONDS):
            if connection.sock is not None and select.select([connection.sock], [], [], 0)[0]:
                # The server said goodbye between two requests, as it may at any time.
                self.pages["goodbye"] += 1
                connection.close()
            try:
                connection.request("GET", f"/f/{self.form}")
                answer = connection.getresponse()
                answer.read()
            except (OSError, http.client.HTTPException) as error:
                self.lost.append(f"page: {error!r}")
                connection.close()
                continue
            self.pages[str(answer.status)] += 1
            if answer.status != http.client.OK:
                self.lost.append(f"page: {answer.status}")
        connection.close()


@contextmanager
def visitors(port: int, form: str) -> Iterator[Load]:
    """People sign up for as long as the block runs; afterwards every one of them has an answer."""
    load = Load(port, form)
    load.start()
    try:
        yield load
    finally:
        load.stop()
