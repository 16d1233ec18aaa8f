"""Measure 2: the same work as django-newsletter, mail included, both on PostgreSQL."""

from __future__ import annotations

import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench import load, servers
from bench.clicks import Links
from bench.cluster import Cluster, running_cluster
from bench.mails import Mailing
from bench.measuring import POSTGRESQL, Cell, Figure, Settings, at_least, at_most, interleaved
from bench.servers import Server
from bench.signup import cell, warm_up
from bench.sink import Sink, running_sink
from tests.support.ports import free_port
from tests.support.servers import ROOT, clean_environment, start_process
from tests.support.waiting import wait_for

REQUIREMENTS = ROOT / "bench" / "references" / "newsletter_requirements.txt"
SITE = "bench.references.newsletter_site"
FORM = load.post("/newsletter/news/subscribe/", "email_field=n%(number)s@example.org", numbered=1)
STRIDE = 100_000
# More than django-newsletter can use up in a cell.
CLICKS_PER_SECOND = 400


@dataclass
class Newsletter:
    """django-newsletter, served by gunicorn like Signup: 2 processes of 8 threads."""

    server: Server
    python: Path
    cells: int = 0

    def signups(self) -> load.Requests:
        self.cells += 1
        return load.Requests(FORM, ("302",), first=self.cells * STRIDE)

    def make_links(self, count: int, file: Path) -> None:
        command = [str(self.python), "-m", SITE, "links", str(count), str(file)]
        subprocess.run(command, cwd=ROOT, env=self.server.environ, check=True)


def environment(cache: Path) -> Path:
    """The Python of a virtual environment with django-newsletter, made once."""
    home = cache / "newsletter"
    python, stamp = home / "bin" / "python", home / "installed"
    wanted = REQUIREMENTS.read_text()
    if not stamp.exists() or stamp.read_text() != wanted:
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True)
        install = ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r", str(REQUIREMENTS)]
        subprocess.run([str(python), *install], check=True)
        stamp.write_text(wanted)
    return python


def serve(stack: ExitStack, settings: Settings, cluster: Cluster, sink: Sink) -> Newsletter:
    python = environment(settings.cache)
    environ = clean_environment(
        NEWSLETTER_DATABASE=cluster.url(cluster.create()),
        NEWSLETTER_MAIL_PORT=str(sink.port),
        # Only gunicorn.conf.py reads this one: two processes, as for every PostgreSQL.
        DATABASE_URL="postgresql://",
        HOST="127.0.0.1",
        PORT=str(free_port()),
        PYTHONPATH=str(ROOT),
    )
    subprocess.run([str(python), "-m", SITE, "prepare"], cwd=ROOT, env=environ, check=True)
    command = [str(python), "-m", "gunicorn", "-c", "gunicorn.conf.py", f"{SITE}:application"]
    web = start_process("newsletter", command, environ=environ, log=settings.folder / "newsletter.log")
    stack.callback(web.stop, 60)
    url = f"http://127.0.0.1:{environ['PORT']}"
    server = Server(url, environ, settings.folder, web, (cluster.process.pid,))
    path = "/newsletter/news/subscribe/"
    wait_for(lambda: servers._ready(server, path), seconds=60, describe=f"django-newsletter at {url}")
    return Newsletter(server, python)


def ours_with_mail(mailing: Mailing) -> Cell:
    """Sign-ups with the worker running; done when the last mail is handed over."""

    def run() -> dict[str, float]:
        mailing.server.start_worker()
        # The worker is up once it has sent what the warm-up left.
        mailing.sign_up(min(1.0, mailing.settings.seconds))
        mailing.drain()
        started = time.perf_counter()
        driven = mailing.sign_up(mailing.settings.seconds)
        mailing.drain()
        whole = time.perf_counter() - started
        mailing.server.stop_workers()
        return {"ours": driven.count / whole, **driven.samples("ours")}

    return run


def theirs_with_mail(theirs: Newsletter, sink: Sink, settings: Settings) -> Cell:
    """Their POST hands the mail over before it answers."""
    driving = cell("theirs", theirs.server, theirs.signups, settings)

    def run() -> dict[str, float]:
        before = sink.taken().count
        values = driving()
        if sink.taken().count == before:
            raise RuntimeError("django-newsletter sent no mail")
        return {"theirs": values["theirs rate"], **values}

    return run


def run(settings: Settings, stack: ExitStack) -> list[Figure]:
    if POSTGRESQL not in settings.databases:
        return []
    settings.cache.mkdir(parents=True, exist_ok=True)
    sink, other = stack.enter_context(running_sink()), stack.enter_context(running_sink())
    theirs = serve(stack, settings, stack.enter_context(running_cluster()), other)
    place = servers.fresh_place(stack, settings, POSTGRESQL, MAIL_PORT=str(sink.port))
    mailing = Mailing(servers.serve(stack, place), sink, settings)
    warm_up(theirs.server, theirs.signups(), settings)
    cells = [ours_with_mail(mailing), theirs_with_mail(theirs, other, settings)]
    cells += clicks(theirs, settings)
    samples = interleaved("newsletter", cells, settings.rounds)
    return [
        samples.ratio("ours", "theirs", "subscriptions/s with mail / django-newsletter's", at_least(3), at_least(3.5)),
        samples.ratio("ours p95", "theirs p95", "p95 of the POST / django-newsletter's", at_most(0.4), at_most(0.2)),
        samples.plain("ours", "Signup: subscriptions with their mail handed over", "/s"),
        samples.plain("theirs", "django-newsletter: the same", "/s"),
        samples.plain("theirs cpu", "django-newsletter: CPU each, database included", "ms"),
        samples.plain("their confirm rate", "django-newsletter: confirmations", "/s"),
        samples.plain("their confirm cpu", "django-newsletter: CPU of one, database included", "ms"),
        samples.plain("their unsubscribe rate", "django-newsletter: unsubscribes", "/s"),
        samples.plain("their unsubscribe cpu", "django-newsletter: CPU of one, database included", "ms"),
    ]


def clicks(theirs: Newsletter, settings: Settings) -> list[Cell]:
    """Their confirmations, then unsubscribes of the same people."""
    per_cell = int(CLICKS_PER_SECOND * settings.seconds)
    file = settings.folder / "newsletter.links"
    theirs.make_links(per_cell * (settings.rounds + 1), file)
    good = {"confirm": file, "unsubscribe": file.with_suffix(".unsubscribe")}
    made = {what: Links(what, path, per_cell, ("302",)) for what, path in good.items()}
    cells = {what: cell(f"their {what}", theirs.server, made[what].requests, settings) for what in made}
    warm_up(theirs.server, made["confirm"].requests(), settings)
    warm_up(theirs.server, made["unsubscribe"].requests(), settings)

    def both() -> dict[str, float]:
        # In this order: only who has confirmed can leave.
        return {**cells["confirm"](), **cells["unsubscribe"]()}

    return [both]
