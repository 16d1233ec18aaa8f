"""The long run, `bin/test faults`: kills processes at random on both databases and prints what it found."""

from __future__ import annotations

import argparse
import os
import platform
import sqlite3
import sys
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import click

from tests.faults.cluster import running_cluster
from tests.faults.kills import Figures, Plan, round_of_kills
from tests.faults.rig import Rig, running_rig

DATABASES = ("sqlite", "postgres")
# After so many all is brought to an end and held against what clients saw, so that a loss is found early.
ROUND = 125


def main() -> int:
    options = _options()
    _say(
        f"{datetime.now(UTC):%Y-%m-%d}, {os.cpu_count()} cores {platform.machine()}, Python {platform.python_version()}"
    )
    _say(f"gunicorn {version('gunicorn')}, SQLAlchemy {version('SQLAlchemy')}, SQLite {sqlite3.sqlite_version}")
    names = DATABASES if options.database == "both" else (options.database,)
    shares = [options.kills // len(names) + (number < options.kills % len(names)) for number in range(len(names))]
    results = [_database(name, kills, options) for name, kills in zip(names, shares, strict=True)]
    _total(results)
    return 1 if any(figures.verdict.problems() for figures in results) else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bin/test faults", description=__doc__)
    parser.add_argument("--kills", type=int, default=1000, help="how many processes die, over all databases (1000)")
    parser.add_argument("--database", choices=(*DATABASES, "both"), default="both")
    parser.add_argument("--rate", type=float, default=20, help="sign-ups per second at most (20)")
    parser.add_argument("--seed", type=int, default=1, help="of the dice that choose whom and when (1)")
    options = parser.parse_args()
    if options.kills < len(DATABASES):
        parser.error("--kills must be at least 2")
    return options


def _database(name: str, kills: int, options: argparse.Namespace) -> Figures:
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="faults")))
        url = None
        if name == "postgres":
            server = stack.enter_context(running_cluster()).server
            url = server.create_database()
            with server._connect() as connection:
                _say(f"PostgreSQL {connection.info.parameter_status('server_version')}")
        rig = stack.enter_context(running_rig(folder, url, fast=True))
        return _rounds(rig, name, kills, options)


def _rounds(rig: Rig, name: str, kills: int, options: argparse.Namespace) -> Figures:
    done, seconds = 0, 0.0
    while True:
        step = min(ROUND, kills - done)
        last = done + step == kills
        plan = Plan(step, seed=options.seed + done, rate=options.rate, real_time=last)
        figures = round_of_kills(rig, plan, progress=_progress(name, done, kills))
        done, seconds = done + step, seconds + figures.seconds
        figures.seconds = seconds
        _say(f"\n{name}\n  " + "\n  ".join(figures.lines()))
        for problem in figures.verdict.problems()[:20]:
            _say(f"  PROBLEM {problem}")
        if last or figures.verdict.problems():
            return figures


def _progress(name: str, done: int, kills: int) -> Callable[[int], None]:
    def show(count: int) -> None:
        if sys.stderr.isatty():
            click.echo(f"\r{name}: {done + count} of {kills} kills", nl=False, err=True)
        elif count % 25 == 0:
            click.echo(f"{name}: {done + count} of {kills} kills", err=True)

    return show


def _total(results: list[Figures]) -> None:
    kills = sum(figures.kills for figures in results)
    lost = sum(len(figures.verdict.lost) + len(figures.verdict.half) for figures in results)
    stuck = sum(len(figures.verdict.stuck) for figures in results)
    again = sum(figures.verdict.mail_duplicates + figures.verdict.post_duplicates for figures in results)
    flying = sum(figures.mails_in_flight + figures.posts_in_flight for figures in results)
    strange = sum(len(figures.verdict.strange) for figures in results)
    _say(
        f"\n{kills} kills: lost {lost}, stuck {stuck}, duplicates {again} <= in flight {flying}, unexplained {strange}"
    )


def _say(text: str) -> None:
    click.echo(text)
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
