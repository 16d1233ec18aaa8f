"""A process that does nothing but write, seal and stamp, to be killed while it does.

A line on standard input forks one; it says on standard output, unbuffered, what it is about to do: `w` write, `c` what
was written is committed, `s` seal, `t` stamp.
"""

from __future__ import annotations

import os
import random
import sys

EVENTS = 6
# Small, so that one sealing is several commits.
BATCH = 4


def main() -> None:
    from signup.app import create_app
    from signup.core import logs
    from signup.core.config import Config
    from signup.core.db import transaction
    from signup.core.values import utc_now
    from signup.eventlog import sealing, stamping
    from signup.eventlog.kinds import EventType
    from signup.eventlog.record import record

    logs.setup()
    sealing.BATCH = BATCH
    sealing.seal.__kwdefaults__["limit"] = BATCH
    # No connection is open yet that a fork could share.
    app = create_app(Config.from_env(os.environ))

    def work() -> None:
        dice = random.Random()
        with app.app_context():
            while True:
                _say("w")
                with transaction() as session:
                    for _ in range(EVENTS):
                        record(session, None, EventType.RETENTION_RUN, {"counts": {}}, now=utc_now())
                _say("c")
                for _ in range(dice.randrange(1, 3)):
                    _say("s")
                    sealing.run([], utc_now)
                    _say("t")
                    stamping.run([], utc_now)

    for _line in sys.stdin:
        number = os.fork()
        if number == 0:
            os.close(0)
            work()
        _say(f"{number}\n")
        _, status = os.waitpid(number, 0)
        _say(f"{os.waitstatus_to_exitcode(status)}\n")


def _say(text: str) -> None:
    # One write each: what was said before a kill is in the pipe.
    os.write(1, text.encode())


if __name__ == "__main__":
    main()
