"""Data of the release before stays whole and readable, and nobody is turned away while it is replaced."""

from __future__ import annotations

import json
import re
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tests.deploy.conftest import FORM, SET_UP
from tests.deploy.load import STAYING, visitors
from tests.support.ports import free_port
from tests.support.postgres import PostgresServer
from tests.support.servers import ROOT, clean_environment
from tests.support.smtp import ScriptedSmtp
from tests.support.waiting import wait_for
from tests.upgrade.balancer import Balancer
from tests.upgrade.releases import Release, previous

pytestmark = pytest.mark.slow

SECONDS = 60.0
ANNA = "anna@kunde.example"
# A page answered within a second was not read: the service asks for another press.
READING_SECONDS = 1.2
Document = dict[str, Any]


class NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_arguments: Any) -> None:
        return None


opener = urllib.request.build_opener(NoRedirect)


@dataclass
class Town:
    """Both releases on one database, one mail server."""

    old: Release
    new: Release
    environ: dict[str, str]
    folder: Path
    smtp: ScriptedSmtp
    key: str = ""
    before: Document = field(default_factory=dict)
    way_out: str = ""

    def web(self, release: Release, port: int) -> Any:
        log = self.folder / f"{release.name}-{port}-{len(release.processes)}.log"
        return release.start_web(port, environ=self.environ, log=log)

    def worker(self, release: Release) -> Any:
        return release.start_worker(environ=self.environ, log=self.folder / f"{release.name}-worker.log")

    def furnish(self) -> None:
        self.old.flask("db", "upgrade", environ=self.environ)
        for command in SET_UP:
            self.old.flask(*command, environ=self.environ)
        scopes = ("contacts.read", "evidence.read", "subscriptions.read")
        asked = [part for scope in scopes for part in ("--scope", scope)]
        self.key = self.old.flask("api-key", "create", "tests", *asked, environ=self.environ).split()[-1]

    def get(self, port: int, path: str) -> Document:
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}")
        request.add_header("Authorization", f"Bearer {self.key}")
        with urllib.request.urlopen(request, timeout=30) as answer:
            found: Document = json.loads(answer.read())
            return found

    def history(self, port: int, email: str) -> Document:
        [contact] = self.get(port, f"/api/v1/contacts?email={email}")["items"]
        return self.get(port, f"/api/v1/contacts/{contact['id']}/evidence")

    def subscription(self, port: int, email: str) -> Document:
        [found] = self.get(port, f"/api/v1/subscriptions?email={email}")["items"]
        return dict(found)

    def status(self, port: int, email: str) -> str:
        return str(self.subscription(port, email)["status"])

    def remember(self, port: int) -> None:
        """What the old program says of Anna, and the way out that it gave to her."""
        self.before = self.history(port, ANNA)
        found = re.search(r"<http[^>]+?(/unsubscribe/[^>]+)>", self.subscription(port, ANNA)["list_unsubscribe"])
        assert found
        self.way_out = found[1]

    def mailed(self, email: str, link: str) -> str:
        """The path of a link in the mail to this address."""

        def look() -> str | None:
            for mail in list(self.smtp.received):
                if mail.rcpt_tos == (email,):
                    body = message_from_bytes(mail.content, policy=policy.default).get_body(("plain",))
                    found = re.search(rf"^\S+?(/{link}/\S+)$", body.get_content().replace("\r", ""), re.MULTILINE)
                    return found[1] if found else None
            return None

        return wait_for(look, seconds=SECONDS, describe=f"the mail to {email}")


def press(port: int, path: str, **form: str) -> int:
    """The status of a POST, redirects not followed."""
    data = "&".join(f"{name}={value}" for name, value in form.items()).encode()
    try:
        with opener.open(urllib.request.Request(f"http://127.0.0.1:{port}{path}", data=data), timeout=30) as answer:
            return int(answer.status)
    except urllib.error.HTTPError as answer:
        return answer.code


def confirm(port: int, path: str) -> None:
    with opener.open(f"http://127.0.0.1:{port}{path}", timeout=30) as page:
        nonce = re.search(r'name="nonce" value="([^"]+)"', page.read().decode())
    assert nonce
    wait_for(lambda: press(port, path, nonce=nonce[1]) == 303, seconds=30, describe="a page that was read")


@pytest.fixture
def town(tmp_path: Path, smtp_server: ScriptedSmtp) -> Iterator[Town]:
    old, new = previous(tmp_path / "previous"), Release("this", ROOT)
    environ = clean_environment(
        SIGNUP_ENV="development",
        SIGNUP_INSTANCE=str(tmp_path / "instance"),
        PUBLIC_URL="http://signup.example.org",
        SIGNUP_TRUSTED_PROXIES="1",
        WEB_CONCURRENCY="1",
        MAIL_SERVER=smtp_server.host,
        MAIL_PORT=str(smtp_server.port),
    )
    found = Town(old, new, environ, tmp_path, smtp_server)
    try:
        yield found
    finally:
        old.stop()
        new.stop()


