"""A fresh, migrated, seeded database for each test, on SQLite and on PostgreSQL."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import threading
from base64 import urlsafe_b64encode
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from email import message_from_bytes, policy
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from flask_migrate import upgrade
from sqlalchemy import select

from signup import demo as demo_data
from signup.app import create_app
from signup.contacts import actions as contacts
from signup.core.config import Config
from signup.core.db import database, reading, transaction
from signup.core.values import ClientInfo, EmailAddress, utc_now
from signup.forms import actions as forms
from signup.mail import compose
from signup.mail.models import Message, MessageState
from signup.purposes import actions as purposes
from signup.staff import access
from signup.subscriptions import answers, links, presses, requests
from signup.subscriptions.models import Subscription

pytest_plugins = ["tests.support.fixtures"]

NOW = datetime(2026, 11, 23, 9, 14, 2, 125000, tzinfo=UTC)
# Fewer than the soft limit of a network.
ONE_HOUSEHOLD = 4
CLIENT = ClientInfo("203.0.113.7", "connection", "Mozilla/5.0 (test)")


def elsewhere(number: int) -> ClientInfo:
    """A client in a network of its own, so that no budget comes between."""
    return ClientInfo(f"100.{64 + number // 256}.{number % 256}.7", "connection", "Mozilla/5.0 (test)")


def _key(seed: int) -> str:
    return urlsafe_b64encode(bytes((seed + step * 7) % 256 for step in range(32))).decode()


def environment(folder: Path, database_url: str | None = None, **more: str) -> dict[str, str]:
    """Settings of a complete development service with fixed keys."""
    return {
        "SIGNUP_ENV": "development",
        "SIGNUP_INSTANCE": str(folder),
        "SECRET_KEY": "test-secret-key-with-enough-characters-0123456789",
        "SIGNUP_PEPPER": _key(1),
        "SIGNUP_DATA_KEY": _key(101),
        "PUBLIC_URL": "http://127.0.0.1:8000",
        "SIGNUP_OUTBOUND_ALLOW": "127.0.0.0/8",
        "MAIL_SERVER": "127.0.0.1",
        "MAIL_PORT": "1",
        **({"DATABASE_URL": database_url} if database_url else {}),
        **more,
    }


class Clock:
    """A clock that only moves when told."""

    def __init__(self, start: datetime) -> None:
        self.time = start

    def __call__(self) -> datetime:
        return self.time

    def forward(self, **delta: float) -> datetime:
        self.time += timedelta(**delta)
        return self.time


@pytest.fixture
def now() -> datetime:
    return NOW


@pytest.fixture
def clock() -> Clock:
    """Starts at the real time, so that it agrees with what HTTP views see."""
    return Clock(utc_now())


_secrets: dict[str, str] = {}


def _build(folder: Path, url: str | None) -> None:
    """An empty database becomes migrated and holds the demo."""
    app = create_app(Config.from_env(environment(folder, url)))
    with app.app_context():
        upgrade()
        with transaction() as session:
            controller = demo_data.seed(session, now=NOW)
            made = access.create_key(session, controller.id, "tests", list(access.SCOPES), now=NOW)
        _secrets[url or "sqlite"] = made.secret
        database().engine.dispose()


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("template")
    _build(folder, None)
    return folder / "signup.db"


@pytest.fixture(params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def backend(request: pytest.FixtureRequest) -> str:
    """Which database this run of the test is on."""
    return str(request.param)


@dataclass
class Place:
    """A database of this test alone."""

    folder: Path
    url: str | None
    api_key: str


@pytest.fixture
def place(backend: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    if backend == "sqlite":
        shutil.copy(request.getfixturevalue("sqlite_template"), tmp_path / "signup.db")
        yield Place(tmp_path, None, _secrets["sqlite"])
        return
    server = request.getfixturevalue("postgres_server")
    built: list[str] = []

    def build(url: str) -> None:
        _build(tmp_path, url)
        _secrets["postgres"] = _secrets[url]
        built.append(url)

    url = server.create_database(server.template("signup", build))
    yield Place(tmp_path, url, _secrets["postgres"])
    server.drop_database(url)


@pytest.fixture
def settings() -> dict[str, str]:
    """More environment for `app`; a test module may override it."""
    return {}


@pytest.fixture
def app(place: Place, settings: dict[str, str]) -> Iterator[Flask]:
    app = create_app(Config.from_env(environment(place.folder, place.url, **settings)))
    with app.app_context():
        yield app
        for thread in threading.enumerate():
            # A scrape does not wait for its totals, the end of the engine does.
            if thread.name == "totals":
                thread.join(10)
        database().engine.dispose()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture
def demo(app: Flask, place: Place) -> SimpleNamespace:
    with reading() as session:
        controller = purposes.find_controller(session, "beispiel")
    return SimpleNamespace(controller=controller, api_key=place.api_key)


@dataclass
class SignedUp:
    """What a test wants to know about a person who signed up."""

    email: str
    contact_id: str
    subscription_id: str
    confirm_url: str
    not_me_url: str
    unsubscribe_url: str

    @property
    def confirm_path(self) -> str:
        return self.confirm_url.removeprefix("http://127.0.0.1:8000")

    @property
    def not_me_path(self) -> str:
        return self.not_me_url.removeprefix("http://127.0.0.1:8000")

    @property
    def unsubscribe_path(self) -> str:
        return self.unsubscribe_url.removeprefix("http://127.0.0.1:8000")


def queued_mail(email: str) -> Any:
    """The newest queued mail to an address, parsed, or None."""
    with reading() as session:
        controller = purposes.find_controller(session, "beispiel")
        found = contacts.find(session, controller.id, EmailAddress.parse(email))
        if found is None:
            return None
        row = session.execute(
            select(Message.sealed)
            .where(Message.contact_id == found.id, Message.state == MessageState.QUEUED)
            .order_by(Message.id.desc())
        ).first()
        if row is None:
            return None
        _, raw = compose.opened(session, contacts.open_key(session, found.id), row.sealed)
    return message_from_bytes(raw, policy=policy.default)


def mailed_url(message: Any, kind: str) -> str:
    text = message.get_body(("plain",)).get_content().replace("\r\n", "\n")
    found = re.search(rf"^(http\S+/{kind}/\S+)$", text, re.MULTILINE)
    assert found, text
    return found[1]


@pytest.fixture
def sign_up(app: Flask) -> Callable[..., SignedUp]:
    """Sign somebody up on a demo form without confirming."""
    calls = itertools.count()

    def elsewhere() -> ClientInfo:
        """One household signs up a handful of people; who comes after them lives somewhere else."""
        number = next(calls)
        return CLIENT if number < ONE_HOUSEHOLD else replace(CLIENT, ip=f"198.51.{number % 256}.7")

    def act(
        email: str,
        form: str = "demo-de",
        chosen: tuple[str, ...] = ("product-news",),
        *,
        at: datetime | None = None,
        client: ClientInfo | None = None,
    ) -> SignedUp:
        now = at or utc_now()
        with reading() as session:
            view = forms.in_force(session, form)
        client, page = client or elsewhere(), "https://www.beispiel.example"
        ask = presses.SignupRequest(EmailAddress.parse(email), chosen, None, view.version, client, page, None)
        with transaction() as session:
            requests.request(session, view, ask, now=now)
        message = queued_mail(email)
        with reading() as session:
            found = contacts.find(session, view.controller.id, EmailAddress.parse(email))
            assert found is not None
            subscription = session.scalars(select(Subscription).where(Subscription.contact_id == found.id)).one()
            unsubscribe = links.unsubscribe_url(session, subscription.id, subscription.epoch)
        has_link = message is not None and "/confirm/" in message.get_body(("plain",)).get_content()
        return SignedUp(
            email,
            found.id,
            subscription.id,
            mailed_url(message, "confirm") if has_link else "",
            mailed_url(message, "not-me") if has_link else "",
            unsubscribe,
        )

    return act


@pytest.fixture
def signup_and_confirm(sign_up: Callable[..., SignedUp]) -> Callable[..., SignedUp]:
    """Sign somebody up on a demo form and confirm."""

    def act(
        email: str,
        form: str = "demo-de",
        purposes: tuple[str, ...] = ("product-news",),
        *,
        at: datetime | None = None,
    ) -> SignedUp:
        now = at or utc_now()
        person = sign_up(email, form, purposes, at=now)
        ident = database().sessions.kw["keys"].open_token("confirm", person.confirm_url.rpartition("/")[2])
        with transaction() as session:
            answers.confirm(session, ident, client=CLIENT, page_seconds=7, now=now)
        return person

    return act


def in_threads(count: int, act: Callable[[int], Any]) -> list[Any]:
    """Run `act(number)` in `count` threads that start together; exceptions are results."""
    results: list[Any] = [None] * count
    start = threading.Barrier(count)

    def run(number: int) -> None:
        start.wait()
        try:
            results[number] = act(number)
        except Exception as error:
            results[number] = error

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def running_in_ci() -> bool:
    return os.environ.get("CI", "").lower() == "true"
