"""Measures 7 and 8: what a dead endpoint does to sign-ups, and how fast deliveries leave."""

from __future__ import annotations

import socket
import subprocess
import sys
from contextlib import ExitStack

from bench import servers
from bench.databases import open_store
from bench.measuring import Cell, Figure, Settings, at_least, at_most, interleaved
from bench.receiver import Receiver, running_receiver
from bench.servers import Place, Server
from bench.signup import cell, signups, warm_up
from bench.sink import running_sink
from tests.support.servers import ROOT, clean_environment
from tests.support.waiting import wait_for

OWED = 10_000
DRAIN_SECONDS = 300


def owe(place: Place, count: int, url: str) -> None:
    """So many deliveries are due to this address."""
    command = [sys.executable, "-m", "bench.owe", str(count), url]
    subprocess.run(command, cwd=ROOT, env=place.environ, check=True)


def silent_url(stack: ExitStack) -> str:
    """Takes connections and never says a word."""
    listener = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=100))
    return f"http://127.0.0.1:{listener.getsockname()[1]}/crm"


def burdened(name: str, place: Place, server: Server, count: int, url: str, settings: Settings) -> Cell:
    """Sign-ups while the worker has so many deliveries to make to a dead endpoint."""
    driving = cell(name, server, signups, settings)

    def run() -> dict[str, float]:
        owe(place, count, url)
        server.start_worker()
        warm_up(server, signups(), settings)
        taken = driving()
        server.stop_workers()
        return taken

    return run


def dead_endpoint(settings: Settings, stack: ExitStack) -> list[Figure]:
    store = open_store(stack, settings)
    figures: list[Figure] = []
    for kind in settings.databases:
        with ExitStack() as inner:
            sink = inner.enter_context(running_sink())
            place, _ = store.place(kind, settings.few)
            place.environ["MAIL_PORT"] = str(sink.port)
            server, url = servers.serve(inner, place), silent_url(inner)
            owed = min(OWED, settings.few)
            cells = [
                burdened(f"{kind} free", place, server, 0, url, settings),
                burdened(f"{kind} dead", place, server, owed, url, settings),
            ]
            samples = interleaved("dead endpoint", cells, settings.rounds)
            owe(place, 0, url)
        what = f"{kind}: sign-up p99, {owed:,} due to a dead endpoint / without"
        figures += [
            samples.ratio(f"{kind} dead p99", f"{kind} free p99", what, at_most(1.1)),
            samples.ratio(f"{kind} dead rate", f"{kind} free rate", f"{kind}: sign-ups/s, the same"),
            samples.plain(f"{kind} dead p99", f"{kind}: p99 with the dead endpoint", "ms"),
            samples.plain(f"{kind} free p99", f"{kind}: p99 without", "ms"),
        ]
    return figures


def delivering(name: str, place: Place, server: Server, receiver: Receiver, count: int) -> Cell:
    """The worker empties a queue of so many deliveries to one endpoint."""

    def run() -> dict[str, float]:
        owe(place, count, receiver.url)
        before = receiver.taken().count
        server.start_worker()
        wait_for(lambda: receiver.taken().count >= before + 1, seconds=DRAIN_SECONDS, describe="the first delivery")
        first = receiver.taken()
        wait_for(lambda: receiver.taken().count >= before + count, seconds=DRAIN_SECONDS, describe="the last delivery")
        last = receiver.taken()
        server.stop_workers()
        return {name: (last.count - first.count) / (last.last - first.last)}

    return run


def looping(receiver: Receiver, count: int) -> Cell:
    def run() -> dict[str, float]:
        receiver.taken()
        command = [sys.executable, "-m", "bench.references.webhook_loop", str(receiver.port), str(count)]
        subprocess.run(command, cwd=ROOT, env=clean_environment(), check=True)
        taken = receiver.taken()
        return {"loop": (count - 1) / (taken.last - taken.first)}

    return run


def deliveries(settings: Settings, stack: ExitStack) -> list[Figure]:
    store = open_store(stack, settings)
    receiver = stack.enter_context(running_receiver())
    count = min(int(400 * settings.seconds), settings.few)
    cells: list[Cell] = [looping(receiver, 4 * count)]
    for kind in settings.databases:
        place, _ = store.place(kind, settings.few)
        cells.append(delivering(kind, place, servers.serve(stack, place), receiver, count))
    samples = interleaved("webhooks", cells, settings.rounds)
    figures: list[Figure] = []
    for kind in settings.databases:
        what = f"{kind}: webhook POST/s / bare http.client loop"
        figures += [
            samples.ratio(kind, "loop", what, at_least(0.25), at_least(0.4)),
            samples.plain(kind, f"{kind}: webhooks to one endpoint", "/s"),
        ]
    figures.append(samples.plain("loop", "bare http.client loop", "/s"))
    return figures
