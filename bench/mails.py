"""Measure 3: whether mails leave as fast as sign-ups come, and what one costs beside Flask-Mail."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import ExitStack

from bench import load, processes, servers
from bench.measuring import Cell, Figure, Settings, at_least, interleaved
from bench.servers import Server
from bench.signup import signups
from bench.sink import Sink, running_sink
from tests.support.servers import ROOT, clean_environment
from tests.support.waiting import wait_for

# While the worker starts nothing leaves: that is the backlog it begins with.
BACKLOG_SECONDS = 1.0
DRAIN_SECONDS = 300
CONTROL_SECONDS = 20


class Mailing:
    """One Signup whose mails go to the sink; its worker runs only while a cell needs it."""

    def __init__(self, server: Server, sink: Sink, settings: Settings) -> None:
        self.server, self.sink, self.settings = server, sink, settings
        self.owed = 0  # mails that all sign-ups so far have asked for

    def sign_up(self, seconds: float) -> load.Driven:
        driven = load.drive(
            self.server.url,
            signups(),
            seconds=seconds,
            connections=self.settings.connections,
            pids=self.server.pids,
        )
        self.owed += driven.count
        return driven

    def drain(self) -> None:
        """All that is owed has left."""
        wait_for(lambda: self.sink.taken().count >= self.owed, seconds=DRAIN_SECONDS, describe="the last mail")

    def together(self, name: str) -> Cell:
        """Sign-ups and the worker at the same time, with a backlog at the beginning."""

        def run() -> dict[str, float]:
            self.sign_up(min(BACKLOG_SECONDS, self.settings.seconds))
            before = self.sink.taken().count
            self.server.start_worker()
            wait_for(lambda: self.sink.taken().count > before, seconds=CONTROL_SECONDS, describe="the first mail")
            first, started = self.sink.taken().count, time.perf_counter()
            driven = self.sign_up(self.settings.seconds)
            out = (self.sink.taken().count - first) / (time.perf_counter() - started)
            self.drain()
            self.server.stop_workers()
            return {f"{name} in": driven.rate, f"{name} out": out}

        return run

    def alone(self, name: str) -> Cell:
        """The worker by itself, on what some seconds of sign-ups left."""

        def run() -> dict[str, float]:
            self.sign_up(self.settings.seconds)
            self.sink.restart()
            before = self.sink.taken().count
            roots = [*self.server.pids]
            cost = processes.cpu_seconds(roots)
            worker = self.server.start_worker()
            wait_for(lambda: self.sink.taken().count > before, seconds=CONTROL_SECONDS, describe="the first mail")
            start = processes.cpu_seconds([worker.popen.pid])
            self.drain()
            taken = self.sink.taken()
            cost = processes.cpu_seconds(roots) - cost + processes.cpu_seconds([worker.popen.pid]) - start
            self.server.stop_workers()
            sent = taken.count - before
            return {f"{name} alone": (sent - 1) / (taken.last - taken.first), f"{name} cpu": cost / sent * 1000}

        return run


def flask_mail(sink: Sink, count: int) -> Cell:
    """As many mails by Flask-Mail, one connection each."""

    def run() -> dict[str, float]:
        sink.restart()
        before = processes.cpu_seconds([sink.pid])
        command = [sys.executable, "-m", "bench.references.flask_mail_sender", str(sink.port), str(count)]
        subprocess.run(command, cwd=ROOT, env=clean_environment(), check=True)
        taken = sink.taken()
        own = processes.cpu_seconds([sink.pid]) - before
        return {"flask-mail": (count - 1) / (taken.last - taken.first), "sink": own / count * 1000}

    return run


def run(settings: Settings, stack: ExitStack) -> list[Figure]:
    sink = stack.enter_context(running_sink())
    cells: list[Cell] = [flask_mail(sink, int(200 * settings.seconds))]
    for kind in settings.databases:
        own = stack.enter_context(running_sink())
        place = servers.fresh_place(stack, settings, kind, MAIL_PORT=str(own.port))
        mailing = Mailing(servers.serve(stack, place), own, settings)
        mailing.sign_up(min(BACKLOG_SECONDS, settings.seconds))
        cells += [mailing.together(kind), mailing.alone(kind)]
    samples = interleaved("mails", cells, settings.rounds)
    figures: list[Figure] = []
    for kind in settings.databases:
        together = f"{kind}: mails out / sign-ups in, together"
        figures += [
            samples.ratio(f"{kind} out", f"{kind} in", together, at_least(1)),
            samples.ratio(f"{kind} alone", "flask-mail", f"{kind}: mails/s / Flask-Mail's", at_least(5), at_least(12)),
            samples.plain(f"{kind} in", f"{kind}: sign-ups while mails leave", "/s"),
            samples.plain(f"{kind} out", f"{kind}: mails while sign-ups come", "/s"),
            samples.plain(f"{kind} alone", f"{kind}: mails, worker alone", "/s"),
            samples.plain(f"{kind} cpu", f"{kind}: CPU a mail, database included", "ms"),
        ]
    figures.append(samples.plain("flask-mail", "Flask-Mail: mails", "/s"))
    figures.append(samples.plain("sink", "CPU of the mail server a mail", "ms"))
    return figures
