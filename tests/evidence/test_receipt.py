"""The receipt of whoever confirmed, and the page that explains it, on both databases."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from signup.core.db import database, transaction
from signup.core.values import OPERATOR, utc_now
from signup.evidence import bundle
from signup.subscriptions import answers, endings
from signup.subscriptions.endings import Ending
from signup.subscriptions.states import EndReason
from tests.conftest import CLIENT, Clock, SignedUp
from tests.evidence.checking import SCRIPT
from tests.evidence.conftest import EMAIL, seal_all
from tests.evidence.test_bundle import tokens
from tests.guards.world import changed, snapshot
from tests.support.smtp import ScriptedSmtp

Prove = Callable[..., SignedUp]


def receipt_path(person: SignedUp) -> str:
    return f"{person.confirm_path}/receipt"


def kinds(made: dict[str, Any]) -> list[str]:
    return [
        value for event in made["events"] for _, name, value in map(json.loads, event["disclosures"]) if name == "type"
    ]


@pytest.mark.req("E47")
def test_who_confirmed_holds_a_proof_that_anybody_can_check(prove: Prove, client: FlaskClient, tmp_path: Path) -> None:
    person = prove()
    shown = client.get(person.confirm_path)
    assert f'href="{receipt_path(person)}"' in shown.text
    answer = client.get(receipt_path(person))
    assert (answer.status_code, answer.mimetype) == (200, "application/json")
    assert answer.headers["Content-Disposition"] == 'attachment; filename="receipt.json"'
    assert (answer.headers["Cache-Control"], answer.headers["Referrer-Policy"]) == ("no-store", "same-origin")
    made = json.loads(answer.data)
    assert kinds(made) == ["subscription.requested", "mail.accepted", "subscription.confirmed"]
    assert made["record"]["subject"]["email"] == EMAIL
    receipt, anchors = tmp_path / "receipt.json", tmp_path / "anchors.json"
    receipt.write_bytes(answer.data)
    anchors.write_bytes(client.get("/.well-known/signup-evidence.json").data)
    command = [sys.executable, str(SCRIPT), str(receipt), "--anchors", str(anchors), "--lang", "en"]
    checked = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_nothing_of_others_is_in_a_receipt(
    prove: Prove, demo: SimpleNamespace, client: FlaskClient, clock: Clock, smtp_server: ScriptedSmtp
) -> None:
    person, other = prove(), prove("other@kunde.example")
    staff = replace(CLIENT, ip="198.51.100.99")
    with transaction() as session:
        bundle.read(session, demo.controller.id, person.contact_id, client=staff, actor=OPERATOR, now=clock())
    seal_all(clock.forward(seconds=5))
    answer = client.get(receipt_path(person))
    assert answer.status_code == 200
    for word in ("198.51.100.99", "evidence.read", other.email, other.contact_id, "operator"):
        assert word not in answer.text
    for token in tokens(smtp_server):
        assert token not in answer.data


def test_reading_a_receipt_changes_nothing(prove: Prove, client: FlaskClient) -> None:
    person = prove()
    before = snapshot()
    for method in ("GET", "HEAD", "OPTIONS"):
        assert client.open(receipt_path(person), method=method).status_code == 200
    assert changed(before, snapshot()) == set()
    assert client.post(receipt_path(person)).status_code == 405


def test_page_says_when_the_receipt_is_ready_until_it_is_sealed(ask: Prove, client: FlaskClient, clock: Clock) -> None:
    person = ask()
    early = client.get(receipt_path(person))
    assert early.status_code == 200
    assert "Es gibt noch keinen Beleg" in early.text
    assert receipt_path(person) not in client.get(person.confirm_path).text
    ident = database().sessions.kw["keys"].open_token("confirm", person.confirm_url.rpartition("/")[2])
    with transaction() as session:
        answers.confirm(session, ident, client=CLIENT, page_seconds=7, now=clock.forward(seconds=30))
    waiting = client.get(receipt_path(person))
    assert waiting.status_code == 200
    assert "Er ist in etwa 1 Minute fertig." in waiting.text
    assert EMAIL not in waiting.text
    seal_all(clock.forward(seconds=30))
    assert client.get(receipt_path(person)).mimetype == "application/json"


@pytest.mark.parametrize("why", ["withdrawn", "over its time", "forged"])
def test_no_receipt_is_given_when_its_link_no_longer_stands_for_one(
    ask: Prove, prove: Prove, client: FlaskClient, clock: Clock, why: str
) -> None:
    path = ""
    if why == "withdrawn":
        person = prove()
        with transaction() as session:
            order = endings.load(session, person.subscription_id)
            endings.end(session, order, Ending(EndReason.UNSUBSCRIBED, "page"), client=CLIENT, now=utc_now())
        path = receipt_path(person)
    elif why == "over its time":
        clock.forward(days=-8)
        path = receipt_path(prove("old@kunde.example"))
    else:
        path = receipt_path(prove()).replace("/confirm/", "/confirm/x")
    answer = client.get(path)
    assert answer.status_code == (404 if why == "forged" else 410)
    assert answer.mimetype == "text/html"
    assert EMAIL not in answer.text


@pytest.mark.req("E50")
@pytest.mark.parametrize(
    ("query", "header", "title"),
    [
        ("", "de-AT", "Wie unser Nachweis funktioniert"),
        ("", "en-GB", "How our evidence works"),
        ("?locale=en", "de", "How our evidence works"),
        ("?locale=../../etc", "de", "Wie unser Nachweis funktioniert"),
    ],
)
def test_anybody_reads_how_it_works_in_their_language(
    app: Flask, client: FlaskClient, query: str, header: str, title: str
) -> None:
    answer = client.get(f"/evidence{query}", headers={"Accept-Language": header})
    assert answer.status_code == 200
    assert f"<h1>{title}</h1>" in answer.text
    for word in ("SHA-256", "RFC 6962", "RFC 3161", "signup_verify.py", "/.well-known/signup-evidence.json"):
        assert word in answer.text
    assert "unsafe" not in answer.headers["Content-Security-Policy"]
