"""The judge of all faults speaks when something is lost, half, stuck or doubled: it is tried on damage made by hand."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from types import SimpleNamespace

import pytest
from flask import Flask
from sqlalchemy import text

from signup.core.db import transaction
from signup.webhooks import endpoints
from signup.worker import run_until_idle
from tests.conftest import SignedUp
from tests.faults import oracle
from tests.faults.crowd import Ledger, message_id_of
from tests.support.receiver import Receiver
from tests.support.smtp import ScriptedSmtp

ANNA = "anna@beispiel.example"


@pytest.fixture
def settings(smtp_server: ScriptedSmtp) -> dict[str, str]:
    return {"MAIL_PORT": str(smtp_server.port)}


@pytest.fixture
def ledger(
    app: Flask,
    demo: SimpleNamespace,
    sign_up: Callable[..., SignedUp],
    smtp_server: ScriptedSmtp,
    receiver: Receiver,
    now: datetime,
) -> Ledger:
    """One person signed up, their mail and their webhook arrived, and nothing is wrong."""
    with transaction() as session:
        endpoints.create(session, demo.controller.id, f"{receiver.url}/hook-1", [oracle.REQUESTED], now=now)
    sign_up(ANNA)
    run_until_idle()
    told = Ledger(tried={ANNA}, accepted={ANNA})
    assert oracle.judge(told, smtp_server.received, receiver.requests).problems() == []
    return told


def destroy(statement: str) -> None:
    with transaction() as session:
        session.execute(text(statement))


@pytest.mark.parametrize(
    ("statement", "complaint"),
    [
        ("DELETE FROM consent", "has not one consent"),
        ("DELETE FROM subscription WHERE id NOT IN (SELECT 'x')", "has not one subscription"),
        ("DELETE FROM data_key", "has no key"),
        ("DELETE FROM disclosure WHERE field_class = 'ip'", "does not hold what its leaf says"),
        ("DELETE FROM confirmation", "has not one question"),
        ("UPDATE message SET state = 'queued'", "has not a mail that went"),
        ("DELETE FROM attempt", "more to /hook-1"),
        ("UPDATE delivery SET state = 'due'", "is due"),
        ("UPDATE publication SET seq = 7", "the feed has gaps"),
        ("UPDATE contact SET email = 'other@beispiel.example'", "was accepted and is not there"),
        ("UPDATE event SET contact_id = 'con_gone'", "event of con_gone"),
        ("UPDATE subscription SET status = 'active'", "is active and never confirmed"),
    ],
)
def test_the_judge_speaks_when_rows_are_damaged(
    statement: str, complaint: str, ledger: Ledger, smtp_server: ScriptedSmtp, receiver: Receiver
) -> None:
    posts = receiver.requests * 2 if "attempt" in statement else receiver.requests
    destroy(statement)
    assert complaint in " ".join(oracle.judge(ledger, smtp_server.received, posts).problems())


def test_the_judge_speaks_when_what_left_the_house_does_not_fit(
    ledger: Ledger, smtp_server: ScriptedSmtp, receiver: Receiver
) -> None:
    mails, posts = smtp_server.received, receiver.requests

    def told(mails: list, posts: list) -> str:
        return " ".join(oracle.judge(ledger, mails, posts).problems())

    assert "never arrived" in told([], posts)
    assert "never came to /hook-1" in told(mails, [])
    assert "1 times too often, 0 explained" in told(mails * 2, posts)
    assert "differ" in told([mails[0], replace(mails[0], content=mails[0].content + b"x")], posts)
    assert "differ" in told(mails, [posts[0], replace(posts[0], body=posts[0].body + b" ")])
    assert "not on record" in told([*mails, replace(mails[0], content=b"Message-ID: <x@y>\r\n\r\n")], posts)
    assert "2 times more to /hook-1" in told(mails, posts * 3)
    ledger.mails_in_flight[message_id_of(mails[0].content)] += 1
    assert told(mails * 2, posts) == ""
    ledger.confirmed.add(ANNA)
    assert "confirmed and is not active" in told(mails, posts)
