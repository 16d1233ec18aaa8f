"""A part of the world fails under load, comes back, and the same processes go on."""

from __future__ import annotations

import shutil
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import pytest
from sqlalchemy import func, select, text

from signup.core.db import database, reading, transaction
from signup.webhooks.models import Attempt
from tests.faults import oracle
from tests.faults.cluster import Cluster
from tests.faults.crowd import message_id_of
from tests.faults.rig import Rig, is_sound, until
from tests.support.needs import missing
from tests.support.receiver import Answer
from tests.support.smtp import Behaviour

HOUR, DAY = 3600.0, 86_400.0
AWAY = "the database is away"
# More than one page of a database file: everything beyond is refused as on a full disk.
NO_ROOM_BYTES = 4096


@contextmanager
def load(rig: Rig) -> Iterator[list[int]]:
    """People sign up and confirm; at the end the same processes are there, all is done and nothing is wrong."""
    before = rig.pids()
    with rig.crowd(rate=15, seed=len(rig.ledger.tried) + 1):
        yield before
        more = len(rig.ledger.accepted) + 3
        until(lambda: len(rig.ledger.accepted) >= more, "sign-ups after the fault")
    rig.settle()
    rig.check_same_processes(before)


def tries(error: str) -> int:
    """How many attempts ended like this."""
    with reading() as session:
        return session.scalar(select(func.count()).where(Attempt.error.like(f"%{error}%"))) or 0


def waiting_mails(error: str) -> int:
    with reading() as session:
        query = text("SELECT count(*) FROM job WHERE kind = 'mail.send' AND error LIKE :error")
        return session.scalar(query, {"error": f"%{error}%"}) or 0


def test_every_mail_arrives_when_the_mail_server_fails_in_every_way(rig: Rig) -> None:
    smtp = rig.smtp
    with load(rig):
        until(lambda: smtp.received, "a mail")
        smtp.go_down()
        try:
            until(lambda: waiting_mails("refused"), "mails that wait for the mail server")
        finally:
            smtp.come_up()
        seen = smtp.attempts
        smtp.behaviour = Behaviour(slow_seconds=0.3)
        until(lambda: smtp.attempts >= seen + 4, "slow dialogues")
        smtp.behaviour = Behaviour(hang_in_data=True)
        until(lambda: waiting_mails("imed out"), "a mail without an answer in time")
        smtp.behaviour = Behaviour(greylist=4)
        until(lambda: smtp.behaviour.greylist == 0, "mails told to come later")
        smtp.behaviour = Behaviour(drop_in_data=3)
        until(lambda: smtp.behaviour.drop_in_data == 0, "mails cut in the middle")
        smtp.behaviour = Behaviour(drop_after_data=3)
        until(lambda: len(smtp.unanswered) >= 3, "mails whose answer got lost")
        smtp.behaviour = Behaviour()
        # Nobody can know of these whether they arrived, so they come again: once for each lost answer.
        rig.ledger.mails_in_flight.update(message_id_of(mail.content) for mail in smtp.unanswered)
        smtp.unanswered.clear()


def test_every_webhook_arrives_when_its_receiver_fails_in_every_way(rig: Rig) -> None:
    receiver = rig.receiver
    with load(rig):
        until(lambda: receiver.requests, "a webhook")
        known = tries("refused")
        receiver.go_down()
        try:
            until(lambda: tries("refused") > known, "refused connections")
        finally:
            receiver.come_up()
        for answer in (Answer(hang=True), Answer(body=b"slowly", drip_headers_seconds=1.0), Answer(500)):
            with reading() as session:
                before = session.scalar(select(func.count()).select_from(Attempt)) or 0
            receiver.default = answer
            until(lambda before=before: _failed_since(before), f"failed tries ({answer})")
        receiver.default = Answer()


def _failed_since(count: int) -> bool:
    with reading() as session:
        failed = (Attempt.status.is_(None)) | (Attempt.status >= 400)
        newest = session.scalars(select(Attempt.id).where(failed).order_by(Attempt.started_at.desc()).limit(2)).all()
        return len(newest) == 2 and (session.scalar(select(func.count()).select_from(Attempt)) or 0) >= count + 2


