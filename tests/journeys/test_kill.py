"""A worker that dies in the middle loses nothing: what it held falls to another."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from flask import Flask
from sqlalchemy import select, update

from signup.core.db import reading, transaction
from signup.core.values import utc_now
from signup.eventlog.kinds import EventType
from signup.eventlog.models import Event
from signup.jobs import JobRow
from signup.mail import compose
from signup.mail.models import Message, MessageState
from tests.journeys.world import PATIENCE_SECONDS, Mail, call, count_rows
from tests.support.servers import Service
from tests.support.smtp import ScriptedSmtp
from tests.support.waiting import wait_for

SIGN_UP = {"email": "anna@beispiel.example", "purpose": "product-news"}


def lease() -> tuple[str, datetime] | None:
    """Who holds the one mail, and until when."""
    with reading() as session:
        query = select(JobRow.lease_token, JobRow.next_at).where(JobRow.kind == compose.JOB_SEND)
        row = session.execute(query.where(JobRow.lease_token.is_not(None))).first()
        return (row[0], row[1]) if row else None


def let_the_lease_run_out() -> None:
    past = utc_now() - timedelta(seconds=1)
    with transaction() as session:
        session.execute(update(JobRow).where(JobRow.kind == compose.JOB_SEND).values(next_at=past))


@pytest.mark.req("W10")
def test_another_worker_delivers_when_one_is_killed_in_the_middle_of_a_mail(
    service: Service, inside: Flask, smtp_server: ScriptedSmtp
) -> None:
    first = next(process for process in service.processes if process.name == "worker")
    smtp_server.behaviour.hang_in_data = True
    assert call("POST", f"{service.url}/f/demo-de", SIGN_UP).status == 303
    wait_for(lambda: smtp_server.attempts == 1, seconds=PATIENCE_SECONDS, describe="the dialogue with the mail server")
    held = wait_for(lease, seconds=PATIENCE_SECONDS, describe="a lease")
    first.popen.kill()
    first.popen.wait()
    smtp_server.behaviour.hang_in_data = False
    service.start_worker()
    # The dead worker's lease still holds: the mail belongs to it, until the time is up.
    assert lease() == held
    assert held[1] > utc_now()
    let_the_lease_run_out()
    (received,) = smtp_server.wait(seconds=PATIENCE_SECONDS)
    wait_for(
        lambda: count_rows(JobRow, JobRow.kind == compose.JOB_SEND) == 0,
        seconds=PATIENCE_SECONDS,
        describe="the end of the job",
    )
    assert count_rows(Message, Message.state == MessageState.ACCEPTED) == 1
    assert count_rows(Event, Event.kind == EventType.MAIL_ACCEPTED) == 1
    assert call("GET", Mail.of(received).url("confirm")).status == 200
    assert len(smtp_server.received) == 1


def test_the_second_copy_is_the_same_mail_when_the_answer_to_the_first_is_lost(
    service: Service, inside: Flask, smtp_server: ScriptedSmtp
) -> None:
    smtp_server.behaviour.drop_after_data = 1
    assert call("POST", f"{service.url}/f/demo-de", SIGN_UP).status == 303
    smtp_server.wait(seconds=PATIENCE_SECONDS)
    # Nothing is known about the mail, so it is due again, and no try is counted.
    wait_for(
        lambda: count_rows(JobRow, JobRow.kind == compose.JOB_SEND, JobRow.error != ""),
        seconds=PATIENCE_SECONDS,
        describe="a second try",
    )
    let_the_lease_run_out()
    one, two = smtp_server.wait(2, seconds=PATIENCE_SECONDS)
    assert one.content == two.content
    wait_for(
        lambda: count_rows(JobRow, JobRow.kind == compose.JOB_SEND) == 0,
        seconds=PATIENCE_SECONDS,
        describe="the end of the job",
    )
    assert count_rows(Event, Event.kind == EventType.MAIL_ACCEPTED) == 1
