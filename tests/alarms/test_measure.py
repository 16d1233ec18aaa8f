"""The state of the queues, read from a real database."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import update

from signup import jobs
from signup.alarms import actions
from signup.alarms.models import AlarmKind
from signup.alarms.rules import Finding
from signup.cli.common import BadInput
from signup.core.db import reading, transaction
from signup.eventlog.record import publish
from signup.jobs import JobRow
from signup.mail.compose import JOB_SEND
from signup.webhooks import endpoints
from signup.webhooks.models import Delivery, DeliveryState
from tests.conftest import Clock, SignedUp

URL = "http://127.0.0.1:47999/secret-path"


def found(clock: Clock) -> list[Finding]:
    with reading() as session:
        return actions.measure(session, now=clock())


def the_only(clock: Clock) -> Finding:
    [finding] = found(clock)
    return finding


@pytest.fixture
def endpoint(demo: SimpleNamespace, clock: Clock) -> str:
    """An endpoint that is owed one delivery."""
    with transaction() as session:
        view, _ = endpoints.create(session, demo.controller.id, URL, ["subscription.confirmed"], now=clock())
    with transaction() as session:
        publish(session, demo.controller.id, "subscription.confirmed", {"n": 1}, now=clock())
    return view.id


def deliveries(**values: object) -> None:
    with transaction() as session:
        session.execute(update(Delivery).values(**values).execution_options(synchronize_session=False))


def test_nothing_is_wrong_when_the_service_is_new(app: Flask, demo: SimpleNamespace, clock: Clock) -> None:
    assert found(clock) == []


def test_mail_is_stuck_when_it_waited_untried(app: Flask, clock: Clock, sign_up: Callable[..., SignedUp]) -> None:
    sign_up("anna@kunde.example", at=clock())
    clock.forward(minutes=15)
    assert found(clock) == []
    clock.forward(minutes=2)
    finding = the_only(clock)
    assert (finding.kind, finding.facts) == (AlarmKind.MAIL_STUCK, {"count": 1, "minutes": 17})


def test_mail_is_not_stuck_when_one_mailbox_puts_it_off(
    app: Flask, clock: Clock, sign_up: Callable[..., SignedUp]
) -> None:
    sign_up("anna@kunde.example", at=clock())
    with transaction() as session:
        session.execute(update(JobRow).where(JobRow.kind == JOB_SEND).values(attempt=5))
    clock.forward(hours=2)
    assert found(clock) == []


def test_a_queue_is_old_when_nobody_does_the_work(app: Flask, clock: Clock) -> None:
    with transaction() as session:
        jobs.every(session, "retention.run", now=clock())
    clock.forward(minutes=20)
    assert the_only(clock) == Finding(AlarmKind.QUEUE_AGE, "retention.run", {"minutes": 20})


def test_deliveries_are_old_when_nobody_makes_them(app: Flask, endpoint: str, clock: Clock) -> None:
    clock.forward(minutes=20)
    assert the_only(clock) == Finding(AlarmKind.QUEUE_AGE, "webhooks", {"minutes": 20})


def test_an_endpoint_fails_when_three_tries_did_and_none_is_under_way(app: Flask, endpoint: str, clock: Clock) -> None:
    soon = clock() + timedelta(minutes=30)
    deliveries(attempt=2, next_at=soon)
    assert found(clock) == []
    deliveries(attempt=3, next_at=soon, lease_token="under way")
    assert found(clock) == []
    deliveries(attempt=3, next_at=soon, lease_token=None)
    facts = {"host": "127.0.0.1", "waiting": 1, "dead": 0}
    assert the_only(clock) == Finding(AlarmKind.ENDPOINT_FAILING, endpoint, facts)


def test_an_endpoint_fails_for_a_day_when_a_delivery_was_given_up(app: Flask, endpoint: str, clock: Clock) -> None:
    deliveries(state=DeliveryState.DEAD, finished_at=clock())
    assert the_only(clock).facts == {"host": "127.0.0.1", "waiting": 0, "dead": 1}
    clock.forward(hours=25)
    assert found(clock) == []


def test_nobody_is_alarmed_when_a_developers_test_was_given_up(app: Flask, endpoint: str, clock: Clock) -> None:
    deliveries(state=DeliveryState.DEAD, finished_at=clock(), trigger="test")
    assert found(clock) == []


def test_an_endpoint_is_off_when_its_receiver_said_gone(
    app: Flask, demo: SimpleNamespace, endpoint: str, clock: Clock
) -> None:
    with transaction() as session:
        endpoints.update(session, demo.controller.id, endpoint, state="paused", now=clock())
    assert found(clock) == []
    with transaction() as session:
        endpoints.update(session, demo.controller.id, endpoint, state="active", now=clock())
        endpoints.disable(session, demo.controller.id, endpoint, status=410, reason="410", now=clock())
    facts = {"host": "127.0.0.1", "state": "disabled", "held": 1}
    assert the_only(clock) == Finding(AlarmKind.ENDPOINT_OFF, endpoint, facts)


def test_a_dead_job_is_told_until_it_is_dropped(app: Flask, clock: Clock) -> None:
    with transaction() as session:
        ident = jobs.enqueue(session, "retention.run", {}, now=clock())
    with transaction() as session:
        [job] = jobs.claim(session, "retention.run", now=clock(), limit=1, lease_seconds=60)
        jobs.bury(session, job, error="cannot be opened")
    assert the_only(clock) == Finding(AlarmKind.JOBS_DEAD, "retention.run", {"count": 1})
    runner = app.test_cli_runner()
    assert ident in runner.invoke(args=["jobs", "list"]).output
    for wrong in ([], [ident, "--all"], ["job_unknown"]):
        assert runner.invoke(args=["jobs", "drop", *wrong]).exit_code == BadInput.exit_code
    assert the_only(clock).kind is AlarmKind.JOBS_DEAD
    assert runner.invoke(args=["jobs", "drop", ident]).output == "1 dropped\n"
    assert found(clock) == []


def test_metrics_count_alarms_that_stand(app: Flask, client: FlaskClient, clock: Clock) -> None:
    finding = Finding(AlarmKind.QUEUE_AGE, "retention.run", {"minutes": 20})
    with transaction() as session:
        actions.note(session, [finding], [], now=clock())
    assert 'signup_alarms{kind="queue-age"} 1.0' in client.get("/metrics").text
    clock.forward(minutes=6)
    with transaction() as session:
        actions.note(session, [], [], now=clock())
    assert 'signup_alarms{kind="queue-age"}' not in client.get("/metrics").text
