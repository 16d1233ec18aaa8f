"""A press of the button that waits for somebody else's commit, on PostgreSQL: on SQLite writers queue anyway."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import select, update

from signup.contacts import actions as contacts
from signup.core.db import Session, database, reading, transaction
from signup.core.values import EmailAddress, utc_now
from signup.forms import actions as forms
from signup.forms.models import Form
from signup.privacy import retention
from signup.subscriptions import answers, pending, presses, requests
from signup.subscriptions.models import Submission
from tests.conftest import CLIENT, queued_mail
from tests.support.locks import wait_for_a_lock

pytestmark = [
    pytest.mark.postgres,
    pytest.mark.parametrize("backend", [pytest.param("postgres", marks=pytest.mark.postgres)], indirect=True),
]
ANNA = "anna@beispiel.de"


def press(*, render_id: str | None = None, minutes_ago: int = 0) -> str:
    with reading() as session:
        view = forms.in_force(session, "demo-de")
    ask = presses.SignupRequest(EmailAddress.parse(ANNA), ("product-news",), render_id, None, CLIENT, None, None)
    with transaction() as session:
        return requests.request(session, view, ask, now=utc_now() - timedelta(minutes=minutes_ago))


def pressing_while(app: Flask, first: Callable[[Session], object], then: Callable[[Session], object]) -> Future[str]:
    """Somebody does `first`, a press comes and waits, they do `then` and commit."""

    def act() -> str:
        with app.app_context():
            return press(render_id="again")

    with ThreadPoolExecutor(1) as threads:
        with transaction() as session:
            first(session)
            session.write_queued()
            future = threads.submit(act)
            wait_for_a_lock()
            then(session)
        return future


@pytest.mark.usefixtures("demo")
def test_a_refusal_is_heard_by_a_press_that_waited_for_it(app: Flask, sign_up: Any) -> None:
    now = utc_now()
    person = sign_up(ANNA, at=now - timedelta(minutes=20))
    ident = database().keys.open_token("not-me", person.not_me_url.rpartition("/")[2])
    assert ident is not None

    def refuse(session: Session) -> None:
        answers.refuse(session, ident, client=CLIENT, page_seconds=5, now=now)

    pressing_while(app, refuse, lambda _session: None).result(timeout=10)
    assert queued_mail(ANNA) is None


@pytest.mark.usefixtures("demo")
def test_a_form_that_was_closed_meanwhile_takes_no_press_that_waited(app: Flask, sign_up: Any) -> None:
    person = sign_up(ANNA, at=utc_now() - timedelta(minutes=20))

    def close(session: Session) -> None:
        contacts.lock(session, [person.contact_id])
        session.execute(update(Form).values(closed=True))

    with pytest.raises(presses.Outdated):
        pressing_while(app, close, lambda _session: None).result(timeout=10)


@pytest.mark.usefixtures("demo")
@pytest.mark.parametrize("what", ["resend", "erase"])
def test_a_repeated_press_and_who_has_the_contact_do_not_wait_for_each_other(app: Flask, what: str) -> None:
    handle = press(render_id="again", minutes_ago=30)
    with reading() as session:
        contact_id = session.scalars(select(Submission.contact_id)).one()

    def then(session: Session) -> None:
        found = pending.find(session, "demo-de", handle)
        assert found is not None
        if what == "resend":
            pending.resend(session, found, client=CLIENT, now=utc_now())
        else:
            retention.forget(session, [contact_id or ""], "erased", now=utc_now())

    later = pressing_while(app, lambda session: contacts.lock(session, [contact_id or ""]), then)
    assert later.result(timeout=10)
