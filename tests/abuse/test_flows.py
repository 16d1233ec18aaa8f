"""Hourly counts: shared by processes, right to about a second, and never a row that all wait for."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from flask import Flask

from signup.abuse import flows
from signup.abuse.flows import Stream, Tally
from signup.core.db import reading, transaction
from tests.guards.world import rows

NOON = datetime(2026, 11, 23, 12, 0, 0, tzinfo=UTC)
FORM = Stream("form|frm_x", 50, learns=True)
DOMAIN = Stream("domain|ctl|x.de", 60)


def press(tally: Tally, *streams: Stream, at: datetime) -> int:
    """One sign-up of one process, with its commit; how many rows it wrote."""
    due = sorted(tally.count(streams, now=at))
    if due:
        with transaction() as session:
            found: Sequence[tuple[int, int]] = session.claim(flows.claims(session, due))
        tally.settle(due, found)
    return len(due)


def test_a_process_writes_once_a_second_when_sign_ups_pour_in(app: Flask) -> None:
    tally = Tally()
    written = [press(tally, FORM, at=NOON + timedelta(milliseconds=10 * number)) for number in range(500)]
    # The second one, and then one each second.
    assert sum(written) == 5
    assert rows("flow")[0].count >= 500 - 100
    assert tally.is_over(FORM, now=NOON + timedelta(seconds=5))


def test_what_came_once_stays_in_the_process_when_nobody_else_comes(app: Flask) -> None:
    tally = Tally()
    for number in range(100):
        stream = Stream(f"domain|ctl|d{number}.de", 60)
        assert press(tally, stream, at=NOON + timedelta(minutes=number)) == 0
    assert rows("flow") == []


@pytest.mark.req("A3")
def test_processes_see_together_what_none_sees_alone_when_a_form_is_flooded(app: Flask) -> None:
    processes = [Tally() for _ in range(4)]
    for number in range(60):
        press(processes[number % 4], FORM, at=NOON + timedelta(seconds=number))
    later = NOON + timedelta(seconds=64)
    for number, tally in enumerate(processes):
        press(tally, FORM, at=later + timedelta(seconds=number))
    # Each is right but for what the others have counted since they last wrote.
    assert all(tally.is_over(FORM, now=later) for tally in processes)
    with reading() as session:
        assert flows.is_over_for_all(session, FORM, now=later)
    assert 60 <= rows("flow")[0].count <= 64


def test_nothing_is_lost_or_doubled_when_a_commit_fails(app: Flask) -> None:
    tally = Tally()
    press(tally, FORM, at=NOON)
    lost = tally.count([FORM], now=NOON)
    assert [due.number for due in lost] == [2]
    # The commit failed, so nothing settles; a second later all of it is due again.
    assert tally.count([FORM], now=NOON) == []
    due = tally.count([FORM], now=NOON + timedelta(seconds=1))
    assert [item.number for item in due] == [4]


def test_the_last_hour_fades_when_the_next_begins(app: Flask) -> None:
    tally = Tally()
    for number in range(51):
        press(tally, FORM, at=NOON + timedelta(minutes=59, milliseconds=number))
    for minutes, over in ((59.9, True), (60, True), (61, True), (63, False), (90, False), (200, False)):
        assert tally.is_over(FORM, now=NOON + timedelta(minutes=minutes)) is over, minutes


def test_five_times_the_usual_hour_is_ordinary_when_a_form_is_busy() -> None:
    assert not flows.over(FORM, 50, 0, 0, now=NOON)
    assert flows.over(FORM, 51, 0, 0, now=NOON)
    assert not flows.over(FORM, 500, 0, 100, now=NOON)
    assert flows.over(FORM, 501, 0, 100, now=NOON)


def test_freemail_has_ten_times_the_budget_when_counted_by_domain() -> None:
    assert flows.domain_stream("ctl", "firma.de", 50).floor == 60
    assert flows.domain_stream("ctl", "gmx.de", 50).floor == 600
    assert flows.controller_stream("ctl", 50).floor == 1000


def test_memory_is_bounded_when_every_sign_up_has_another_domain() -> None:
    tally = Tally()
    for number in range(flows.MAX_ENTRIES + 10):
        tally.count([Stream(f"domain|{number}", 60)], now=NOON)
    assert len(tally._entries) <= flows.MAX_ENTRIES


def test_what_was_refused_does_not_count_when_it_is_taken_back(app: Flask) -> None:
    tally = Tally()
    for _ in range(60):
        tally.count([DOMAIN], now=NOON)
        tally.uncount([DOMAIN])
    assert not tally.is_over(DOMAIN, now=NOON)
