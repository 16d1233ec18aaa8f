"""Measure 4: the button behind the confirmation link and the mail program's one-click, against a Flask hello."""

from __future__ import annotations

import subprocess
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench import load, servers
from bench.databases import open_store
from bench.measuring import Cell, Figure, Settings, interleaved
from bench.servers import Place, Server
from bench.signup import cell, hellos, warm_up
from tests.support.servers import ROOT

# More than a cell can use up: each link is good for one click.
PER_SECOND = 1000
GOOD = {"confirm": "303", "unsubscribe": "200"}


@dataclass
class Links:
    """A file of links, each to be used once."""

    what: str
    file: Path
    per_cell: int
    good: tuple[str, ...]
    used: int = 0

    def requests(self) -> load.Requests:
        first, self.used = self.used, self.used + self.per_cell
        return load.Requests(load.EACH_POST, self.good, first, self.file, self.per_cell)


def links(place: Place, state: Path, what: str, settings: Settings) -> Links:
    """Enough for all rounds and the warm-up."""
    per_cell = int(PER_SECOND * settings.seconds)
    file = settings.folder / f"{place.kind}-{what}"
    command = [sys.executable, "-m", "bench.links", str(state), what, str(per_cell * (settings.rounds + 1)), str(file)]
    subprocess.run(command, cwd=ROOT, env=place.environ, check=True)
    return Links(what, file, per_cell, (GOOD[what],))


def cells_of(kind: str, place: Place, state: Path, server: Server, settings: Settings) -> list[Cell]:
    made = []
    for what in GOOD:
        unused = links(place, state, what, settings)
        warm_up(server, unused.requests(), settings)
        made.append(cell(f"{kind} {what}", server, unused.requests, settings))
    return made


def run(settings: Settings, stack: ExitStack) -> list[Figure]:
    store = open_store(stack, settings)
    fresh = int(PER_SECOND * settings.seconds) * (settings.rounds + 1)
    cells: list[Cell] = []
    for kind in settings.databases:
        place, state = store.place(kind, settings.few, pending=fresh, confirmed=fresh)
        plain, server = servers.hello(stack, settings, kind), servers.serve(stack, place)
        warm_up(plain, hellos(), settings)
        cells += [cell(f"{kind} hello", plain, hellos, settings)]
        cells += cells_of(kind, place, state, server, settings)
    samples = interleaved("clicks", cells, settings.rounds)
    figures: list[Figure] = []
    for kind in settings.databases:
        for what in GOOD:
            name, hello = f"{kind} {what}", f"{kind} hello"
            figures += [
                samples.ratio(f"{name} rate", f"{hello} rate", f"{kind}: {what} POST/s / hello's"),
                samples.ratio(f"{name} cpu", f"{hello} cpu", f"{kind}: {what} CPU / hello's"),
                samples.plain(f"{name} rate", f"{kind}: {what}", "/s"),
                samples.plain(f"{name} cpu", f"{kind}: {what} server CPU, database included", "ms"),
                samples.plain(f"{name} p99", f"{kind}: {what} p99", "ms"),
            ]
    return figures
