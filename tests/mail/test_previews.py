"""Mails to the controller's own staff: previews and tests, apart from what the public may cause."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select

from signup.core.db import reading, transaction
from signup.core.values import utc_now
from signup.mail.models import Message, MessageState
from signup.staff import access
from signup.worker import run_until_idle


@pytest.fixture
def settings(smtp_server: Any) -> dict[str, str]:
    return {"MAIL_SERVER": smtp_server.host, "MAIL_PORT": str(smtp_server.port), "MAIL_TIMEOUT": "2"}


def messages() -> list[Message]:
    with reading() as session:
        return list(session.scalars(select(Message).order_by(Message.id)))


def headers(demo: Any) -> dict[str, str]:
    return {"Authorization": f"Bearer {demo.api_key}"}


def test_a_test_mail_arrives_and_leaves_no_bytes_behind_when_the_operator_sends_one(
    app: Flask, smtp_server: Any
) -> None:
    sent = app.test_cli_runner().invoke(args=["mail", "test", "demo-de", "chefin@anderswo.example"])
    assert sent.exit_code == 0, sent.output
    (queued,) = messages()
    assert queued.contact_id is None
    assert b"chefin" not in (queued.sealed or b"")
    run_until_idle()
    (mail,) = smtp_server.wait()
    assert mail.rcpt_tos == ("chefin@anderswo.example",)
    assert hashlib.sha256(mail.content).hexdigest() == queued.sha256
    assert b"/confirm/Muster-" in mail.content.replace(b"=\r\n", b"")
    (kept,) = messages()
    assert (kept.state, kept.sealed) == (MessageState.ACCEPTED, None)


def test_the_link_in_a_test_mail_opens_nothing_when_somebody_clicks_it(client: FlaskClient, demo: Any) -> None:
    shown = client.get("/api/v1/forms/demo-de/mail-preview", headers=headers(demo)).get_json()
    (link,) = {line for line in shown["text"].splitlines() if "/confirm/" in line}
    assert client.get(link.partition("8000")[2]).status_code == 404


def test_a_program_reads_the_mail_with_what_stands_against_it_when_asked(client: FlaskClient, demo: Any) -> None:
    answer = client.get("/api/v1/forms/demo-en/mail-preview", headers=headers(demo))
    assert answer.status_code == 200
    shown = answer.get_json()
    assert shown["subject"] == "Please confirm your sign-up with Beispiel GmbH"
    assert shown["problems"] == []
    assert shown["html"].startswith("<!doctype html>")
    assert client.get("/api/v1/forms/demo-en/mail-preview?name=welcome", headers=headers(demo)).status_code == 422


def test_a_program_writes_only_to_the_controller_itself_when_it_tests(client: FlaskClient, demo: Any) -> None:
    url = "/api/v1/forms/demo-de/mail-test"
    answer = client.post(url, json={}, headers=headers(demo))
    assert answer.status_code == 202
    assert answer.get_json()["message_id"] == messages()[0].message_id
    refused = client.post(url, json={"email": "victim@anderswo.example"}, headers=headers(demo))
    assert refused.status_code == 422
    assert [error["field"] for error in refused.get_json()["errors"]] == ["email"]
    assert len(messages()) == 1


def test_reading_forms_is_not_enough_to_send_when_a_key_tests(client: FlaskClient, demo: Any) -> None:
    with transaction() as session:
        keys = {
            scope: access.create_key(session, demo.controller.id, "some", [scope], now=utc_now()).secret
            for scope in ("forms.read", "mail.test")
        }
    answers = {
        scope: client.post("/api/v1/forms/demo-de/mail-test", json={}, headers={"Authorization": f"Bearer {key}"})
        for scope, key in keys.items()
    }
    assert {scope: answer.status_code for scope, answer in answers.items()} == {"forms.read": 403, "mail.test": 202}
    assert len(messages()) == 1


def test_tests_have_a_budget_of_their_own_when_many_are_sent(client: FlaskClient, demo: Any, sign_up: Any) -> None:
    url = "/api/v1/forms/demo-de/mail-test"
    statuses = [client.post(url, json={}, headers=headers(demo)).status_code for _ in range(11)]
    assert statuses == [202] * 10 + [429]
    assert sign_up(demo.controller.reply_to).confirm_url, "the caps of the public are untouched"
