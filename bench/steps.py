"""Run with a service's settings: times single steps of the worker, as standard input asks for them.

A line `NAME COUNT` is answered by the median in milliseconds. What a step claims is given back: it commits nothing.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress

from sqlalchemy import text

from signup import jobs
from signup.app import create_app
from signup.core.config import Config
from signup.core.db import reading, transaction
from signup.core.values import utc_now
from signup.mail import compose, send
from signup.privacy import retention
from signup.webhooks import queue

# As many as a worker with all its threads free.
FREE = 16
# A request that was given up may go on for minutes.
WRITERS_SECONDS = 600.0


class Undone(Exception):
    """Ends a transaction without a commit."""


def claim_mails() -> None:
    with reading() as session:
        jobs.any_due(session, compose.JOB_SEND, now=utc_now())
    with suppress(Undone), transaction() as session:
        jobs.claim(session, compose.JOB_SEND, now=utc_now(), limit=send.BATCH, lease_seconds=send.LEASE_SECONDS)
        raise Undone


def claim_deliveries() -> None:
    with reading() as session:
        owed = queue.pick(session, now=utc_now(), free=FREE, at_once={})
    if not owed:
        raise RuntimeError("no delivery is due: there is nothing to time")
    with suppress(Undone), transaction() as session:
        queue.lease(session, owed, now=utc_now())
        raise Undone


def forget() -> None:
    retention._step(Counter(), utc_now())


STEPS: dict[str, Callable[[], None]] = {"mails": claim_mails, "deliveries": claim_deliveries, "retention": forget}


def settle() -> None:
    """What earlier runs left behind is gone: both sizes begin with the same work."""
    with transaction() as session:
        session.execute(text("DELETE FROM job WHERE kind = 'mail.send'"))
        session.execute(text("UPDATE delivery SET state = 'dead' WHERE state = 'due'"))
    retention.run_now(utc_now)


def wait_for_writers() -> None:
    """What an earlier request left running, though nobody waits for its answer any more, is over."""
    with transaction(wait_seconds=WRITERS_SECONDS):
        pass


def timed(step: Callable[[], None], count: int) -> float:
    wait_for_writers()
    taken = []
    for _ in range(count):
        started = time.perf_counter()
        step()
        taken.append((time.perf_counter() - started) * 1000)
    return statistics.median(taken)


def main() -> None:
    app = create_app(Config.from_env(os.environ))
    with app.app_context():
        settle()
        print("ready", flush=True)
        for line in sys.stdin:
            name, count = line.split()
            print(timed(STEPS[name], int(count)), flush=True)


if __name__ == "__main__":
    main()
