"""A person whose consent is proven: asked, mailed by real SMTP, confirmed, sealed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from signup.core.db import database, transaction
from signup.core.values import utc_now
from signup.eventlog import sealing, stamping
from signup.subscriptions import answers
from tests.conftest import CLIENT, Clock, SignedUp
from tests.evidence.checking import Judge, send_mails
from tests.support.smtp import ScriptedSmtp
from tests.support.tsa import Authority, make_authority, running

EMAIL = "anna@kunde.example"


@pytest.fixture
def settings(smtp_server: ScriptedSmtp) -> dict[str, str]:
    return {"MAIL_SERVER": smtp_server.host, "MAIL_PORT": str(smtp_server.port), "MAIL_TIMEOUT": "5"}


@pytest.fixture
def clock() -> Clock:
    """Behind the real time by as much as these tests let pass, so that nothing lies in the future."""
    return Clock(utc_now() - timedelta(minutes=5))


def seal_all(now: datetime) -> int:
    """What waits is sealed, and stamped if there is an authority; the size of the log."""
    with transaction() as session:
        while sealing.seal(session, now=now) is not None:
            session.flush()
        last = sealing.newest(session)
    stamping.run([], lambda: now)
    assert last is not None
    return last.size


@pytest.fixture
def ask(app: Flask, sign_up: Callable[..., SignedUp], clock: Clock) -> Callable[..., SignedUp]:
    """Somebody signs up, the mail server takes the mail, both are sealed."""

    seal_all(clock.forward(seconds=1))

    def act(email: str = EMAIL, **more: Any) -> SignedUp:
        person = sign_up(email, at=clock.forward(seconds=1), **more)
        clock.forward(seconds=4)
        send_mails(clock)
        seal_all(clock.forward(seconds=10))
        return person

    return act


@pytest.fixture
def prove(ask: Callable[..., SignedUp], clock: Clock) -> Callable[..., SignedUp]:
    """Somebody signs up, is mailed, and presses the button; all is sealed."""

    def act(email: str = EMAIL, **more: Any) -> SignedUp:
        person = ask(email, **more)
        ident = database().sessions.kw["keys"].open_token("confirm", person.confirm_url.rpartition("/")[2])
        with transaction() as session:
            answers.confirm(session, ident, client=CLIENT, page_seconds=7, now=clock.forward(seconds=60))
        seal_all(clock.forward(seconds=10))
        return person

    return act


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Authority]:
    with running(make_authority(tmp_path_factory.mktemp("tsa") / "good")) as tsa:
        yield tsa


@pytest.fixture
def judge(app: Flask, demo: SimpleNamespace, client: FlaskClient, clock: Clock, tmp_path: Path) -> Judge:
    return Judge(tmp_path, demo.controller.id, client, clock)
