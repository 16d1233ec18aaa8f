"""The operator is told by webhook and by mail, and either may fail: real mail server, real receiver."""

from __future__ import annotations

import json
from datetime import timedelta
from email import message_from_bytes, policy
from email.message import EmailMessage

import pytest
from flask import Flask
from sqlalchemy import select
from standardwebhooks import Webhook

from signup import jobs, wiring
from signup.alarms import send
from signup.alarms.models import Alarm, AlarmNotice
from signup.core.db import reading, transaction
from signup.worker import JobTurn
from tests.conftest import Clock
from tests.guards.world import snapshot
from tests.support.receiver import Answer, Receiver
from tests.support.smtp import Received, ScriptedSmtp

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
OPERATORS = ("ops@betrieb.example", "night@betrieb.example")


@pytest.fixture
def settings(smtp_server: ScriptedSmtp, receiver: Receiver) -> dict[str, str]:
    return {
        "MAIL_SERVER": smtp_server.host,
        "MAIL_PORT": str(smtp_server.port),
        "MAIL_DEFAULT_SENDER": "Signup <signup@betrieb.example>",
        "MAIL_TIMEOUT": "2",
        "SIGNUP_ALARM_MAIL": ", ".join(OPERATORS),
        "SIGNUP_ALARM_URL": f"{receiver.url}/hooks/secret-path",
        "SIGNUP_ALARM_SECRET": SECRET,
    }


@pytest.fixture
def trouble(app: Flask, clock: Clock) -> None:
    """Nobody has kept retention for 20 minutes."""
    with transaction() as session:
        # Not by moving the clock: a receiver refuses a signature that is not of now.
        jobs.every(session, "retention.run", now=clock() - timedelta(minutes=20))


def mend() -> None:
    with transaction() as session:
        session.execute(jobs.JobRow.__table__.delete())


def texts(receiver: Receiver) -> list[str]:
    return [json.loads(request.body)["text"] for request in receiver.requests]


def parsed(mail: Received) -> EmailMessage:
    message = message_from_bytes(mail.content, policy=policy.default)
    assert isinstance(message, EmailMessage)
    return message


def test_both_ways_tell_when_something_is_wrong(
    trouble: None, clock: Clock, receiver: Receiver, smtp_server: ScriptedSmtp
) -> None:
    send.run([], clock)
    [request] = receiver.requests
    body = Webhook(SECRET).verify(request.body, dict(request.headers))
    assert request.headers["webhook-id"] == body["id"]
    assert body["text"] == "ALARM: work of the kind retention.run has been waiting for 20 minutes"
    [alarm] = body["data"]["alarms"]
    assert (alarm["change"], alarm["kind"], alarm["subject"]) == ("raised", "queue-age", "retention.run")
    mails = smtp_server.received
    assert [mail.rcpt_tos for mail in mails] == [(address,) for address in OPERATORS]
    for mail in mails:
        message = parsed(mail)
        assert mail.mail_from == "signup@betrieb.example"
        assert message["Auto-Submitted"] == "auto-generated"
        text = message.get_content()
        assert body["text"] in text
        assert "wartet seit 20 Minuten" in text


def test_the_worker_looks_by_itself_when_it_runs(trouble: None, clock: Clock, receiver: Receiver) -> None:
    with transaction() as session:
        jobs.every(session, send.JOB_RUN, now=clock())
    turn = JobTurn(next(kind for kind in wiring.JOBS if kind.name == send.JOB_RUN))
    turn(clock)
    clock.forward(hours=5)
    turn(clock)
    assert [text.partition(":")[0] for text in texts(receiver)] == ["ALARM", "STILL"]
    turn(clock)
    assert len(receiver.requests) == 2


def test_nothing_is_told_twice_when_it_lasts_and_once_when_it_is_over(
    trouble: None, clock: Clock, receiver: Receiver, smtp_server: ScriptedSmtp
) -> None:
    for _minute in range(10):
        send.run([], clock)
        clock.forward(minutes=1)
    assert len(receiver.requests) == 1
    clock.forward(hours=4)
    send.run([], clock)
    assert texts(receiver)[1].startswith("STILL: ")
    mend()
    for _minute in range(10):
        clock.forward(minutes=1)
        send.run([], clock)
    assert [text.partition(":")[0] for text in texts(receiver)] == ["ALARM", "STILL", "OVER"]
    assert len(smtp_server.received) == 3 * len(OPERATORS)
    with reading() as session:
        assert session.scalars(select(Alarm.cleared_at)).one() is not None


