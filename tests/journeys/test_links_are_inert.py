"""What opens a mailed link but does not press its button changes nothing: scanners, previews, prefetchers, browsers."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from playwright.sync_api import Browser
from sqlalchemy import func, select

from signup.core.db import database, reading, transaction
from signup.core.signing import token_hash
from signup.core.values import utc_now
from signup.eventlog.kinds import EventType
from signup.eventlog.models import Disclosure, Event, LinkHits
from signup.privacy import retention
from signup.subscriptions import answers
from signup.subscriptions.rules import OPENINGS_TOLD
from tests.conftest import CLIENT, Place, SignedUp, environment
from tests.journeys.visitor import visiting
from tests.journeys.world import ident_in, tables
from tests.support.servers import Service, running_service

REQUESTS = 1000
# The log of openings is what may grow.
GROWING = {Event.__tablename__, Disclosure.__tablename__, LinkHits.__tablename__}
# Every kind of link that goes into a mail, and whose id it carries.
KINDS = {
    "confirm": "confirm",
    "not-me": "confirm",
    "code": "confirm",
    "unsubscribe": "unsubscribe",
    "preferences": "unsubscribe",
}
HITS_OF_EACH = 50
SCANNERS = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/149.0 Safari/537.36",
    "curl/8.9.1",
    "Barracuda Sentinel (EE)",
    "",
)

SignUp = Callable[..., SignedUp]


@pytest.fixture
def people(app: Flask, sign_up: SignUp, signup_and_confirm: SignUp, client: FlaskClient) -> dict[str, SignedUp]:
    """One person in each state that a link can be opened in."""
    now = utc_now()
    long_ago = now - timedelta(days=7, hours=1)
    found = {
        "open": sign_up("open@beispiel.example"),
        "confirmed": signup_and_confirm("confirmed@beispiel.example"),
        "unsubscribed": signup_and_confirm("unsubscribed@beispiel.example"),
        "refused": sign_up("refused@beispiel.example"),
        "refused after confirming": signup_and_confirm("hijacked@beispiel.example"),
        "replaced": sign_up("replaced@beispiel.example", at=now - timedelta(hours=2)),
        "expired": sign_up("expired@beispiel.example", at=long_ago),
        "expired and cleaned": sign_up("cleaned@beispiel.example", at=long_ago - timedelta(days=2)),
    }
    sign_up("replaced@beispiel.example", chosen=("invitations",), at=now)
    ended = client.post(found["unsubscribed"].unsubscribe_path, data={"List-Unsubscribe": "One-Click"})
    assert ended.status_code == 200
    retention.run_now(lambda: now - timedelta(days=1))
    retention.run_now(lambda: now)
    for name in ("refused", "refused after confirming"):
        with transaction() as session:
            answers.refuse(session, ident_in("not-me", found[name].not_me_url), client=CLIENT, page_seconds=5, now=now)
    return found


def frozen() -> dict[str, list[tuple[Any, ...]]]:
    return {name: rows for name, rows in tables().items() if name not in GROWING}


def paths(people: dict[str, SignedUp]) -> list[str]:
    keys = database().sessions.kw["keys"]
    found = []
    for person in people.values():
        idents = {kind: ident_in(kind, getattr(person, f"{kind}_url")) for kind in ("confirm", "unsubscribe")}
        found += [f"/{purpose}/{keys.token(purpose, idents[kind])}" for purpose, kind in KINDS.items()]
    return found


def log_kinds() -> set[EventType]:
    with reading() as session:
        return set(session.scalars(select(Event.kind)))


@pytest.mark.req("E15")
@pytest.mark.req("A16")
@pytest.mark.req("U3")
def test_no_state_changes_when_mailed_links_are_opened_a_thousand_times(
    people: dict[str, SignedUp], client: FlaskClient
) -> None:
    before, kinds_before = frozen(), log_kinds()
    statuses: dict[str, set[int]] = {}
    every = paths(people)
    methods = itertools.cycle(("GET", "HEAD", "OPTIONS", "GET"))
    hits = [(path, next(methods)) for path in every for _ in range(HITS_OF_EACH)]
    assert len(hits) >= REQUESTS
    for number, (path, method) in enumerate(hits):
        agent = SCANNERS[number % len(SCANNERS)]
        answer = client.open(path, method=method, headers={"User-Agent": agent})
        statuses.setdefault(method, set()).add(answer.status_code)
    assert frozen() == before
    assert log_kinds() - kinds_before == {EventType.LINK_OPENED}
    assert statuses == {"GET": {200, 404, 410}, "HEAD": {200, 404, 410}, "OPTIONS": {200}}


@pytest.mark.req("E19")
def test_openings_are_only_counted_after_fifty_when_one_link_is_hammered(sign_up: SignUp, client: FlaskClient) -> None:
    person = sign_up("hammered@beispiel.example")
    before = frozen()
    for _ in range(OPENINGS_TOLD + 20):
        assert client.get(person.confirm_path).status_code == 200
        assert client.get(person.unsubscribe_path).status_code == 200
    assert frozen() == before
    with reading() as session:
        told = session.scalar(select(func.count()).select_from(Event).where(Event.kind == EventType.LINK_OPENED))
        hits = {bytes(token): count for token, count in session.execute(select(LinkHits.token_hash, LinkHits.hits))}
    assert told == 2 * OPENINGS_TOLD
    assert hits[token_hash(ident_in("confirm", person.confirm_url))] == OPENINGS_TOLD + 20
    assert hits[token_hash(ident_in("unsubscribe", person.unsubscribe_url))] == OPENINGS_TOLD + 20


@pytest.fixture
def web(place: Place, app: Flask) -> Iterator[Service]:
    """The web server alone: a worker would send mails meanwhile, and that is a change."""
    settings = environment(place.folder, place.url)
    del settings["PUBLIC_URL"]
    with running_service(place.folder, database_url=place.url, workers=0, migrate=False, **settings) as running:
        yield running


@pytest.mark.browser
@pytest.mark.req("E15")
@pytest.mark.req("A16")
def test_no_state_changes_when_a_browser_with_scripts_opens_every_link(
    web: Service, people: dict[str, SignedUp], chromium: Browser
) -> None:
    before = frozen()
    urls = [web.url + path for path in paths(people)]
    with visiting(chromium) as visitor:
        tabs = [visitor.page.context.new_page() for _ in urls]
        for tab, url in zip(tabs, urls, strict=True):
            tab.goto(url)
        for tab in tabs:
            tab.wait_for_load_state("networkidle")
        # A page that submits itself would have gone somewhere else by now.
        assert [tab.url for tab in tabs] == urls
    assert frozen() == before
    assert log_kinds() >= {EventType.LINK_OPENED}
