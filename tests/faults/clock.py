"""One clock for all processes of a rig, which a test can move: the real time plus what a small shared file says."""

from __future__ import annotations

import mmap
import os
import struct
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

SETTING = "FAULTS_CLOCK"
_OFFSET = struct.Struct("d")


class SharedClock:
    """Calling it gives the time; aware, UTC, whole milliseconds."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(_OFFSET.pack(0.0))
        with path.open("r+b") as file:
            # What one process writes, the others read at once: no system call, no half of a number.
            self._offset = mmap.mmap(file.fileno(), _OFFSET.size)
        self.path = path

    def __call__(self) -> datetime:
        now = datetime.now(UTC) + timedelta(seconds=_OFFSET.unpack_from(self._offset)[0])
        return now.replace(microsecond=now.microsecond // 1000 * 1000)

    def jump(self, seconds: float) -> None:
        """From now on it is that much later (or earlier) for every process."""
        _OFFSET.pack_into(self._offset, 0, _OFFSET.unpack_from(self._offset)[0] + seconds)


def install() -> Callable[[], datetime]:
    """This process lives by the clock of its rig. Comes before anything else of Signup is imported.

    The edges hold `utc_now` by name, so it is replaced where they take it from.
    """
    early = [name for name in sys.modules if name.startswith("signup.") and name.count(".") > 0]
    if early:
        raise RuntimeError(f"the clock comes too late: {early[0]} is imported already")
    from signup.core import values

    clock = SharedClock(Path(os.environ[SETTING]))
    values.utc_now = clock
    return clock
