"""What is wrong enough to be told, and how often."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from signup.alarms import rules
from signup.alarms.models import AlarmKind
from signup.alarms.rules import Change, Finding, Standing
from tests.conftest import NOW

FINDING = Finding(AlarmKind.QUEUE_AGE, "retention.run", {"minutes": 16})


def standing(*, seen: timedelta, told: timedelta) -> Standing:
    return Standing("alm_1", FINDING, NOW - timedelta(days=1), NOW - seen, NOW - told)


@pytest.mark.parametrize(
    ("age", "untried", "deferred", "raised"),
    [
        (None, 0, 0, False),
        (timedelta(minutes=15), 3, 0, False),
        (timedelta(minutes=15, milliseconds=1), 3, 0, True),
        (None, 0, 9, False),
        (None, 0, 10, True),
        (timedelta(seconds=1), 0, 10, True),
    ],
)
def test_mail_is_stuck_when_nobody_answers_or_many_are_put_off(
    age: timedelta | None, untried: int, deferred: int, raised: bool
) -> None:
    oldest: datetime | None = NOW - age if age else None
    finding = rules.mail_stuck(oldest, untried, deferred, now=NOW)
    assert (finding is not None) is raised
    if finding:
        assert finding.facts == {"count": untried + deferred, "minutes": 15}


@pytest.mark.parametrize(("minutes", "raised"), [(None, False), (15, False), (16, True)])
def test_a_queue_is_old_when_its_first_job_is_overdue(minutes: int | None, raised: bool) -> None:
    since = None if minutes is None else NOW - timedelta(minutes=minutes)
    assert (rules.queue_age("retention.run", since, now=NOW) is not None) is raised


@pytest.mark.parametrize(
    ("gone", "held_hours", "raised"), [(False, None, False), (False, 24, False), (False, 25, True), (True, None, True)]
)
def test_an_endpoint_is_missed_when_it_is_gone_or_its_pause_forgotten(
    gone: bool, held_hours: int | None, raised: bool
) -> None:
    since = None if held_hours is None else NOW - timedelta(hours=held_hours)
    found = rules.endpoint_off("ep_1", "crm.example", state="paused", gone=gone, held=1, held_since=since, now=NOW)
    assert (found is not None) is raised


@pytest.mark.parametrize(
    ("found", "alarms", "change"),
    [
        ([FINDING], [], Change.RAISED),
        ([FINDING], [standing(seen=timedelta(minutes=1), told=timedelta(hours=3, minutes=59))], None),
        ([FINDING], [standing(seen=timedelta(minutes=1), told=timedelta(hours=4))], Change.REPEATED),
        ([], [standing(seen=timedelta(minutes=4), told=timedelta(hours=9))], None),
        ([], [standing(seen=timedelta(minutes=5), told=timedelta(hours=1))], Change.CLEARED),
        ([], [], None),
    ],
)
def test_an_alarm_is_told_when_it_begins_lasts_and_ends(
    found: list[Finding], alarms: list[Standing], change: Change | None
) -> None:
    told = rules.steps(found, alarms, now=NOW)
    assert [step.change for step in told] == ([change] if change else [])


def test_a_way_is_tried_more_slowly_when_it_keeps_failing() -> None:
    waits = [(rules.next_try(attempt, now=NOW) - NOW).total_seconds() for attempt in range(1, 8)]
    assert waits == [60, 60, 120, 300, 900, 900, 900]


@pytest.mark.parametrize("locale", ["en", "de"])
@pytest.mark.parametrize("kind", AlarmKind)
def test_every_alarm_has_words_when_told(kind: AlarmKind, locale: str) -> None:
    facts = {"count": 3, "minutes": 17, "host": "crm.example", "waiting": 4, "dead": 0, "held": 2, "state": "paused"}
    facts |= {"days": 9, "reason": "event evt_1 (leaf 7) is missing"}
    # Of these there is only one in a service.
    alone = (AlarmKind.MAIL_STUCK, AlarmKind.REPORTS_UNREADABLE, AlarmKind.LOG_UNSTAMPED, AlarmKind.TSA_ENDS)
    for change in Change:
        text = rules.sentence(change, Finding(kind, "the-subject", facts), locale)
        assert "{" not in text
        assert kind in alone or "the-subject" in text
        assert "angehalten" not in text or locale == "de"
