"""A few kills in every run; `bin/test faults` does a thousand."""

from __future__ import annotations

import pytest

from tests.faults.kills import Plan, round_of_kills
from tests.faults.rig import Rig

KILLS = 12
# A web process that takes two seconds to load would mostly be killed while it loads.
FAST = True


@pytest.mark.req("W7", "W8")
def test_nothing_is_lost_or_stuck_when_web_and_worker_are_killed_at_random(rig: Rig) -> None:
    figures = round_of_kills(rig, Plan(KILLS, seed=7))
    assert figures.verdict.problems() == [], rig.logs()
    assert figures.kills == KILLS
    assert figures.verdict.sign_ups > KILLS
    assert figures.verdict.confirmed > 0
    assert figures.verdict.mail_duplicates <= figures.mails_in_flight
    assert figures.verdict.post_duplicates <= figures.posts_in_flight
