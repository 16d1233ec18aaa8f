"""What was delivered long ago goes, what is owed stays, on both databases."""

from datetime import datetime, timedelta

import pytest
from sqlalchemy import select

from signup.core.db import reading
from signup.core.values import first_id, new_id, utc_now
from signup.eventlog.models import Publication
from signup.privacy import retention
from signup.webhooks.models import Attempt, Delivery
from signup.worker import run_until_idle
from tests.support import log


def rows() -> tuple[int, int, int]:
    return log.count(Attempt), log.count(Delivery), log.count(Publication)


def previewed(at: datetime) -> dict[str, int]:
    with reading() as session:
        return retention.preview(session, now=at)


def run(at: datetime) -> dict[str, int]:
    return retention.run_now(lambda: at)


@pytest.mark.req("W31")
def test_attempts_go_after_a_month_and_payloads_after_a_quarter(desk, endpoint, receiver, monkeypatch):
    monkeypatch.setattr(retention, "FORGET_BATCH", 2)
    for number in range(5):
        desk.publish({"n": number})
    run_until_idle()
    assert rows() == (5, 5, 5)
    start = utc_now()
    run(start + timedelta(days=29))
    assert rows() == (5, 5, 5)
    assert previewed(start + timedelta(days=31)) | {"attempts": 5, "deliveries": 0, "publications": 0} == previewed(
        start + timedelta(days=31)
    )
    assert run(start + timedelta(days=31))["attempts"] == 5
    assert rows() == (0, 5, 5)
    run(start + timedelta(days=91))
    # The newest stays, so that numbers go on from it.
    assert rows() == (0, 0, 1)
    desk.publish({"n": 5})
    run_until_idle()
    with reading() as session:
        assert session.scalars(select(Publication.seq).order_by(Publication.seq)).all() == [5, 6]


def test_what_is_still_owed_stays(desk, endpoint, receiver):
    desk.publish()
    run(utc_now() + timedelta(days=200))
    assert rows() == (0, 1, 1)
    desk.run()
    assert len(receiver.requests) == 1


def test_the_first_id_of_a_moment_sorts_between_older_and_newer():
    now = utc_now()
    older, newer = new_id("att", now - timedelta(milliseconds=1)), new_id("att", now)
    assert older < first_id("att", now) < newer
