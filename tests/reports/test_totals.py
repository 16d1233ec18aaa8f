"""Totals for the metrics: never waited for, always told in the end, on both databases."""

import threading
from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy.orm import InstrumentedAttribute

from signup.core.db import Session
from signup.reports import totals
from tests.support.waiting import wait_for

SignUp = Callable[..., Any]
REQUESTED = 'signup_subscriptions{status="requested"} 2.0'


def test_a_scrape_tells_how_many_there_are(sign_up: SignUp, client: FlaskClient) -> None:
    sign_up("anna@beispiel.de")
    sign_up("ben@beispiel.de")
    assert REQUESTED in client.get("/metrics").text


def test_a_scrape_does_not_wait_when_counting_takes_long(
    sign_up: SignUp, client: FlaskClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    sign_up("anna@beispiel.de")
    sign_up("ben@beispiel.de")
    may_go_on, calls, count = threading.Event(), [], totals._count

    def slowly(session: Session, column: InstrumentedAttribute[Any]) -> dict[str, int]:
        calls.append(column)
        may_go_on.wait(30)
        return count(session, column)

    monkeypatch.setattr(totals, "_count", slowly)
    for _ in range(3):
        answer = client.get("/metrics")
        assert answer.status_code == 200
        assert "signup_subscriptions{" not in answer.text
        assert "signup_jobs_due{" in answer.text
    # One counts for all who ask.
    assert len(calls) == 1
    may_go_on.set()
    wait_for(lambda: REQUESTED in client.get("/metrics").text, describe="the totals in the metrics")
