"""What the mail server said is written once and for the right person, whatever goes wrong in between."""

from __future__ import annotations

import json
import threading
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, update

from signup import jobs, wiring
from signup.contacts.models import Contact, DataKey
from signup.core.db import reading, transaction
from signup.core.errors import Busy
from signup.core.values import utc_now
from signup.eventlog.kinds import EventType
from signup.eventlog.models import Disclosure, Event
from signup.jobs import JobRow
from signup.mail import send
from signup.mail.models import Message, MessageState
from signup.mail.outgoing import UNREADABLE
from signup.mail.postman import Answer, Postman
from signup.privacy import retention
from signup.worker import JobTurn
from tests.conftest import Clock, elsewhere
from tests.support import log
from tests.support.locks import wait_for_a_lock

MAIL = next(kind for kind in wiring.JOBS if kind.name == "mail.send")
REFUSAL = "550 5.1.1 <anna@beispiel.de>: Recipient address rejected: queue id 4XyZ7"


@pytest.fixture
def settings(smtp_server):
    return {"MAIL_SERVER": smtp_server.host, "MAIL_PORT": str(smtp_server.port), "MAIL_TIMEOUT": "20"}


@pytest.fixture
def clock():
    """Ahead of the real time at which the sign-ups of a test were written."""
    return Clock(utc_now() + timedelta(seconds=30))


@pytest.fixture
def turn(clock):
    made = JobTurn(MAIL)
    yield made
    made.close(clock)


def only_job() -> JobRow:
    with reading() as session:
        return session.scalars(select(JobRow)).one()


def state(person: Any) -> MessageState:
    return log.messages(person.contact_id)[0].state


def answering(monkeypatch: pytest.MonkeyPatch, act: Any) -> list[str]:
    """Instead of the mail server, `act(recipient)` answers; the list shows who was written to."""
    asked: list[str] = []

    def hand_over(_self: Postman, _sender: str, recipient: str, _raw: bytes) -> Answer:
        asked.append(recipient)
        found = act(recipient)
        assert isinstance(found, Answer)
        return found

    monkeypatch.setattr(Postman, "hand_over", hand_over)
    return asked


