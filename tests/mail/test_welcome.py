"""The mail after the confirmation: once, with both unsubscribe headers, in the commit of the click."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select

from signup import demo as demo_data
from signup.core.db import database, transaction
from signup.core.values import utc_now
from signup.forms.definition import Welcome
from signup.mail.models import Message, MessageState
from signup.purposes import actions as purposes
from signup.subscriptions import answers
from tests.conftest import CLIENT, SignedUp, queued_mail
from tests.support import log

WELCOME = Welcome(
    "Willkommen bei Beispiel",
    "Schön, dass Sie da sind.\n\nDas Heft liegt bereit.",
    "https://www.beispiel.example/heft.pdf",
)


@pytest.fixture
def greeted(app: Flask) -> str:
    """A form that says something after the confirmation."""
    new = replace(demo_data.FORMS[0], slug="mit-gruss", welcome=WELCOME)
    with transaction() as session:
        controller = purposes.find_controller(session, "beispiel")
        demo_data.publish_form(session, controller, new, now=utc_now())
    return new.slug


def welcomes(person: SignedUp) -> list[Any]:
    return [message for message in log.messages(person.contact_id) if message.kind == "welcome"]


@pytest.mark.req("E21")
def test_one_mail_with_both_headers_follows_when_the_form_has_one(
    client: FlaskClient, greeted: str, signup_and_confirm: Callable[..., SignedUp]
) -> None:
    person = signup_and_confirm("anna@kunde.example", greeted)
    (message,) = welcomes(person)
    assert message.state is MessageState.QUEUED
    mail = queued_mail(person.email)
    assert mail["Subject"] == WELCOME.subject
    assert mail["List-Unsubscribe"] == f"<{person.unsubscribe_url}>"
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    text = mail.get_body(("plain",)).get_content().replace("\r\n", "\n")
    html = mail.get_body(("html",)).get_content()
    for part in (text, html):
        assert "Das Heft liegt bereit." in part
        assert "https://www.beispiel.example/heft.pdf" in part
        assert person.unsubscribe_url in part
        assert "Produktneuheiten" in part
        assert "@@" not in part
    assert "https://www.beispiel.example/heft.pdf" in text.splitlines()
    answer = client.post(person.unsubscribe_path, data={"List-Unsubscribe": "One-Click"})
    assert answer.status_code == 200
    assert log.subscription(person.contact_id).status.value == "ended"


def test_the_headers_are_written_raw_on_one_line_when_the_mail_is_made(
    greeted: str, signup_and_confirm: Callable[..., SignedUp]
) -> None:
    person = signup_and_confirm("anna@kunde.example", greeted)
    raw = log.raw(welcomes(person)[0])
    assert f"\r\nList-Unsubscribe: <{person.unsubscribe_url}>\r\n".encode() in raw
    assert b"\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n" in raw


def test_it_is_never_sent_twice_when_the_button_is_pressed_again_or_a_purpose_is_added(
    greeted: str, signup_and_confirm: Callable[..., SignedUp]
) -> None:
    person = signup_and_confirm("anna@kunde.example", greeted)
    ident = database().sessions.kw["keys"].open_token("confirm", person.confirm_url.rpartition("/")[2])
    with transaction() as session:
        answers.confirm(session, ident, client=CLIENT, page_seconds=7, now=utc_now())
    assert len(welcomes(person)) == 1


def test_nothing_follows_when_the_form_has_no_such_mail(signup_and_confirm: Callable[..., SignedUp]) -> None:
    assert welcomes(signup_and_confirm("bert@kunde.example")) == []


def test_it_does_not_leave_any_more_when_the_person_unsubscribes_first(
    client: FlaskClient, greeted: str, signup_and_confirm: Callable[..., SignedUp]
) -> None:
    person = signup_and_confirm("anna@kunde.example", greeted)
    client.post(person.unsubscribe_path, data={"List-Unsubscribe": "One-Click"})
    with transaction() as session:
        states = session.scalars(select(Message.state).where(Message.kind == "welcome")).all()
    assert states == [MessageState.CANCELLED]