@pytest.mark.postgres
def test_nobody_is_turned_away_when_one_machine_after_the_other_is_replaced(
    town: Town, postgres_server: PostgresServer
) -> None:
    url = postgres_server.create_database()
    town.environ["DATABASE_URL"] = url.replace("postgresql+psycopg", "postgresql")
    town.furnish()
    balancer = Balancer()
    ports = [free_port(), free_port()]
    running = {port: town.web(town.old, port) for port in ports}
    worker = town.worker(town.old)
    for port in ports:
        balancer.add(port)
    assert press(ports[0], f"/f/{FORM}", email=ANNA, purpose="news") == 303
    confirm(ports[0], town.mailed(ANNA, "confirm"))
    town.remember(ports[0])

    with visitors(balancer.port, FORM) as load:
        load.wait(5)
        town.new.flask("db", "upgrade", environ=town.environ)
        load.wait(5)
        for port in ports:
            balancer.remove(port)
            _drain(balancer, port)
            running[port].stop(40)
            running[port] = town.web(town.new, port)
            balancer.add(port)
            load.wait(5)
        worker.stop(40)
        town.worker(town.new)
        load.wait(5)
    balancer.close()

    assert load.lost == []
    _all_have_their_mail(town, set(load.accepted))
    _all_are_held(url, load.accepted)
    _the_old_data_lives(town, ports[0])
    last = load.accepted[-1]
    confirm(ports[1], town.mailed(last, "confirm"))
    assert town.status(ports[1], last) == "active"


def test_no_data_is_lost_when_a_service_on_sqlite_is_stopped_and_replaced(town: Town) -> None:
    town.furnish()
    port = free_port()
    web, worker = town.web(town.old, port), town.worker(town.old)
    assert press(port, f"/f/{FORM}", email=ANNA, purpose="news") == 303
    confirm(port, town.mailed(ANNA, "confirm"))
    town.remember(port)
    assert worker.stop(40) == 0
    # Nobody has sent this mail when the old program ends.
    assert press(port, f"/f/{FORM}", email="bert@kunde.example", purpose="news") == 303
    web.stop(40)

    town.new.flask("db", "upgrade", environ=town.environ)
    town.web(town.new, port)
    town.worker(town.new)
    _the_old_data_lives(town, port)
    confirm(port, town.mailed("bert@kunde.example", "confirm"))
    assert town.status(port, "bert@kunde.example") == "active"


def _drain(balancer: Balancer, port: int) -> None:
    """Only who stays on one connection may be left: gunicorn itself says goodbye to them, between two requests."""
    wait_for(lambda: balancer.busy(port) <= STAYING, seconds=SECONDS, describe="a drained machine")


def _all_have_their_mail(town: Town, people: set[str]) -> None:
    def mailed() -> bool:
        return people <= {address for mail in town.smtp.received for address in mail.rcpt_tos}

    wait_for(mailed, seconds=SECONDS, describe="a mail for each of them")


def _all_are_held(url: str, people: list[str]) -> None:
    with psycopg.connect(url.replace("postgresql+psycopg", "postgresql")) as connection:
        held = {row[0] for row in connection.execute("SELECT email FROM contact")}
        dead = connection.execute("SELECT count(*) FROM job WHERE state = 'dead'").fetchone()
    assert set(people) - held == set()
    assert dead == (0,)


def _the_old_data_lives(town: Town, port: int) -> None:
    """The proof is as readable as it was, and the old link still leads out."""
    assert len(json.dumps(town.before)) > 1000
    assert _missing(town.before, town.history(port, ANNA)) == []
    assert town.status(port, ANNA) == "active"
    assert press(port, town.way_out, **{"List-Unsubscribe": "One-Click"}) == 200
    assert town.status(port, ANNA) == "ended"


def _missing(old: Any, new: Any, where: str = "") -> list[str]:
    """What the old document says and the new one does not; a release may add to a proof, and take nothing away."""
    if isinstance(old, dict):
        return [line for name in old for line in _missing(old[name], (new or {}).get(name), f"{where}.{name}")]
    if isinstance(old, list):
        pairs = zip(old, [*new, *[None] * len(old)], strict=False)
        return [
            line for number, (one, other) in enumerate(pairs) for line in _missing(one, other, f"{where}[{number}]")
        ]
    # Nothing was said there, such as the place in a log that was not sealed yet.
    return [] if old is None or old == new else [f"{where}: {old!r} became {new!r}"]
