"""What processes cost, read from /proc: CPU time and memory of a program and all it started."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
MEGABYTE = 1024 * 1024


def cpu_seconds(roots: Iterable[int]) -> float:
    """CPU time that these processes and their descendants have used so far, ended children included."""
    total = 0
    for pid in tree(roots):
        fields = _stat(pid)
        if fields:
            total += sum(int(fields[position]) for position in (11, 12, 13, 14))
    return total / TICKS_PER_SECOND


def own_memory(roots: Iterable[int]) -> float:
    """Megabytes that only these processes hold: what they would give back by ending."""
    return sum(_private(pid) for pid in tree(roots)) / MEGABYTE


def tree(roots: Iterable[int]) -> list[int]:
    """These processes and all their descendants that are alive."""
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        fields = _stat(int(entry.name)) if entry.name.isdigit() else None
        if fields:
            children.setdefault(int(fields[1]), []).append(int(entry.name))
    found, waiting = [], list(roots)
    while waiting:
        pid = waiting.pop()
        found.append(pid)
        waiting.extend(children.get(pid, ()))
    return found


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat after the name, which may hold blanks; the first is the state."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None


def _private(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_"))
