"""Run with a service's settings: one piece of work on the evidence log, told as JSON with its time and memory."""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable

from signup.app import create_app
from signup.contacts import actions as contacts
from signup.core.config import Config
from signup.core.db import transaction
from signup.core.values import utc_now
from signup.eventlog import audit, sealing
from signup.eventlog.kinds import EventType
from signup.eventlog.record import record

# A few hundred kilobytes of rows a commit.
WRITE_BATCH = 1000
# The product's own pause is sixty of these.
LOOP_SECONDS = 1.0


def write(count: int) -> int:
    """So many events wait."""
    for start in range(0, count, WRITE_BATCH):
        with transaction() as session:
            for number in range(start, min(start + WRITE_BATCH, count)):
                record(session, None, EventType.RETENTION_RUN, {"counts": {"erased": number}}, now=utc_now())
    return count


def seal(_count: int) -> int:
    """Everything that waits is sealed, in the batches of the product."""
    total = 0
    while (done := sealing.seal_now(utc_now)) is not None:
        total += done.count
    return total


def check(_count: int) -> int:
    report = audit.audit(contacts.open_keys)
    if report.wrong:
        raise SystemExit(report.wrong)
    return report.events


def loop(_count: int) -> int:
    """Seals again and again until it is killed; says so once it has caught up."""
    seal(0)
    print("ready", flush=True)
    while True:
        time.sleep(LOOP_SECONDS)
        seal(0)


STEPS: dict[str, Callable[[int], int]] = {"write": write, "seal": seal, "audit": check, "loop": loop}


def main() -> None:
    step, count = STEPS[sys.argv[1]], int(sys.argv[2])
    app = create_app(Config.from_env(os.environ))
    with app.app_context():
        started = time.perf_counter()
        done = step(count)
        seconds = time.perf_counter() - started
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"count": done, "seconds": seconds, "megabytes": most}))


if __name__ == "__main__":
    main()
