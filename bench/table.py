"""The figures as a table, on the terminal and in docs/performance.md."""

from __future__ import annotations

import os
import platform
import sqlite3
import subprocess
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from bench.measuring import Figure, Settings
from tests.support.postgres import find_binaries

BEGIN, END = "<!-- bench:{name} -->", "<!-- /bench:{name} -->"
PACKAGES = ("Flask", "Werkzeug", "gunicorn", "SQLAlchemy", "psycopg", "cryptography", "Flask-Mail", "urllib3")


def lines(figures: Iterable[Figure]) -> list[str]:
    """The table in Markdown, which reads well on a terminal too."""
    rows = [("figure", "median", "rounds", "target", "aim", "")]
    rows += [_row(figure) for figure in figures]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    drawn = [_line(row, widths) for row in rows]
    rule = "|" + "|".join("-" * (width + 1) + (":" if 0 < at < 3 else "-") for at, width in enumerate(widths)) + "|"
    return [drawn[0], rule, *drawn[1:]]


def _row(figure: Figure) -> tuple[str, ...]:
    spread = f"{_short(min(figure.values))} to {_short(max(figure.values))}"
    target, aim = (str(item) if item else "" for item in (figure.target, figure.aim))
    unit = figure.unit.replace("x", " x") if figure.unit in ("x", "/s") else f" {figure.unit}"
    return (figure.what, _short(figure.median) + unit, spread, target, aim, figure.verdict)


def _line(row: Sequence[str], widths: Sequence[int]) -> str:
    cells = [
        text.rjust(width) if 0 < at < 3 else text.ljust(width)
        for at, (text, width) in enumerate(zip(row, widths, strict=True))
    ]
    return "| " + " | ".join(cells) + " |"


def _short(value: float) -> str:
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def machine(settings: Settings) -> list[str]:
    """What the figures were measured on and with."""
    packages = ", ".join(f"{name} {version(name)}" for name in PACKAGES)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1024**3
    load = os.getloadavg()[0]
    how = f"{settings.rounds} rounds of {settings.seconds:g} s, {settings.connections} connections"
    runs = f"{platform.system()} {platform.release()}, Python {platform.python_version()}"
    return [
        f"Measured {datetime.now(UTC):%Y-%m-%d %H:%M} UTC at {_commit()}: {how}; load average {load:.1f} at the end.",
        f"{os.cpu_count()} CPUs ({_cpu()}), {memory:.0f} GB, {runs}, SQLite {sqlite3.sqlite_version},",
        f"PostgreSQL {_postgresql()}, {packages}.",
    ]


def _commit() -> str:
    done = subprocess.run(["git", "describe", "--always", "--dirty"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "an unknown commit"


def _cpu() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor()
    names = [line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")]
    return names[0] if names else platform.machine()


def _postgresql() -> str:
    answer = subprocess.run([find_binaries() / "postgres", "--version"], capture_output=True, text=True, check=False)
    return answer.stdout.split()[2]


def save(path: Path, name: str, figures: Sequence[Figure], settings: Settings) -> None:
    """The section `name` of the page holds these figures; the words around its marks stay."""
    begin, end = BEGIN.format(name=name), END.format(name=name)
    page = path.read_text(encoding="utf-8")
    if begin not in page or end not in page:
        raise SystemExit(f"{path}: the marks {begin} and {end} are missing")
    head, rest = page.split(begin, 1)
    tail = rest.split(end, 1)[1]
    told = "\n".join([*lines(figures), "", *machine(settings)])
    path.write_text(f"{head}{begin}\n\n{told}\n\n{end}{tail}", encoding="utf-8")
