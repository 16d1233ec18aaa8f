"""Workers on demand: each is a fork of this process, so that a kill does not cost two seconds of imports.

What runs in the fork is what `flask worker` runs. A line on standard input starts one; its number is printed, and
its end too. One lives at a time.
"""

from __future__ import annotations

import os
import signal
import sys

from tests.faults import clock

# The most that one webhook exchange may take here; a hanging receiver is met in many tests.
HTTP_SECONDS = 1.5


def main() -> None:
    clock.install()
    from signup import wiring
    from signup.app import create_app
    from signup.core import logs
    from signup.core.config import Config
    from signup.webhooks import queue, send
    from signup.worker import Worker

    logs.setup()
    assert queue.LEASE_SECONDS > HTTP_SECONDS
    wiring.TURNS = tuple(
        (lambda: send.Courier(total_seconds=HTTP_SECONDS)) if make is send.Courier else make for make in wiring.TURNS
    )
    # No connection is open yet that a fork could share.
    app = create_app(Config.from_env(os.environ))
    for _line in sys.stdin:
        number = os.fork()
        if number == 0:
            os.close(0)
            Worker(app).run()
            os._exit(0)
        _say(number)
        _, status = os.waitpid(number, 0)
        _say(os.waitstatus_to_exitcode(status))


def _say(number: int) -> None:
    sys.stdout.write(f"{number}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    main()