def busy_at_commit(monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """So many commits of results fail at their end."""
    left = [times]
    real = send._settle

    def settle(*given: Any, **named: Any) -> None:
        real(*given, **named)
        if left[0]:
            left[0] -= 1
            raise Busy("busy", retry_after_seconds=5)

    monkeypatch.setattr(send, "_settle", settle)
    monkeypatch.setattr(send, "BUSY_PAUSES_SECONDS", (0.0,))


# --- what cannot be opened


def break_mail(person: Any) -> None:
    with transaction() as session:
        session.execute(update(Message).where(Message.contact_id == person.contact_id).values(sealed=b"\0" * 60))


def break_key(person: Any) -> None:
    with transaction() as session:
        session.execute(update(DataKey).where(DataKey.contact_id == person.contact_id).values(wrapped=b"\0" * 60))


@pytest.mark.parametrize("damage", [break_mail, break_key])
def test_the_others_go_out_when_one_mail_cannot_be_opened(sign_up, smtp_server, clock, turn, damage):
    broken, *others = [sign_up(f"anna{number}@beispiel.de") for number in range(3)]
    damage(broken)
    assert turn(clock) == 3
    assert {mail.rcpt_tos[0] for mail in smtp_server.wait(2)} == {"anna1@beispiel.de", "anna2@beispiel.de"}
    assert {state(person) for person in others} == {MessageState.ACCEPTED}
    (message,) = log.messages(broken.contact_id)
    assert (message.state, message.reason) == (MessageState.FAILED, UNREADABLE)
    job = only_job()
    assert (job.state, job.error) == (jobs.DEAD, UNREADABLE)
    clock.forward(seconds=send.LEASE_SECONDS + 1)
    assert turn(clock) == 0
    with reading() as session:
        (backlog,) = jobs.backlog(session, now=clock())
    assert (backlog.due, backlog.dead) == (0, 1)


# --- results outlive what happens to their commit


def test_a_mail_goes_out_once_when_the_commit_of_its_result_fails_once(sign_up, smtp_server, clock, turn, monkeypatch):
    people = [sign_up(f"anna{number}@beispiel.de") for number in range(3)]
    busy_at_commit(monkeypatch, 1)
    turn(clock)
    assert {state(person) for person in people} == {MessageState.ACCEPTED}
    clock.forward(seconds=send.LEASE_SECONDS + 1)
    assert turn(clock) == 0
    assert len(smtp_server.received) == 3


def test_the_result_is_written_with_the_next_batch_when_the_database_was_away(
    sign_up, smtp_server, clock, turn, monkeypatch
):
    anna = sign_up("anna@beispiel.de")
    busy_at_commit(monkeypatch, 2)
    with pytest.raises(Busy):
        turn(clock)
    assert state(anna) is MessageState.QUEUED
    bert = sign_up("bert@beispiel.de")
    turn(clock)
    assert (state(anna), state(bert)) == (MessageState.ACCEPTED, MessageState.ACCEPTED)
    assert len(smtp_server.received) == 2
    assert log.count(JobRow) == 0


def test_a_mail_is_not_sent_again_when_its_job_comes_back_before_its_result_was_written(
    sign_up, smtp_server, clock, turn, monkeypatch
):
    anna = sign_up("anna@beispiel.de")
    busy_at_commit(monkeypatch, 2)
    with pytest.raises(Busy):
        turn(clock)
    clock.forward(seconds=send.LEASE_SECONDS + 1)
    # The kept result is written first, and with it the job is done.
    assert turn(clock) == 0
    assert state(anna) is MessageState.ACCEPTED
    assert len(smtp_server.received) == 1


def test_the_result_is_written_when_the_worker_ends_after_a_failed_commit(sign_up, smtp_server, clock, monkeypatch):
    anna = sign_up("anna@beispiel.de")
    busy_at_commit(monkeypatch, 2)
    turn = JobTurn(MAIL)
    with pytest.raises(Busy):
        turn(clock)
    turn.close(clock)
    assert state(anna) is MessageState.ACCEPTED
    assert log.count(JobRow) == 0


def test_the_other_results_are_written_when_one_cannot_be(sign_up, smtp_server, clock, turn, monkeypatch):
    people = [sign_up(f"anna{number}@beispiel.de") for number in range(3)]
    real = send._accepted

    def accepted(session: Any, item: Any, *given: Any, **named: Any) -> None:
        if item.recipient == "anna1@beispiel.de":
            raise LookupError("a mistake of ours")
        real(session, item, *given, **named)

    monkeypatch.setattr(send, "_accepted", accepted)
    turn(clock)
    assert [state(person) for person in people] == [MessageState.ACCEPTED, MessageState.QUEUED, MessageState.ACCEPTED]
    monkeypatch.setattr(send, "_accepted", real)
    clock.forward(seconds=send.LEASE_SECONDS + 1)
    turn(clock)
    assert state(people[1]) is MessageState.ACCEPTED
    assert len(smtp_server.received) == 3


def test_the_others_go_out_when_handing_over_one_mail_fails_unexpectedly(sign_up, clock, turn, monkeypatch, caplog):
    people = [sign_up(f"anna{number}@beispiel.de") for number in range(3)]

    def act(recipient: str) -> Answer:
        if recipient == "anna1@beispiel.de":
            raise RuntimeError(f"no idea what to do with {recipient}")
        return Answer(250, "2.0.0 Ok")

    asked = answering(monkeypatch, act)
    turn(clock)
    assert len(asked) == 3
    assert [state(person) for person in people] == [MessageState.ACCEPTED, MessageState.QUEUED, MessageState.ACCEPTED]
    job = only_job()
    assert (job.error, job.attempt) == ("internal: RuntimeError", 1)
    assert job.next_at == clock() + timedelta(seconds=send.LATER_SECONDS[0])
    assert "anna1@" not in caplog.text


# --- leases


def test_no_mail_goes_out_twice_when_a_batch_takes_longer_than_its_lease(sign_up, clock, turn, monkeypatch):
    for number in range(send.BATCH):
        sign_up(f"anna{number}@beispiel.de", client=elsewhere(number))
    other = JobTurn(MAIL)

    def act(_recipient: str) -> Answer:
        clock.forward(seconds=18)
        return Answer(250, "2.0.0 Ok")

    asked = answering(monkeypatch, act)
    turn(clock)
    # The mails go at 0, 18 and 36 s; at 54 s one time-out of 20 s would outlast the lease of 60 s.
    assert len(asked) == 3
    with reading() as session:
        left = session.scalars(select(JobRow)).all()
    assert {(job.next_at, job.attempt, job.lease_token) for job in left} == {(clock(), 0, None)}
    while log.count(JobRow):
        other(clock)
    assert len(asked) == len(set(asked)) == send.BATCH
    assert log.count(JobRow) == 0


def test_the_later_worker_decides_when_a_lease_was_lost_during_the_hand_over(sign_up, clock, turn, monkeypatch):
    anna = sign_up("anna@beispiel.de")
    other = JobTurn(MAIL)

    def act(_recipient: str) -> Answer:
        if len(asked) == 1:
            clock.forward(seconds=send.LEASE_SECONDS + 1)
            other(clock)
            return Answer(550, "5.7.1 no")
        return Answer(250, "2.0.0 Ok")

    asked = answering(monkeypatch, act)
    turn(clock)
    assert len(asked) == 2
    (message,) = log.messages(anna.contact_id)
    assert (message.state, message.smtp_reply, message.reason) == (MessageState.ACCEPTED, "250 2.0.0", None)
    assert [kind for kind in log.kinds(anna.contact_id) if kind.startswith("mail.")] == ["mail.accepted"]


# --- what the server says may repeat the address


@pytest.mark.parametrize(
    ("reply", "short"),
    [
        (REFUSAL, "550 5.1.1"),
        ("550 no such mailbox anna@beispiel.de", "550"),
        ("554 5.7.1anna@beispiel.de", "554"),
    ],
)
def test_only_code_and_status_are_readable_when_a_refusal_repeats_the_address(
    sign_up, smtp_server, clock, turn, reply, short
):
    anna = sign_up("anna@beispiel.de")
    smtp_server.behaviour.data_reply = reply
    turn(clock)
    (message,) = log.messages(anna.contact_id)
    assert (message.state, message.reason, message.smtp_reply) == (MessageState.FAILED, short, short)
    fact = next(fact for fact in log.facts(anna.contact_id) if fact.kind == "mail.failed")
    assert fact.fields["smtp_reply"] == reply


def test_the_queue_id_is_sealed_when_a_mail_is_accepted(sign_up, smtp_server, clock, turn):
    anna = sign_up("anna@beispiel.de")
    turn(clock)
    (mail,) = smtp_server.wait()
    assert log.messages(anna.contact_id)[0].smtp_reply == "250 2.0.0"
    fact = next(fact for fact in log.facts(anna.contact_id) if fact.kind == "mail.accepted")
    assert mail.queue_id in fact.fields["smtp_reply"]


def test_only_code_and_status_are_readable_when_the_server_says_later(sign_up, smtp_server, clock, turn):
    sign_up("anna@beispiel.de")
    smtp_server.behaviour.data_reply = "451 4.7.1 <anna@beispiel.de>: greylisted"
    turn(clock)
    assert only_job().error == "451 4.7.1"


# --- erasure while a mail is under way


def test_the_fact_names_nobody_when_the_person_was_erased_during_the_hand_over(sign_up, clock, turn, monkeypatch):
    anna = sign_up("anna@beispiel.de")

    def act(recipient: str) -> Answer:
        with transaction() as session:
            retention.forget(session, [anna.contact_id], "erased", now=utc_now())
        return Answer(250, f"2.0.0 {recipient} Ok")

    answering(monkeypatch, act)
    turn(clock)
    with reading() as session:
        query = select(Disclosure.data).join(Event, Event.id == Disclosure.event_id)
        data = b"\n".join(session.scalars(query.where(Event.kind == EventType.MAIL_ACCEPTED)))
        (owner,) = session.scalars(select(Event.contact_id).where(Event.kind == EventType.MAIL_ACCEPTED))
        (message,) = session.scalars(select(Message))
    assert owner is None
    assert {json.loads(line)[1] for line in data.split(b"\n")} == {
        *("type", "time", "actor", "message_id", "mail_sha256", "confirmation", "smtp_server")
    }
    assert b"anna@" not in data
    assert (message.state, message.smtp_reply) == (MessageState.ACCEPTED, "250 2.0.0")


@pytest.mark.parametrize("backend", [pytest.param("postgres", marks=pytest.mark.postgres)], indirect=True)
def test_nobody_is_erased_between_the_look_and_the_commit_when_a_result_is_written(
    app, sign_up, clock, turn, monkeypatch
):
    """On SQLite writers queue anyway. Erasure that comes now waits for the commit, so it finds the new fact."""
    anna = sign_up("anna@beispiel.de")
    answering(monkeypatch, lambda _recipient: Answer(250, "2.0.0 Ok"))
    real, threads = send._settle, []

    def erase() -> None:
        with app.app_context(), transaction() as session:
            session.execute(select(Contact.id).where(Contact.id == anna.contact_id).with_for_update())
            retention.forget(session, [anna.contact_id], "erased", now=utc_now())

    def settle(*given: Any, **named: Any) -> None:
        threads.append(threading.Thread(target=erase))
        threads[0].start()
        wait_for_a_lock()
        real(*given, **named)

    monkeypatch.setattr(send, "_settle", settle)
    turn(clock)
    threads[0].join()
    with reading() as session:
        assert session.scalars(select(Event.contact_id).where(Event.kind == EventType.MAIL_ACCEPTED)).all() == [None]
        sealed = (
            select(Disclosure).join(Event, Event.id == Disclosure.event_id).where(Event.kind == EventType.MAIL_ACCEPTED)
        )
        assert [row.name for row in session.scalars(sealed) if row.sealed] == []
