"""Handing mails over to a real SMTP server, on both databases."""

import hashlib
from datetime import timedelta

import pytest

from signup import jobs, wiring
from signup.core.db import transaction
from signup.core.values import utc_now
from signup.jobs import JobRow
from signup.mail import send
from signup.mail.models import MessageState
from signup.mail.postman import Postman
from signup.worker import JobTurn, run_until_idle
from tests.conftest import Clock
from tests.support import log
from tests.support.certificates import make_certificate
from tests.support.smtp import running_smtp

MAIL = next(kind for kind in wiring.JOBS if kind.name == "mail.send")


@pytest.fixture
def settings(smtp_server):
    return {"MAIL_SERVER": smtp_server.host, "MAIL_PORT": str(smtp_server.port), "MAIL_TIMEOUT": "2"}


def turn(clock):
    one = JobTurn(MAIL)
    try:
        return one(clock)
    finally:
        one.close(clock)


@pytest.fixture
def clock():
    """Ahead of the real time at which the sign-ups of a test were written."""
    return Clock(utc_now() + timedelta(seconds=30))


@pytest.mark.req("E11")
@pytest.mark.req("E12")
def test_the_server_receives_exactly_the_bytes_that_are_on_record(sign_up, smtp_server, clock):
    person = sign_up("anna@beispiel.de")
    turn(clock)
    (mail,) = smtp_server.wait()
    (message,) = log.messages(person.contact_id)
    assert hashlib.sha256(mail.content).hexdigest() == message.sha256
    assert (mail.mail_from, mail.rcpt_tos) == ("post@beispiel.example", ("anna@beispiel.de",))
    assert message.state is MessageState.ACCEPTED
    fact = next(fact for fact in log.facts(person.contact_id) if fact.kind == "mail.accepted")
    assert mail.queue_id in fact.fields["smtp_reply"]
    assert fact.fields["smtp_reply"].startswith("250 ")
    assert fact.fields["mail_sha256"] == message.sha256
    assert fact.fields["message_id"] == message.message_id
    assert log.count(JobRow) == 0


@pytest.mark.parametrize("pipelining", [True, False])
@pytest.mark.parametrize("for_nobody", [True, False])
def test_a_refused_address_leaves_the_connection_fit_for_the_next(sign_up, smtp_server, clock, pipelining, for_nobody):
    smtp_server.behaviour.pipelining = pipelining
    smtp_server.behaviour.wants_message_for_nobody = for_nobody
    smtp_server.behaviour.refuse_rcpt = {"anna@beispiel.de"}
    refused, taken = sign_up("anna@beispiel.de"), sign_up("ben@beispiel.de")
    turn(clock)
    (mail,) = smtp_server.wait()
    assert mail.rcpt_tos == ("ben@beispiel.de",)
    (message,) = log.messages(taken.contact_id)
    assert hashlib.sha256(mail.content).hexdigest() == message.sha256
    (message,) = log.messages(refused.contact_id)
    assert (message.state, message.smtp_reply) == (MessageState.FAILED, "550 5.1.1")
    assert smtp_server.connections == 1


def test_a_line_that_begins_with_a_dot_arrives_as_it_was(app, smtp_server):
    raw = b"Subject: dots\r\n\r\n.\r\n..two\r\nend.\r\n"
    postman = Postman()
    assert postman.hand_over("post@beispiel.example", "anna@beispiel.de", raw).accepted
    postman.close()
    (mail,) = smtp_server.wait()
    assert mail.content == raw


def test_one_connection_serves_many_mails(sign_up, smtp_server, clock):
    for number in range(5):
        sign_up(f"anna{number}@beispiel.de")
    turn(clock)
    assert len(smtp_server.wait(5)) == 5
    assert smtp_server.connections == 1


def test_a_mail_is_tried_again_when_the_server_is_away(sign_up, smtp_server, clock):
    person = sign_up("anna@beispiel.de")
    smtp_server.behaviour.drop_in_data = 2
    turn(clock)
    assert log.messages(person.contact_id)[0].state is MessageState.QUEUED
    assert turn(clock) == 0
    for _ in range(2):
        clock.forward(seconds=61)
        turn(clock)
    (mail,) = smtp_server.wait()
    assert log.messages(person.contact_id)[0].state is MessageState.ACCEPTED
    assert log.messages(person.contact_id)[0].sha256 == hashlib.sha256(mail.content).hexdigest()


def test_waiting_for_a_connection_burns_no_attempt(sign_up, smtp_server, clock):
    sign_up("anna@beispiel.de")
    smtp_server.behaviour.drop_in_data = 3
    for _ in range(3):
        turn(clock)
        clock.forward(seconds=61)
    with transaction() as session:
        (job,) = jobs.claim(session, "mail.send", now=clock(), limit=1, lease_seconds=1)
    assert job.attempt == 1


