"""Kills at random points under load: of web processes, of all of gunicorn, of the worker."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from tests.faults.oracle import Verdict
from tests.faults.rig import Rig, until

# From one kill to the next; a worker needs a tenth of a second to be at work again.
PAUSE_SECONDS = (0.05, 0.7)
# So long a kill waits for its victim to have something in hand.
AIM_SECONDS = 0.5
# A request that was just sent is under way for about so long.
REQUEST_SECONDS = (0.0, 0.015)
# Out of a hundred kills; the rest are workers.
WEB_PROCESSES, GUNICORNS = 47, 3


@dataclass
class Figures:
    """What a round of kills came to."""

    kills: int
    by_kind: dict[str, int]
    seconds: float
    verdict: Verdict
    mails_in_flight: int
    posts_in_flight: int
    broken: int
    statuses: dict[int, int]

    def lines(self) -> list[str]:
        told, kinds = self.verdict, ", ".join(f"{count} {kind}" for kind, count in sorted(self.by_kind.items()))
        return [
            f"{self.kills} kills ({kinds}) in {self.seconds:.0f} s",
            f"{told.sign_ups} sign-ups accepted, {told.confirmed} confirmed, {told.posts + told.mails} things sent",
            f"{self.broken} requests got no answer; {told.unanswered_but_stored} people gave up and are stored, whole",
            f"lost {len(told.lost)}, half {len(told.half)}, stuck {len(told.stuck)}, unexplained {len(told.strange)}",
            f"mails {told.mails}, duplicates {told.mail_duplicates} <= in flight {self.mails_in_flight}",
            f"webhooks {told.posts}, duplicates {told.post_duplicates} <= in flight {self.posts_in_flight}",
            f"answers {dict(sorted(self.statuses.items()))}",
        ]


@dataclass(frozen=True)
class Plan:
    """One round.

    Args:
        rate: sign-ups per second at most.
        real_time: the last to die is a worker, and its leases are waited for; otherwise the clock moves.
    """

    kills: int
    seed: int
    rate: float = 40
    real_time: bool = False


def round_of_kills(rig: Rig, plan: Plan, *, progress: Callable[[int], None] | None = None) -> Figures:
    """Processes die under load, each is replaced by its supervisor; then the ones that are left do all that is owed."""
    start = time.monotonic()
    _kill_at_random(rig, plan, progress)
    rig.drain(seconds=600, jumps=not plan.real_time)
    return Figures(
        kills=rig.kills.total(),
        by_kind=dict(rig.kills),
        seconds=time.monotonic() - start,
        verdict=rig.judge(),
        mails_in_flight=rig.ledger.mails_in_flight.total(),
        posts_in_flight=rig.ledger.posts_in_flight.total(),
        broken=rig.ledger.broken,
        statuses=dict(rig.ledger.statuses),
    )


def _kill_at_random(rig: Rig, plan: Plan, progress: Callable[[int], None] | None) -> None:
    dice = random.Random(plan.seed)
    pause = threading.Event()
    first, people, confirmed = rig.kills.total(), len(rig.ledger.accepted), len(rig.ledger.confirmed)
    with rig.crowd(rate=plan.rate, seed=plan.seed) as crowd:
        while (done := rig.kills.total() - first) < plan.kills:
            pause.wait(dice.uniform(*PAUSE_SECONDS))
            last = done == plan.kills - 1
            die = dice.randrange(100)
            aimed = dice.random() < 0.5
            if plan.real_time and last:
                _until_it_changes(lambda: rig.smtp.attempts)
                rig.kill_worker(jump=False)
            elif die < GUNICORNS:
                rig.kill_web(master_only=aimed)
            elif die < GUNICORNS + WEB_PROCESSES:
                if aimed:
                    _until_it_changes(lambda: crowd.sent)
                    pause.wait(dice.uniform(*REQUEST_SECONDS))
                rig.kill_web_worker()
            else:
                if aimed:
                    _until_it_changes(lambda: rig.smtp.attempts + len(rig.receiver.requests))
                rig.kill_worker()
            if progress:
                progress(rig.kills.total() - first)
        # On a busy machine few come through between two kills, and a round without people would show nothing.
        until(lambda: len(rig.ledger.accepted) >= people + plan.kills, "as many sign-ups as kills")
        until(lambda: len(rig.ledger.confirmed) > confirmed, "confirmations")


def _until_it_changes(count: Callable[[], int]) -> None:
    """Until the victim has something in hand: much of its time is idle, and a kill there shows nothing."""
    before, deadline = count(), time.monotonic() + AIM_SECONDS
    while count() == before and time.monotonic() < deadline:
        time.sleep(0.0005)
