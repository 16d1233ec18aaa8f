"""Measure 6: every operation among ten thousand contacts and among a million, one at a time."""

from __future__ import annotations

import http.client
import math
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench import load, servers
from bench.databases import Store, open_store
from bench.load import Requests
from bench.measuring import Figure, Samples, Settings, at_most
from bench.servers import Place, Server
from bench.signup import FORM, STRIDE
from tests.support.servers import ROOT, http_status

# Enough for a steady median, few enough that a slow page does not take the whole time.
COUNT_PER_SECOND = 20
# As long as a patient monitor waits.
SCRAPE_SECONDS = 120.0
FILES = ("confirm", "unsubscribe", "lookup", "evidence", "feed")


@dataclass
class Size:
    """Signup on a database of one size."""

    place: Place
    state: Path
    server: Server
    steps: subprocess.Popen[str]
    folder: Path
    used: int = 0  # lines of each file of links

    def links(self, what: str, count: int) -> None:
        command = [sys.executable, "-m", "bench.links", str(self.state), what, str(count), str(self.folder / what)]
        subprocess.run(command, cwd=ROOT, env=self.place.environ, check=True)

    def step(self, name: str, count: int) -> float:
        """Median milliseconds of a step of the worker."""
        assert self.steps.stdin is not None
        assert self.steps.stdout is not None
        self.steps.stdin.write(f"{name} {count}\n")
        self.steps.stdin.flush()
        return float(self.steps.stdout.readline())


# The requests of one cell; a name is a step of the worker.
Operation = Callable[[Size, int], Requests] | str


def fresh(what: str, good: str) -> Operation:
    """POSTs about people who were made for this run, each once."""
    return lambda size, count: Requests(load.EACH_POST, (good,), size.used, size.folder / what, count)


def page(path: str) -> Operation:
    return lambda size, count: Requests(load.get(path, _key(size)), ("200",), count=count)


def bare(path: str) -> Operation:
    return lambda _size, count: Requests(load.get(path), ("200",), count=count)


def drawn(what: str) -> Operation:
    """GETs about people drawn at random."""
    return lambda size, count: Requests(load.get("%(path)s", _key(size)), ("200",), 0, size.folder / what, count)


def _key(size: Size) -> str:
    return f"Authorization: Bearer {size.place.api_key}"


def sign_up(_size: Size, count: int) -> Requests:
    # The database remembers the addresses of earlier runs.
    first = random.SystemRandom().randrange(1, 8000) * STRIDE
    return Requests(FORM, ("303",), first=first, count=count)


OPERATIONS: dict[str, Operation] = {
    "sign-up": sign_up,
    "confirm": fresh("confirm", "303"),
    "unsubscribe": fresh("unsubscribe", "200"),
    "contact by address": drawn("lookup"),
    "list of contacts": page("/api/v1/contacts?limit=50"),
    "page of the event feed": drawn("feed"),
    "evidence of a contact": drawn("evidence"),
    "list of deliveries": page("/api/v1/deliveries?limit=50"),
    "claim of due deliveries": "deliveries",
    "claim of due mails": "mails",
    "step of retention": "retention",
    "metrics, counts remembered": bare("/metrics"),
    "readyz": bare("/readyz"),
}


def first_scrape(size: Size) -> float:
    """Milliseconds of the first /metrics of a fresh server, which nothing is remembered for."""
    started = time.perf_counter()
    if http_status(size.server.url, "/metrics", seconds=SCRAPE_SECONDS) != http.client.OK:
        return math.inf
    return (time.perf_counter() - started) * 1000


@contextmanager
def stepping(place: Place) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "bench.steps"]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, cwd=ROOT, env=place.environ, stdin=pipe, stdout=pipe, text=True)
    assert process.stdout is not None
    assert process.stdin is not None
    # Its input ends with the block, and the program with its input.
    with process:
        if process.stdout.readline() != "ready\n":
            raise RuntimeError("the steps of the worker could not be started")
        yield process


def opened(stack: ExitStack, settings: Settings, store: Store, kind: str, rows: int, fresh: int) -> Size:
    """Signup on a filled database, with enough fresh people and their links."""
    place, state = store.place(kind, rows, pending=fresh, confirmed=fresh)
    folder = settings.folder / f"{kind}-{rows}"
    folder.mkdir()
    steps = stack.enter_context(stepping(place))
    size = Size(place, state, servers.serve(stack, place), steps, folder)
    for what in FILES:
        size.links(what, fresh)
    return size


def both(name: str, sizes: Sequence[Size], count: int, seconds: float) -> list[float]:
    """Median milliseconds of one operation on each size, taken in turns."""
    operation = OPERATIONS[name]
    if isinstance(operation, str):
        turns = [[size.step(operation, 2) for size in sizes] for _ in range(load.TURNS)]
        return [statistics.median(column) for column in zip(*turns, strict=True)]
    orders = [(size.server.url, operation(size, count)) for size in sizes]
    return [statistics.median(taken) for taken in load.in_turns(orders, seconds=seconds)]


def measured(settings: Settings, stack: ExitStack, store: Store, kind: str) -> list[Figure]:
    count = max(4, int(COUNT_PER_SECOND * settings.seconds))
    fresh = count * (settings.rounds + 1)
    few, many = settings.few, settings.rows
    sizes = [opened(stack, settings, store, kind, rows, fresh) for rows in (few, many)]
    # Before anything else: later ones are answered from memory, and say nothing about counting.
    scrapes = [first_scrape(size) for size in sizes]
    samples, failed = Samples("scale"), set[str]()
    # The first round fills caches and the queues that the claims look into; it does not count.
    for number in range(settings.rounds + 1):
        row: dict[str, float] = {}
        order = list(OPERATIONS)
        if number:
            random.Random(number).shuffle(order)
        for name in order:
            if name in failed:
                continue
            try:
                small, large = both(name, sizes, count, settings.seconds)
            except load.WrongAnswers as error:
                # One operation that does not bear the size must not hide the others; it counts as missed.
                print(error, file=sys.stderr, flush=True)
                failed.add(name)
                continue
            row |= {f"{name} few": small, f"{name} many": large}
        for size in sizes:
            size.used += count
        if number:
            samples.rounds.append(row)
    first = f"{kind}: first metrics after a start, {many:,} / {few:,} (once)"
    figures = [
        Figure("scale", first, (scrapes[1] / scrapes[0],), "x", at_most(1.5)),
        Figure("scale", f"{kind}: first metrics after a start among {many:,} (once)", (scrapes[1],), "ms"),
    ]
    for name in OPERATIONS:
        what = f"{kind}: {name}, {many:,} / {few:,}"
        if name in failed:
            figures.append(Figure("scale", f"{what} (FAILED)", (math.inf,), "x", at_most(1.5)))
            continue
        figures += [
            samples.ratio(f"{name} many", f"{name} few", what, at_most(1.5)),
            samples.plain(f"{name} many", f"{kind}: {name} among {many:,}", "ms"),
        ]
    return figures


def run(settings: Settings, stack: ExitStack) -> list[Figure]:
    store = open_store(stack, settings)
    figures: list[Figure] = []
    for kind in settings.databases:
        # One after the other: together they would not fit into the memory of a small machine.
        with ExitStack() as inner:
            figures += measured(settings, inner, store, kind)
    return figures
