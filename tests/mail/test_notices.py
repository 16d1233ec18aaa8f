"""Staff hear of new subscribers: in one mail for a while, with shortened addresses, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from email import message_from_bytes, policy
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import select

from signup import jobs, wiring
from signup.core.db import reading, transaction
from signup.core.values import EmailAddress
from signup.mail import compose
from signup.mail.models import Message, NoticeEvery
from signup.purposes import actions as purposes
from signup.subscriptions import notices
from signup.worker import JobTurn
from tests.conftest import Clock, SignedUp, in_threads

KIND = next(kind for kind in wiring.JOBS if kind.name == notices.JOB_RUN)


def choose(every: NoticeEvery, clock: Clock, locale: str = "de") -> str:
    with transaction() as session:
        controller = purposes.find_controller(session, "beispiel")
        to = EmailAddress.parse("vertrieb@beispiel.example")
        notices.choose(session, controller.id, to, every, locale, now=clock())
        return controller.id


def told() -> list[Any]:
    """The notices so far, parsed."""
    with reading() as session:
        rows = session.scalars(select(Message).where(Message.kind == "staff-notice").order_by(Message.id)).all()
        raws = [compose.opened(session, compose.staff_key(session, row.controller_id), row.sealed) for row in rows]
    assert {recipient for recipient, _ in raws} <= {"vertrieb@beispiel.example"}
    return [message_from_bytes(raw, policy=policy.default) for _, raw in raws]


def text(mail: Any) -> str:
    return str(mail.get_body(("plain",)).get_content())


def test_one_mail_names_all_who_are_new_when_staff_want_to_know_of_each(
    app: Flask, clock: Clock, signup_and_confirm: Callable[..., SignedUp]
) -> None:
    choose(NoticeEvery.EACH, clock)
    for name in ("anna", "bert"):
        signup_and_confirm(f"{name}@kunde.example", at=clock.forward(seconds=1))
    notices.run([], clock)
    assert told() == [], "what is a moment old may not all be written yet"
    clock.forward(seconds=90)
    notices.run([], clock)
    (mail,) = told()
    assert mail["Subject"] == "Neue Anmeldungen bei Beispiel GmbH"
    for part in (text(mail), mail.get_body(("html",)).get_content()):
        assert "a•••@kunde.example" in part
        assert "b•••@kunde.example" in part
        assert "anna@" not in part
        assert "@@" not in part
    notices.run([], clock)
    assert len(told()) == 1, "nobody is told twice"


def test_a_rush_comes_as_one_mail_in_ten_minutes_when_staff_want_to_know_of_each(
    app: Flask, clock: Clock, signup_and_confirm: Callable[..., SignedUp]
) -> None:
    choose(NoticeEvery.EACH, clock, "en")
    for number in range(6):
        signup_and_confirm(f"p{number}@kunde.example", at=clock.forward(minutes=2))
        notices.run([], clock)
    clock.forward(minutes=11)
    notices.run([], clock)
    mails = [text(mail) for mail in told()]
    assert 2 <= len(mails) <= 3
    assert sum(mail.count("•••@kunde.example") for mail in mails) == 6


def test_a_digest_comes_once_a_week_when_staff_chose_so(
    app: Flask, clock: Clock, signup_and_confirm: Callable[..., SignedUp]
) -> None:
    choose(NoticeEvery.WEEKLY, clock)
    signup_and_confirm("anna@kunde.example", at=clock.forward(hours=1))
    clock.forward(days=6)
    notices.run([], clock)
    assert told() == []
    clock.forward(days=1)
    notices.run([], clock)
    clock.forward(days=8)
    notices.run([], clock)
    assert len(told()) == 1, "nothing new is no mail"


def test_nobody_is_told_when_it_is_off_or_was_never_on(
    app: Flask, clock: Clock, signup_and_confirm: Callable[..., SignedUp]
) -> None:
    signup_and_confirm("anna@kunde.example", at=clock())
    clock.forward(days=10)
    notices.run([], clock)
    choose(NoticeEvery.OFF, clock)
    clock.forward(days=10)
    notices.run([], clock)
    choose(NoticeEvery.EACH, clock)
    clock.forward(days=10)
    notices.run([], clock)
    assert told() == [], "who came before it was on is not new"


def test_many_are_counted_and_fifty_named_when_a_fair_is_on(
    app: Flask, clock: Clock, signup_and_confirm: Callable[..., SignedUp], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(notices, "NAMED", 2)
    choose(NoticeEvery.EACH, clock)
    for number in range(5):
        signup_and_confirm(f"p{number}@kunde.example", at=clock.forward(seconds=1))
    clock.forward(minutes=5)
    notices.run([], clock)
    (mail,) = told()
    assert text(mail).count("•••@kunde.example") == 2
    assert "+ 3" in text(mail)


def test_one_mail_is_queued_when_two_workers_run_at_the_same_time(
    app: Flask, clock: Clock, signup_and_confirm: Callable[..., SignedUp]
) -> None:
    choose(NoticeEvery.EACH, clock)
    signup_and_confirm("anna@kunde.example", at=clock.forward(seconds=1))
    later = clock.forward(minutes=5)
    with transaction() as session:
        jobs.every(session, notices.JOB_RUN, now=later - timedelta(minutes=1))

    def turn(_number: int) -> None:
        with app.app_context():
            JobTurn(KIND)(clock)
            notices.run([], clock)

    assert in_threads(4, turn) == [None] * 4
    assert len(told()) == 1


def test_the_command_sets_and_shows_it_when_called(app: Flask) -> None:
    runner = app.test_cli_runner()
    assert runner.invoke(args=["mail", "notice", "beispiel"]).output == "off\n"
    made = runner.invoke(args=["mail", "notice", "beispiel", "--to", "a@b.example", "--every", "weekly"])
    assert made.output == "weekly\ta@b.example\tde\n"
    assert runner.invoke(args=["mail", "notice", "beispiel", "--every", "never"]).exit_code == 2
