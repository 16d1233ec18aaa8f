"""Programs of other projects that Signup runs beside: proxies, systemd's and Prometheus' own checkers."""

import os
import shutil
from pathlib import Path

from tests.support.needs import missing

# Where bin/test unpacks what the machine lacks.
UNPACKED = Path(__file__).resolve().parents[2] / ".cache" / "programs"
FOLDERS = ("/usr/sbin", *(str(UNPACKED / part) for part in ("usr/bin", "usr/sbin", "bin")))


def program(name: str) -> str:
    """The path of an installed program; without it the test is skipped, or fails in CI."""
    found = shutil.which(name, path=os.pathsep.join((os.environ.get("PATH", ""), *FOLDERS)))
    return found or missing(f"no {name} on this machine: bin/test gets it on Debian and Ubuntu")
