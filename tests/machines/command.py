"""The `flask` command under the clock of the test; everything else is the real thing."""

import sys

from tests.faults import clock

if __name__ == "__main__":
    clock.install()
    from flask.cli import main

    sys.argv[0] = "flask"
    main()
