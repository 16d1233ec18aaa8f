"""Posting deliveries to endpoints: the only file of this feature that uses the network."""

from __future__ import annotations

import logging
import math
import secrets
import time
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from datetime import datetime

from flask import current_app

from signup.core import outbound
from signup.core.addresses import Allowance
from signup.core.config import Config
from signup.core.db import reading, transaction
from signup.core.outbound import OutboundFailed, OutboundRefused, Resolver
from signup.webhooks import queue, rules
from signup.webhooks.queue import TOTAL_SECONDS, Owed, Result

Clock = Callable[[], datetime]

# Threads only wait for answers; with one delivery for each slow endpoint, this many of those may hang at once.
THREADS = 16
MAX_ANSWER_BYTES = 16_384
# How many deliveries an endpoint may have under way, by the milliseconds its last answer took: a slow one must not
# hold up the others, and a quick one gives its threads back at once.
PACES = ((100, 12), (2000, queue.PER_ENDPOINT))
SLOWEST_PACE = 1
# How long a turn waits for answers before it looks for new work.
WAIT_SECONDS = 0.05
# Answers that come this close together are written in one commit.
TOGETHER_SECONDS = 0.01
ERASED = "erased: the person was erased, there is nothing left to send"
MASK = "v1,***"

log = logging.getLogger(__name__)


def _draw_jitter() -> float:
    return secrets.SystemRandom().uniform(-1, 1)


class Courier:
    """Takes what is due, posts it, and writes down what came of it. Belongs to one thread.

    One turn never waits for a slow endpoint: posts go on in threads of their own, and a later turn
    writes down their results, all of them in one commit together with the next leases.

    Args:
        resolver: (host, port) -> addresses; the system's if None.
        total_seconds: the most that one exchange may take, at most `queue.TOTAL_SECONDS`, which the lease covers.
        jitter: draws from -1 to 1.
    """

    def __init__(
        self,
        *,
        resolver: Resolver | None = None,
        total_seconds: float = TOTAL_SECONDS,
        jitter: Callable[[], float] = _draw_jitter,
    ) -> None:
        config: Config = current_app.extensions["signup.config"]
        self._allowance = Allowance.parse(config.outbound_allow)
        self._resolver = resolver
        self._total_seconds = min(total_seconds, TOTAL_SECONDS)
        self._jitter = jitter
        self._pool = ThreadPoolExecutor(THREADS, thread_name_prefix="post")
        self._running: set[Future[Result]] = set()
        self._finished: list[Result] = []
        self._at_once: dict[str, int] = {}

    def __call__(self, clock: Clock) -> int:
        """One turn is done: results are written, free threads have new work.

        Returns:
            How many results and new posts there were; while posts are under way never 0, which means idle.
        """
        self._collect()
        with reading() as session:
            free = THREADS - len(self._running)
            owed = queue.pick(session, now=clock(), free=free, at_once=self._at_once)
        leased: list[Owed] = []
        settled = len(self._finished)
        if owed or settled:
            with transaction() as session:
                queue.settle(session, self._finished, jitter=self._jitter(), now=clock())
                leased = queue.lease(session, owed, now=clock())
            # Only now: results whose commit failed are written with the next turn.
            self._finished.clear()
        self._running |= {self._pool.submit(self._attempt, item, clock) for item in leased}
        if self._running:
            wait(self._running, timeout=WAIT_SECONDS, return_when=FIRST_COMPLETED)
            wait(self._running, timeout=TOGETHER_SECONDS)
        return settled + len(leased) or len(owed) or len(self._running)

    def close(self, clock: Clock) -> None:
        """Nothing is under way any more, and every result is written. Takes one HTTP deadline at most."""
        self._pool.shutdown(wait=True)
        self._collect()
        if self._finished:
            with transaction() as session:
                queue.settle(session, self._finished, jitter=self._jitter(), now=clock())
            self._finished.clear()

    def _collect(self) -> None:
        done = {future for future in self._running if future.done()}
        self._running -= done
        for future in done:
            result = future.result()
            self._finished.append(result)
            took = result.milliseconds if result.status else math.inf
            pace = next((count for limit, count in PACES if took <= limit), SLOWEST_PACE)
            self._at_once[result.owed.endpoint_id] = pace

    def _attempt(self, owed: Owed, clock: Clock) -> Result:
        """One POST, in a thread of its own; whatever happens there is a result."""
        started_at, start = clock(), time.monotonic()
        if owed.body is None:
            return Result(owed, started_at, started_at, {}, error=owed.broken or ERASED)
        shown: dict[str, str] = {}
        try:
            headers = _headers(owed, owed.body, started_at)
            shown = _masked(headers)
            reply = outbound.post(
                owed.url,
                owed.body,
                headers,
                allowance=self._allowance,
                resolver=self._resolver,
                total_seconds=self._total_seconds,
                max_body=MAX_ANSWER_BYTES,
            )
        except OutboundFailed as failure:
            error = str(failure)
        except OutboundRefused as refusal:
            error = f"refused: {refusal.code}"
        except Exception as unexpected:
            # One broken delivery must not end the thread that all others need.
            log.exception("a delivery could not be posted", extra={"delivery": owed.id})
            error = f"internal: {type(unexpected).__name__}"
        else:
            return Result(
                owed,
                started_at,
                clock(),
                shown,
                milliseconds=reply.milliseconds,
                ip=reply.ip,
                status=reply.status,
                retry_after=reply.headers.get("retry-after"),
                response_body=reply.body,
            )
        return Result(
            owed, started_at, clock(), shown, milliseconds=int((time.monotonic() - start) * 1000), error=error
        )


def _headers(owed: Owed, body: bytes, at: datetime) -> dict[str, str]:
    return {"Content-Type": "application/json", **rules.sign(owed.secrets, owed.publication_id, at, body)}


def _masked(headers: Mapping[str, str]) -> dict[str, str]:
    """The headers as staff may see them: who holds body and signature could replay them."""
    masked = " ".join(MASK for _ in headers["webhook-signature"].split())
    return {**headers, "webhook-signature": masked}
