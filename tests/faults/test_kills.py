"""A few kills in every run; `bin/test faults` does a thousand."""

from __future__ import annotations

import pytest

from tests.faults.kills import Plan, round_of_kills
from tests.faults.rig import Rig, until

KILLS = 12
# A web process that takes two seconds to load would mostly be killed while it loads.
FAST = True


@pytest.mark.req("W7", "W8")
def test_nothing_is_lost_or_stuck_when_web_and_worker_are_killed_at_random(rig: Rig) -> None:
    figures = round_of_kills(rig, Plan(KILLS, seed=7))
    assert figures.verdict.problems() == [], rig.logs()
    assert figures.kills == KILLS
    assert figures.verdict.sign_ups >= KILLS
    assert figures.verdict.confirmed > 0
    assert figures.verdict.mail_duplicates <= figures.mails_in_flight
    assert figures.verdict.post_duplicates <= figures.posts_in_flight


def test_sign_ups_go_on_when_gunicorn_loses_its_master_or_everything(rig: Rig) -> None:
    with rig.crowd(rate=20, seed=3):
        for master_only in (True, False):
            rig.kill_web(master_only=master_only)
            before = len(rig.ledger.accepted)
            until(lambda before=before: len(rig.ledger.accepted) >= before + 3, "sign-ups again")
    rig.settle()
