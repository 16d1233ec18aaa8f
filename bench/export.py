"""Measure 5: the export of all subscriptions over HTTP, against the barest way to get the same columns out."""

from __future__ import annotations

import http.client
import subprocess
import sys
import threading
import time
from contextlib import ExitStack
from urllib.parse import urlsplit

from bench import processes, servers
from bench.databases import open_store
from bench.measuring import POSTGRESQL, Cell, Figure, Settings, at_most, interleaved
from bench.servers import Place, Server
from tests.support.servers import ROOT

CHUNK_BYTES = 1024 * 1024
SAMPLE_SECONDS = 0.1
# An export takes seconds to minutes; more rounds would tell nothing new.
MOST_ROUNDS = 3
PATHS = {"CSV": "/api/v1/export/subscriptions.csv", "JSON lines": "/api/v1/export/subscriptions.jsonl"}


class MemoryWatch:
    """The most memory that some processes held while the block ran, over what they held before."""

    def __init__(self, server: Server) -> None:
        self._pids = [server.web.popen.pid]
        self._over = threading.Event()

    def __enter__(self) -> MemoryWatch:
        self.before = self.peak = processes.own_memory(self._pids)
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._over.wait(SAMPLE_SECONDS):
            self.peak = max(self.peak, processes.own_memory(self._pids))

    @property
    def growth(self) -> float:
        return self.peak - self.before


def download(server: Server, place: Place, path: str) -> int:
    """Everything was read and thrown away; how many lines there were."""
    parts = urlsplit(server.url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=600)
    connection.request("GET", path, headers={"Authorization": f"Bearer {place.api_key}"})
    answer = connection.getresponse()
    if answer.status != http.client.OK:
        raise RuntimeError(f"the export answered {answer.status}")
    lines = 0
    while chunk := answer.read(CHUNK_BYTES):
        lines += chunk.count(b"\n")
    connection.close()
    return lines


def ours(name: str, server: Server, place: Place, path: str, rows: int) -> Cell:
    def run() -> dict[str, float]:
        before = processes.cpu_seconds(server.pids)
        with MemoryWatch(server) as memory:
            started = time.perf_counter()
            lines = download(server, place, path)
            seconds = time.perf_counter() - started
        if lines < rows:
            raise RuntimeError(f"the export had {lines} lines for {rows} contacts")
        cpu = processes.cpu_seconds(server.pids) - before
        return {f"{name} s": seconds, f"{name} cpu": cpu, f"{name} memory": memory.growth}

    return run


def bare(kind: str, place: Place, way: str) -> Cell:
    """A program that does nothing else writes the same columns into a pipe."""

    def run() -> dict[str, float]:
        command = [sys.executable, "-m", "bench.references.bare_export", way]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, cwd=ROOT, env=place.environ, stdout=pipe, stderr=pipe) as process:
            assert process.stdout is not None
            assert process.stderr is not None
            while process.stdout.read(CHUNK_BYTES):
                pass
            told = process.stderr.read().decode()
        if process.returncode:
            raise RuntimeError(f"the bare export failed:\n{told}")
        return {f"{kind} {way}": float(told.split()[-1])}

    return run


def run(settings: Settings, stack: ExitStack) -> list[Figure]:
    store = open_store(stack, settings)
    figures: list[Figure] = []
    for kind in settings.databases:
        with ExitStack() as inner:
            place, _ = store.place(kind, settings.rows)
            server = servers.serve(inner, place)
            # The first one loads code and fills caches.
            download(server, place, PATHS["CSV"] + "?status=refused")
            cells = [ours(f"{kind} {form}", server, place, path, settings.rows) for form, path in PATHS.items()]
            ways = ["loop", "copy"] if kind == POSTGRESQL else ["loop"]
            rounds = min(settings.rounds, MOST_ROUNDS)
            samples = interleaved("export", [*cells, *(bare(kind, place, way) for way in ways)], rounds)
        csv = f"{kind} CSV"
        growth = samples.plain(f"{csv} memory", f"{kind}: memory growth", "MB")
        ratio = f"{kind}: time / bare loop over a cursor, {settings.rows:,} rows"
        figures += [
            samples.ratio(f"{csv} s", f"{kind} loop", ratio, at_most(1.5)),
            Figure(growth.measure, growth.what, growth.values, "MB", at_most(12)),
            samples.plain(f"{csv} s", f"{kind}: CSV over HTTP", "s"),
            samples.plain(f"{csv} cpu", f"{kind}: CPU of the CSV, database included", "s"),
            samples.plain(f"{kind} JSON lines s", f"{kind}: JSON lines over HTTP", "s"),
            samples.plain(f"{kind} loop", f"{kind}: bare loop", "s"),
        ]
        if kind == POSTGRESQL:
            figures += [
                samples.ratio(f"{csv} s", f"{kind} copy", f"{kind}: time / bare COPY"),
                samples.plain(f"{kind} copy", f"{kind}: bare COPY", "s"),
            ]
    return figures
