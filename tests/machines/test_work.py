"""Mails, webhooks and timed jobs are done once over all machines; what a dead one held is done by another."""

from __future__ import annotations

import signal

import pytest
from sqlalchemy import select, text

from signup import jobs
from signup.core.db import reading, transaction
from signup.mail.compose import JOB_SEND
from signup.privacy import retention
from signup.webhooks.models import Delivery, DeliveryState
from tests.faults.rig import LEASE_SECONDS, until
from tests.journeys.world import count_rows
from tests.machines.fleet import Fleet
from tests.support.receiver import Answer

PEOPLE = 30
ROUNDS = 3


NOTE_TAKEN = """
CREATE TABLE taken (kind text);
CREATE FUNCTION note_taken() RETURNS trigger LANGUAGE plpgsql AS
$$BEGIN INSERT INTO taken VALUES (NEW.kind); RETURN NULL; END$$;
CREATE TRIGGER taken AFTER UPDATE ON job FOR EACH ROW
WHEN (NEW.lease_token IS NOT NULL AND NEW.lease_token IS DISTINCT FROM OLD.lease_token)
EXECUTE FUNCTION note_taken();
"""


def leased_mails() -> dict[str, str]:
    with reading() as session:
        rows = session.execute(
            select(jobs.JobRow.id, jobs.JobRow.lease_token).where(
                jobs.JobRow.kind == JOB_SEND, jobs.JobRow.lease_token.is_not(None)
            )
        )
        return {row.id: row.lease_token or "" for row in rows}


def leased_posts() -> dict[str, str]:
    with reading() as session:
        rows = session.execute(
            select(Delivery.id, Delivery.lease_token).where(
                Delivery.state == DeliveryState.DUE, Delivery.lease_token.is_not(None)
            )
        )
        return {row.id: row.lease_token or "" for row in rows}


def _mails_left() -> int:
    return count_rows(jobs.JobRow, jobs.JobRow.kind == JOB_SEND, jobs.JobRow.state == jobs.DUE)


def test_each_mail_and_webhook_goes_once_when_two_machines_send(fleet: Fleet) -> None:
    rig = fleet.rig

    def enough() -> bool:
        senders = {mail.session for mail in rig.smtp.received}
        return len(rig.ledger.accepted) >= PEOPLE and len(rig.ledger.confirmed) >= 5 and len(senders) > 1

    with fleet.crowd(rate=30):
        until(enough, "sign-ups whose mails both workers send")
    verdict = rig.settle(jumps=False)
    assert verdict.mails >= PEOPLE
    assert verdict.posts >= 2 * PEOPLE
    assert (verdict.mail_duplicates, verdict.post_duplicates) == (0, 0)
    assert set(rig.ledger.statuses) == {202, 303} or set(rig.ledger.statuses) == {303}


@pytest.fixture
def counted_leases(fleet: Fleet):
    """The database itself counts how often a timed job is taken."""
    with transaction() as session:
        session.execute(text(NOTE_TAKEN))
    yield lambda: _scalar("SELECT count(*) FROM taken WHERE kind = 'retention.run'")
    with transaction() as session:
        session.execute(text("DROP TRIGGER taken ON job; DROP FUNCTION note_taken; DROP TABLE taken"))


def _scalar(statement: str) -> int:
    with reading() as session:
        return session.scalar(text(statement)) or 0


def test_a_timed_job_runs_once_when_it_is_due_on_two_machines(fleet: Fleet, counted_leases) -> None:
    clock = fleet.rig.clock

    def done() -> bool:
        with reading() as session:
            row = session.execute(
                select(jobs.JobRow.next_at, jobs.JobRow.lease_token).where(jobs.JobRow.kind == retention.JOB_RUN)
            ).one()
        return row.lease_token is None and row.next_at > clock()

    until(done, "the run before")
    before = counted_leases()
    for number in range(1, ROUNDS + 1):
        clock.jump(retention.EVERY_SECONDS + 1)
        until(done, "the run")
        assert counted_leases() == before + number
    assert count_rows(jobs.JobRow, jobs.JobRow.kind == retention.JOB_RUN) == 1


def test_another_machine_takes_over_when_one_is_killed_whole_in_the_middle_of_its_work(fleet: Fleet) -> None:
    rig, (first, second) = fleet.rig, fleet.machines
    # Only the first one works, and everything it begins hangs.
    second.signal_worker(signal.SIGSTOP)
    rig.smtp.behaviour.hang_in_data = True
    rig.receiver.default = Answer(hang=True)
    with fleet.crowd(rate=30):
        until(lambda: leased_mails() and leased_posts() and rig.receiver.requests, "work in its hands")
        first.kill()
        mails, posts = leased_mails(), leased_posts()
        rig.smtp.behaviour.hang_in_data = False
        rig.receiver.default = Answer(200)
        second.signal_worker(signal.SIGCONT)
        people, confirmed = len(rig.ledger.accepted), len(rig.ledger.confirmed)
        until(lambda: len(rig.ledger.accepted) >= people + 10, "sign-ups on the other machine")
        until(lambda: len(rig.ledger.confirmed) >= confirmed + 3, "confirmations on the other machine")
    assert mails
    assert posts
    # The living one has sent all other mails, and touched nothing that is leased to the dead one. An endpoint gets only
    # so many posts at once from all machines together, so other posts may have to wait for these.
    until(lambda: _mails_left() == len(mails), "the end of all other mails")
    assert leased_mails() == mails
    assert leased_posts().items() >= posts.items()
    rig.note_in_flight()
    rig.clock.jump(LEASE_SECONDS)
    verdict = rig.settle(jumps=False)
    assert verdict.mails >= len(mails) + 10
    assert verdict.mail_duplicates <= rig.ledger.mails_in_flight.total()
    # The receiver had these before the power failed, and nobody could know.
    assert 1 <= verdict.post_duplicates <= rig.ledger.posts_in_flight.total()
