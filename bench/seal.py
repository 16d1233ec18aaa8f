"""Measure 10: what sealing costs those who sign up, and what a long log costs the sealer and the audit."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from bench import load, servers
from bench.measuring import Cell, Figure, Samples, Settings, at_least, at_most, interleaved
from bench.servers import Place, Server
from bench.signup import signups, warm_up
from tests.support.servers import ROOT


def run(settings: Settings, stack: ExitStack) -> list[Figure]:
    return [*_beside(settings, stack), *(figure for kind in settings.databases for figure in _long(settings, kind))]


def _beside(settings: Settings, stack: ExitStack) -> Iterator[Figure]:
    """Sign-ups with a sealer that runs sixty times as often as it does, and without one, on the same server."""
    cells: list[Cell] = []
    for kind in settings.databases:
        place = servers.fresh_place(stack, settings, kind)
        server = servers.serve(stack, place)
        warm_up(server, signups(), settings)
        cells += [_cell(f"{kind} off", server, None, settings), _cell(f"{kind} on", server, place, settings)]
    samples = interleaved("seal", cells, settings.rounds)
    for kind in settings.databases:
        off, on = f"{kind} off", f"{kind} on"
        yield samples.ratio(f"{on} rate", f"{off} rate", f"{kind}: sign-ups/s, sealer on / off", at_least(0.95))
        yield samples.ratio(f"{on} p99", f"{off} p99", f"{kind}: sign-up p99, sealer on / off")
        yield samples.plain(f"{on} rate", f"{kind}: sign-ups, sealer on", "/s")


def _cell(name: str, server: Server, place: Place | None, settings: Settings) -> Cell:
    def drive() -> dict[str, float]:
        return load.drive(
            server.url, signups(), seconds=settings.seconds, connections=settings.connections, pids=server.pids
        ).samples(name)

    def run() -> dict[str, float]:
        if place is None:
            return drive()
        with _sealer(place):
            return drive()

    return run


@contextmanager
def _sealer(place: Place) -> Iterator[None]:
    """A sealer that has caught up with what was written before."""
    command = [sys.executable, "-m", "bench.seal_steps", "loop", "0"]
    with subprocess.Popen(command, cwd=ROOT, env=place.environ, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            if process.stdout.readline().strip() != "ready":
                raise RuntimeError("the sealer did not start")
            yield
        finally:
            process.kill()


def _long(settings: Settings, kind: str) -> Iterator[Figure]:
    """A log of few events, and one of as many as the large database has contacts."""
    few, many = Samples("seal"), Samples("seal")
    for samples, count in ((few, settings.few), (many, settings.rows)):
        with ExitStack() as stack:
            samples.rounds.append(_steps(servers.fresh_place(stack, settings, kind), count))
    both = Samples("seal", [{**_named("few", few.rounds[0]), **_named("many", many.rounds[0])}])
    size = f"{settings.rows} events"
    yield both.plain("many seal", f"{kind}: sealing {size}", "s")
    yield both.plain("many seal rate", f"{kind}: sealed", "/s")
    yield both.ratio("few seal rate", "many seal rate", f"{kind}: time of one, {size} / {settings.few}", at_most(2))
    yield both.plain("many seal memory", f"{kind}: memory of the sealer", "MB")
    yield both.ratio("many seal memory", "few seal memory", f"{kind}: its growth", at_most(1.5))
    yield both.plain("many audit", f"{kind}: audit of {size}", "s")
    yield both.ratio("many audit memory", "few audit memory", f"{kind}: growth of its memory", at_most(1.5))


def _named(name: str, row: dict[str, float]) -> dict[str, float]:
    return {f"{name} {key}": value for key, value in row.items()}


def _steps(place: Place, count: int) -> dict[str, float]:
    row: dict[str, float] = {}
    _step(place, "write", count)
    for name in ("seal", "audit"):
        told = _step(place, name, count)
        row |= {name: told["seconds"], f"{name} memory": told["megabytes"]}
        row[f"{name} rate"] = told["count"] / told["seconds"]
    return row


def _step(place: Place, name: str, count: int) -> dict[str, float]:
    command = [sys.executable, "-m", "bench.seal_steps", name, str(count)]
    done = subprocess.run(command, cwd=ROOT, env=place.environ, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{name}: {done.stderr[-2000:]}")
    told: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return told
