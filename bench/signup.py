"""Measure 1: the sign-up POST, accepted with its evidence and its mail queued, against a Flask hello."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from contextlib import ExitStack

from bench import load, servers
from bench.measuring import POSTGRESQL, Cell, Figure, Settings, at_least, at_most, interleaved
from bench.servers import Server

WARM_UP_SECONDS = 1.0
# Sign-ups of one run never meet an address twice: each cell starts this much higher.
STRIDE = 100_000
_cells = itertools.count(1)

FORM = load.post(
    "/f/demo-de", "email=n%(number)s@example.org&purpose=product-news", "X-Forwarded-For: %(ip)s", numbered=1
)
TARGETS = {POSTGRESQL: (at_least(0.20), at_least(0.35)), "SQLite": (at_least(0.25), at_least(0.40))}
CPU_TARGETS = {POSTGRESQL: (at_most(6.5), at_most(4.0)), "SQLite": (None, None)}


def signups() -> load.Requests:
    """Sign-ups with addresses nobody used before."""
    return load.Requests(FORM, ("303",), first=next(_cells) * STRIDE)


def hellos() -> load.Requests:
    return load.Requests(load.get("/"), ("200",))


def cell(name: str, server: Server, requests: Callable[[], load.Requests], settings: Settings) -> Cell:
    """One server, driven for one cell's time."""

    def run() -> dict[str, float]:
        driven = load.drive(
            server.url,
            requests(),
            seconds=settings.seconds,
            connections=settings.connections,
            pids=server.pids,
        )
        return driven.samples(name)

    return run


def warm_up(server: Server, requests: load.Requests, settings: Settings) -> None:
    """Caches are filled and all threads have their connections."""
    seconds = min(WARM_UP_SECONDS, settings.seconds)
    load.drive(server.url, requests, seconds=seconds, connections=settings.connections, pids=server.pids)


def run(settings: Settings, stack: ExitStack) -> list[Figure]:
    cells: list[Cell] = []
    for kind in settings.databases:
        plain = servers.hello(stack, settings, kind)
        ours = servers.serve(stack, servers.fresh_place(stack, settings, kind))
        warm_up(plain, hellos(), settings)
        warm_up(ours, signups(), settings)
        cells += [cell(f"{kind} hello", plain, hellos, settings), cell(f"{kind} sign-up", ours, signups, settings)]
    samples = interleaved("sign-up", cells, settings.rounds)
    figures: list[Figure] = []
    for kind in settings.databases:
        hello, ours_ = f"{kind} hello", f"{kind} sign-up"
        figures += [
            samples.ratio(f"{ours_} rate", f"{hello} rate", f"{kind}: POST/s / hello's", *TARGETS[kind]),
            samples.ratio(f"{ours_} cpu", f"{hello} cpu", f"{kind}: CPU a request / hello's", *CPU_TARGETS[kind]),
            samples.plain(f"{ours_} rate", f"{kind}: sign-ups", "/s"),
            samples.plain(f"{hello} rate", f"{kind}: hello", "/s"),
            samples.plain(f"{ours_} cpu", f"{kind}: server CPU a sign-up, database included", "ms"),
            samples.plain(f"{hello} cpu", f"{kind}: server CPU a hello", "ms"),
            samples.plain(f"{ours_} p50", f"{kind}: sign-up median", "ms"),
            samples.plain(f"{ours_} p99", f"{kind}: sign-up p99", "ms"),
            samples.plain(f"{ours_} load", f"{kind}: CPU of the load / server's", "x"),
            samples.plain(f"{hello} load", f"{kind}: CPU of the load / hello's", "x"),
        ]
    return figures