def test_greylisting_is_waited_out(sign_up, smtp_server, clock):
    person = sign_up("anna@beispiel.de")
    smtp_server.behaviour.greylist = 1
    turn(clock)
    assert log.messages(person.contact_id)[0].state is MessageState.QUEUED
    clock.forward(seconds=61)
    turn(clock)
    assert log.messages(person.contact_id)[0].state is MessageState.ACCEPTED


def test_a_refused_mail_has_failed_visibly(sign_up, smtp_server, clock):
    person = sign_up("anna@beispiel.de")
    smtp_server.behaviour.refuse_all = True
    turn(clock)
    (message,) = log.messages(person.contact_id)
    assert message.state is MessageState.FAILED
    assert message.reason.startswith("550")
    assert "mail.failed" in log.kinds(person.contact_id)
    clock.forward(days=1)
    assert turn(clock) == 0


def test_one_refused_mail_does_not_hold_up_the_next(sign_up, smtp_server, clock):
    sign_up("bad@beispiel.de")
    sign_up("good@beispiel.de")
    smtp_server.behaviour.refuse_rcpt = {"bad@beispiel.de"}
    turn(clock)
    assert [mail.rcpt_tos for mail in smtp_server.wait()] == [("good@beispiel.de",)]


def test_a_mail_whose_link_has_expired_is_not_sent(sign_up, smtp_server, clock):
    person = sign_up("anna@beispiel.de")
    clock.forward(days=8)
    turn(clock)
    assert smtp_server.received == []
    assert log.messages(person.contact_id)[0].state is MessageState.CANCELLED


@pytest.mark.req("W10")
def test_a_mail_in_the_hands_of_a_dead_worker_goes_out_when_its_lease_ends(sign_up, smtp_server, clock):
    person = sign_up("anna@beispiel.de")
    with transaction() as session:
        (lost,) = jobs.claim(session, "mail.send", now=clock(), limit=1, lease_seconds=send.LEASE_SECONDS)
    assert turn(clock) == 0
    clock.forward(seconds=send.LEASE_SECONDS + 1)
    turn(clock)
    smtp_server.wait()
    assert log.messages(person.contact_id)[0].state is MessageState.ACCEPTED
    with transaction() as session:
        jobs.retry(session, lost, at=clock(), error="too late")
    assert log.count(JobRow) == 0


def test_a_hanging_server_costs_the_time_limit_and_the_mail_waits(sign_up, smtp_server, clock):
    person = sign_up("anna@beispiel.de")
    smtp_server.behaviour.hang_at_greeting = True
    turn(clock)
    assert log.messages(person.contact_id)[0].state is MessageState.QUEUED


def test_a_network_call_inside_a_transaction_is_refused(app, smtp_server):
    with pytest.raises(RuntimeError, match="inside a database transaction"), transaction():
        Postman().hand_over("a@b.example", "c@d.example", b"")
    assert smtp_server.connections == 0


def test_all_due_work_is_done_until_idle(sign_up, smtp_server):
    sign_up("anna@beispiel.de")
    assert run_until_idle(utc_now) >= 1
    assert len(smtp_server.received) == 1


class TestEncryption:
    @pytest.fixture
    def certificate(self, tmp_path):
        return make_certificate(tmp_path / "tls")

    @pytest.fixture
    def server(self, certificate):
        with running_smtp(starttls=certificate.context()) as server:
            yield server

    @pytest.fixture(params=["vouched for", "unknown"])
    def settings(self, server, certificate, request):
        tls = {"MAIL_SERVER": server.host, "MAIL_PORT": str(server.port), "MAIL_USE_TLS": "true", "MAIL_TIMEOUT": "5"}
        return {**tls, "MAIL_CA_FILE": str(certificate.trust_file)} if request.param == "vouched for" else tls

    def test_mail_goes_only_to_a_server_whose_certificate_somebody_vouches_for(self, sign_up, server, settings, clock):
        person = sign_up("anna@beispiel.de")
        turn(clock)
        (message,) = log.messages(person.contact_id)
        if "MAIL_CA_FILE" in settings:
            assert [mail.tls for mail in server.received] == [True]
            assert message.state is MessageState.ACCEPTED
        else:
            assert server.received == []
            assert message.state is MessageState.QUEUED


def test_the_confirmation_knows_when_its_mail_left(sign_up, smtp_server, clock):
    from sqlalchemy import select

    from signup.core.db import reading
    from signup.subscriptions.models import Confirmation

    sign_up("anna@beispiel.de")
    turn(clock)
    with reading() as session:
        sent_at = session.scalar(select(Confirmation.sent_at))
    assert abs(sent_at - clock()) < timedelta(seconds=60)