def test_the_webhook_comes_when_the_mail_server_hangs(
    trouble: None, clock: Clock, receiver: Receiver, smtp_server: ScriptedSmtp
) -> None:
    smtp_server.behaviour.hang_at_greeting = True
    send.run([], clock)
    assert len(receiver.requests) == 1
    assert smtp_server.received == []


def test_the_mail_comes_when_the_receiver_fails(
    trouble: None, clock: Clock, receiver: Receiver, smtp_server: ScriptedSmtp
) -> None:
    receiver.default = Answer(500)
    send.run([], clock)
    assert len(smtp_server.received) == len(OPERATORS)


def test_one_mailbox_that_refuses_keeps_nothing_from_the_other(
    trouble: None, clock: Clock, receiver: Receiver, smtp_server: ScriptedSmtp
) -> None:
    smtp_server.behaviour.refuse_rcpt = {OPERATORS[0]}
    send.run([], clock)
    assert [mail.rcpt_tos for mail in smtp_server.received] == [(OPERATORS[1],)]


def test_both_ways_tell_later_with_the_same_ids_when_both_were_away(
    trouble: None, clock: Clock, receiver: Receiver, smtp_server: ScriptedSmtp
) -> None:
    receiver.default = Answer(503)
    smtp_server.behaviour.data_reply = "451 4.3.0 try again later"
    for _minute in range(8):
        send.run([], clock)
        clock.forward(minutes=1)
    tried = len(receiver.requests)
    assert tried >= 3
    assert smtp_server.received == []
    receiver.default, smtp_server.behaviour.data_reply = Answer(204), None
    clock.forward(minutes=15)
    send.run([], clock)
    send.run([], clock)
    assert len(receiver.requests) == tried + 1
    assert {request.headers["webhook-id"] for request in receiver.requests} == {
        json.loads(receiver.requests[0].body)["id"]
    }
    assert len(smtp_server.received) == len(OPERATORS)
    with reading() as session:
        assert session.scalars(select(AlarmNotice.id).where(AlarmNotice.sent_at.is_(None))).all() == []


def test_the_same_mail_goes_again_when_the_answer_was_lost(
    trouble: None, clock: Clock, smtp_server: ScriptedSmtp
) -> None:
    smtp_server.behaviour.drop_after_data = 1
    send.run([], clock)
    clock.forward(minutes=2)
    send.run([], clock)
    again = [mail for mail in smtp_server.received if mail.rcpt_tos == (OPERATORS[0],)]
    assert len(again) == 2
    assert again[0].content == again[1].content
    assert parsed(again[0])["Message-ID"]


def test_an_old_notice_is_given_up_when_nobody_took_it_for_a_week(
    trouble: None, clock: Clock, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.default = Answer(500)
    send.run([], clock)
    mend()
    clock.forward(days=8)
    send.run([], clock)
    assert "alarm notices were given up" in caplog.text
    with reading() as session:
        waiting = session.scalars(select(AlarmNotice.created_at).where(AlarmNotice.sent_at.is_(None))).all()
    assert all(clock() - created < send.actions.rules.GIVE_UP for created in waiting)


def test_no_address_and_no_secret_is_stored_or_logged_when_told(
    trouble: None, clock: Clock, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    receiver.default = Answer(500)
    send.run([], clock)
    stored = repr(snapshot())
    for word in (*OPERATORS, "secret-path", SECRET):
        assert word not in stored
        assert word not in caplog.text
        assert all(word not in repr(vars(line)) for line in caplog.records if line.name.startswith("signup"))


class TestWithoutAnyWay:
    @pytest.fixture
    def settings(self) -> dict[str, str]:
        return {}

    def test_an_alarm_is_a_log_line_when_nobody_is_set_to_be_told(
        self, trouble: None, clock: Clock, caplog: pytest.LogCaptureFixture
    ) -> None:
        send.run([], clock)
        [line] = [line for line in caplog.records if line.getMessage() == "alarm"]
        assert line.levelname == "ERROR"
        assert "retention.run" in vars(line)["text"]
        with reading() as session:
            assert session.scalars(select(AlarmNotice.id)).all() == []
