"""What happens because of what: job kinds and who runs them, and who hears of publications."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from signup.alarms import send as alarms
from signup.contacts import actions as contacts
from signup.core.config import Config
from signup.eventlog import audit, record, sealing, stamping
from signup.intake import refusals
from signup.intake.serving import Reception
from signup.jobs import Job
from signup.mail import compose, send
from signup.mail.postman import Postman
from signup.privacy import retention
from signup.subscriptions import answers, attacks, newlinks, notices, quarantine
from signup.webhooks import actions as webhooks
from signup.webhooks import send as webhooks_send

Clock = Callable[[], datetime]
Run = Callable[[Sequence[Job], Clock], None]


class Turn(Protocol):
    """One kind of work, done by one thread: a batch a call, and a tidy end."""

    def __call__(self, clock: Clock, /) -> int: ...

    def close(self, clock: Clock, /) -> None: ...


@dataclass(frozen=True)
class Kind:
    """One kind of job.

    Args:
        make: called once per worker thread; what it returns runs leased jobs, outside any transaction.
            If it has a `settle`, that is called before each claim; a `close`, when the thread ends.
        retry: in words, what happens to a job that could not be done.
        threads: how many of one worker do this kind at once.
        every_seconds: for a timed job, the pause between two runs, or what finds it in the settings.
    """

    name: str
    make: Callable[[], Run]
    retry: str
    batch: int = 1
    lease_seconds: float = 60
    threads: int = 1
    every_seconds: float | Callable[[Config], float] | None = None

    def pause(self, config: Config) -> float | None:
        """Seconds between two runs; None for a job that is not timed."""
        return self.every_seconds(config) if callable(self.every_seconds) else self.every_seconds


class MailRunner:
    """Sends mails over one connection, which it keeps until it is closed.

    What the mail server said stays here until a commit took it: forgotten, the mail would be sent again.
    """

    def __init__(self) -> None:
        self._postman = Postman()
        self._results: list[send.Result] = []
        self._clock: Clock | None = None

    def __call__(self, leased: Sequence[Job], clock: Clock) -> None:
        self._clock = clock
        send.run(leased, self._postman, clock, self._results)
        self.settle(clock)

    def settle(self, clock: Clock) -> None:
        if self._results:
            send.settle(self._results, clock, send.Heard(answers.mail_accepted, refusals.note))

    def close(self) -> None:
        self._postman.close()
        if self._clock is not None:
            self.settle(self._clock)


JOBS: tuple[Kind, ...] = (
    Kind(
        compose.JOB_SEND,
        MailRunner,
        retry="no connection: 10 s to 1 min; 4xx: 10 s to 4 h; both until the link expires; 5xx: never",
        batch=send.BATCH,
        lease_seconds=send.LEASE_SECONDS,
        threads=send.CONNECTIONS,
    ),
    Kind(refusals.JOB_APPLY, lambda: refusals.run, retry="again when its lease ends, a minute later"),
    Kind(newlinks.JOB_MAIL, lambda: newlinks.run, retry="again when its lease ends, a minute later"),
    Kind(
        retention.JOB_RUN,
        lambda: retention.run,
        retry="again when its lease ends, ten minutes later",
        lease_seconds=600,
        every_seconds=retention.EVERY_SECONDS,
    ),
    Kind(
        sealing.JOB_SEAL,
        lambda: sealing.run,
        retry="at the next run; refused while the log is damaged, which raises an alarm",
        every_seconds=sealing.pause,
    ),
    Kind(
        stamping.JOB_STAMP,
        lambda: stamping.run,
        retry="at the next run, a minute later; after an hour without a time stamp there is an alarm",
        lease_seconds=stamping.LEASE_SECONDS,
        every_seconds=stamping.EVERY_SECONDS,
    ),
    Kind(
        audit.JOB_AUDIT,
        lambda: audit.run(contacts.open_keys),
        retry="the next day, or when its lease ends after six hours",
        lease_seconds=audit.LEASE_SECONDS,
        every_seconds=audit.EVERY_SECONDS,
    ),
    Kind(
        notices.JOB_RUN,
        lambda: notices.run,
        retry="what is new stays untold until the next run, a minute later",
        lease_seconds=notices.LEASE_SECONDS,
        every_seconds=notices.EVERY_SECONDS,
    ),
    Kind(
        quarantine.JOB_WATCH,
        lambda: quarantine.run,
        retry="again when its lease ends, ten minutes later",
        lease_seconds=600,
        every_seconds=quarantine.EVERY_SECONDS,
    ),
    Kind(
        attacks.JOB_WATCH,
        lambda: attacks.run,
        retry="again when its lease ends, a minute later",
        every_seconds=attacks.EVERY_SECONDS,
    ),
    Kind(
        alarms.JOB_RUN,
        lambda: alarms.run,
        retry="each way by itself: 1 to 15 min for a week; the run itself when its lease ends",
        lease_seconds=alarms.LEASE_SECONDS,
        every_seconds=alarms.EVERY_SECONDS,
    ),
)

# Work whose rows are their own queue: deliveries that are owed, publications without a number. The last one listens.
TURNS: tuple[Callable[[], Turn], ...] = (webhooks_send.Courier, webhooks.Numbering, Reception)


def subscribe_all() -> None:
    """Every publication reaches the deliveries it owes, in the commit that made it."""
    record.subscribe(webhooks.fan_out)