@pytest.mark.req("W9")
def test_nothing_is_lost_when_the_database_goes_away_and_comes_back(rig: Rig, request: pytest.FixtureRequest) -> None:
    if not database().sqlite:
        cluster: Cluster = request.getfixturevalue("cluster")
        with load(rig):
            for _ in range(3):
                until(lambda: rig.smtp.attempts, "work")
                cluster.stop(signal.SIGQUIT)
                until(_more_refusals(rig), "answers that ask to come again")
                cluster.start()
                before = len(rig.ledger.accepted)
                until(lambda before=before: len(rig.ledger.accepted) > before, "sign-ups again")
        return
    with load(rig):
        until(lambda: rig.ledger.accepted, "sign-ups")
        with transaction():
            until(_more_refusals(rig), "answers that ask to come again")
        calm = len(rig.ledger.accepted) + 5
        until(lambda: len(rig.ledger.accepted) >= calm, "sign-ups again")
        # Somebody who knows nothing of our lock, such as a backup program.
        with closing(sqlite3.connect(rig.folder / "signup.db", isolation_level=None)) as stranger:
            stranger.execute("BEGIN IMMEDIATE")
            until(_more_refusals(rig), "answers that ask to come again")
            stranger.execute("ROLLBACK")


@pytest.mark.req("W9")
def test_a_worker_waits_and_then_works_when_it_starts_while_the_database_is_away(
    rig: Rig, request: pytest.FixtureRequest
) -> None:
    with rig.crowd(rate=15):
        rig.end_worker()
        if database().sqlite:
            with transaction():
                rig.start_worker()
                until(lambda: AWAY in rig.worker_log(), "a worker that waits")
        else:
            cluster: Cluster = request.getfixturevalue("cluster")
            cluster.stop()
            try:
                rig.start_worker()
                until(lambda: AWAY in rig.worker_log(), "a worker that waits")
            finally:
                cluster.start()
        before = rig.pids()
        mails = len(rig.smtp.received)
        until(lambda: len(rig.smtp.received) > mails, "mails again")
    rig.settle()
    rig.check_same_processes(before)


def _more_refusals(rig: Rig) -> object:
    before = rig.ledger.statuses[503]
    return lambda: rig.ledger.statuses[503] > before


def test_nothing_is_lost_or_half_when_the_disk_is_full(rig: Rig, request: pytest.FixtureRequest) -> None:
    with load(rig):
        until(lambda: len(rig.ledger.accepted) > 5, "sign-ups")
        if database().sqlite:
            victims, limit, identity = rig.pids, NO_ROOM_BYTES, {}
        else:
            cluster: Cluster = request.getfixturevalue("cluster")
            _let_a_table_grow()
            victims, limit, identity = cluster.pids, _largest_table(), cluster.identity
        refused = _not_taken(rig)
        limit_files(victims(), limit, identity)
        try:
            until(lambda: _not_taken(rig) >= refused + 3, "sign-ups that were not taken")
        finally:
            limit_files(victims(), "unlimited", identity)
    if database().sqlite:
        assert is_sound(rig.folder / "signup.db")


def limit_files(pids: list[int], limit: int | str, identity: dict[str, Any]) -> None:
    """Running processes cannot write beyond `limit` bytes of any file, as if the disk had no more room there."""
    program = shutil.which("prlimit") or missing("prlimit (util-linux) is not installed")
    for pid in pids:
        # One may have ended meanwhile; whether the limit is felt is what the test waits for.
        subprocess.run([program, f"--pid={pid}", f"--fsize={limit}:"], check=False, **identity)


def _not_taken(rig: Rig) -> int:
    return sum(count for status, count in rig.ledger.statuses.items() if status >= 500)


def _let_a_table_grow() -> None:
    """By a page for a few rows: so it soon meets a limit that leaves the server's own log alone."""
    with transaction() as session:
        session.execute(text("ALTER TABLE disclosure SET (fillfactor = 10)"))


def _largest_table() -> int:
    with reading() as session:
        size: int = session.scalar(text("SELECT max(pg_relation_size(oid)) FROM pg_class WHERE relkind IN ('r', 'i')"))
    return max(size, 1_048_576)


def test_work_goes_on_when_the_clock_jumps(rig: Rig) -> None:
    with load(rig):
        for seconds in (HOUR, -HOUR, -DAY, DAY):
            mails, posts = len(rig.smtp.received), len(rig.receiver.requests)
            rig.note_in_flight()
            rig.clock.jump(seconds)
            rig.note_in_flight()
            until(lambda mails=mails: len(rig.smtp.received) >= mails + 3, f"mails after a jump of {seconds:g} s")
            until(
                lambda posts=posts: len(rig.receiver.requests) >= posts + 3, f"webhooks after a jump of {seconds:g} s"
            )
    assert oracle.unfinished() == 0
