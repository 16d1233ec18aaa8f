"""Handing mails to the mail server, and what it said to each on record."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import Enum
from typing import Any

from flask import current_app
from sqlalchemy import BindParameter, bindparam, select

from signup import jobs
from signup.contacts.models import Contact
from signup.core.config import MailConfig
from signup.core.db import Session, reading, transaction
from signup.core.errors import Busy
from signup.eventlog.kinds import FIELDS, SEALED_CLASSES, EventType
from signup.eventlog.record import record
from signup.mail.blanking import blanked
from signup.mail.models import Message, MessageState
from signup.mail.outgoing import Outgoing, open_all
from signup.mail.postman import Answer, Postman, Unreachable

Clock = Callable[[], datetime]

# Handing over one mail takes milliseconds; a dead worker's mails go to another after this.
LEASE_SECONDS = 60
# After a kill, at most these come twice; more of them would save little.
BATCH = 40
# A mail is mostly waiting for the mail server. More at once than a provider allows one client would be refused.
CONNECTIONS = 3
# A server that answers "later" (4xx) is asked again after these, then every four hours until the link expires.
LATER_SECONDS = (10, 30, 60, 300, 900, 3600, 14_400)
# No connection burns no retry: after 10, 30 and 60 s, then every minute.
CONNECTION_STEPS_SECONDS = (10, 30, 60)
# An outage shorter than this mends itself unnoticed.
ALARM_AFTER = timedelta(minutes=15)
# A busy database is asked again at once: left for the next batch, results could outlive their leases.
BUSY_PAUSES_SECONDS = (0.2, 1.0)

log = logging.getLogger(__name__)


class Wait(Enum):
    """Why a mail goes another time."""

    CONNECTION = "connection"  # nobody could be talked to
    LEASE = "lease"  # ours would not have lasted
    ERROR = "error"  # our own mistake


@dataclass(frozen=True)
class Result:
    """What became of one leased mail. Without `item` the mail was not queued any more."""

    job: jobs.Job
    item: Outgoing | None
    answer: Answer | None = None
    wait: Wait | None = None
    error: str = ""


def run(leased: Sequence[jobs.Job], postman: Postman, clock: Clock, results: list[Result]) -> None:
    """Each leased mail was handed over, or there is a reason why not; `results` has one more for each.

    Args:
        results: those that are not written yet come first; a mail among them is not handed over again.
    """
    kept = {result.job.id: position for position, result in enumerate(results)}
    for job in leased:
        if job.id in kept:
            # The lease under which it was handed over has ended, and the job has come back to us.
            results[kept[job.id]] = replace(results[kept[job.id]], job=job)
    with reading() as session:
        mails, lease_end = open_all(session, [job for job in leased if job.id not in kept], now=clock())
    settings: MailConfig = current_app.extensions["signup.config"].mail
    last_start = lease_end - timedelta(seconds=settings.timeout_seconds)
    stopped: tuple[Wait, str] | None = None
    tried = False
    for job, item in mails:
        if item is None or item.stop or item.broken:
            results.append(Result(job, item))
            continue
        # The first goes in any case: with a very long time limit nothing would ever go otherwise.
        if not stopped and tried and clock() >= last_start:
            stopped = (Wait.LEASE, "")
        result = Result(job, item, None, *stopped) if stopped else _hand_over(postman, job, item)
        tried = True
        if result.wait is Wait.CONNECTION:
            stopped = (Wait.CONNECTION, result.error)
        results.append(result)


def _hand_over(postman: Postman, job: jobs.Job, item: Outgoing) -> Result:
    try:
        return Result(job, item, postman.hand_over(item.sender, item.recipient, item.raw))
    except Unreachable as failure:
        return Result(job, item, wait=Wait.CONNECTION, error=str(failure))
    except Exception as unexpected:
        # Nobody knows where the dialogue stands. The error's text may repeat the address.
        postman.close()
        name = type(unexpected).__name__
        log.error("a mail could not be handed over", extra={"mail": item.message_id, "error": name})
        return Result(job, item, wait=Wait.ERROR, error=f"internal: {name}")


@dataclass(frozen=True)
class Heard:
    """Who is told what the mail server said, in the commit that records it."""

    accepted: Callable[[Session, str | None, datetime], None]  # the confirmation's id
    refused: Callable[[Session, Outgoing, Answer, datetime], None]


def settle(results: list[Result], clock: Clock, heard: Heard) -> None:
    """Every result is written and `results` is empty; what could not be written is still in it.

    Raises:
        Busy: the database did not take them in time; nothing was written.
    """
    pauses = list(BUSY_PAUSES_SECONDS)
    while results:
        try:
            _write(results, clock, heard)
            results.clear()
        except Busy:
            if not pauses:
                raise
            time.sleep(pauses.pop(0))
        except Exception:
            _write_each(results, clock, heard)
            return


def _write_each(results: list[Result], clock: Clock, heard: Heard) -> None:
    """One that cannot be written must not hold back the others."""
    for result in tuple(results):
        try:
            _write([result], clock, heard)
        except Exception:
            log.exception("the result of a mail could not be written", extra={"job": result.job.id})
        else:
            results.remove(result)


def _write(results: Sequence[Result], clock: Clock, heard: Heard) -> None:
    with transaction() as session:
        now = clock()
        held = _still_ours(session, results)
        there = _still_there(session, held)
        for result in held:
            item = result.item
            erased = item and item.subject and item.subject.contact_id not in there
            known = replace(result, item=replace(item, subject=None)) if item and erased else result
            _settle(session, known, heard, now=now)


def _still_ours(session: Session, results: Sequence[Result]) -> list[Result]:
    """Those whose job nobody else took; nobody can before the commit."""
    rows = session.execute(_LEASES, {"ids": [result.job.id for result in results]})
    tokens = {row.id: row.lease_token for row in rows}
    held = [result for result in results if tokens.get(result.job.id) == result.job.lease_token]
    if len(held) < len(results):
        log.warning("leases of mails passed to another worker", extra={"mails": len(results) - len(held)})
    return held


def _still_there(session: Session, results: Sequence[Result]) -> set[str]:
    """The persons who are not erased; none of them can be before the commit."""
    subjects = {result.item.subject.contact_id for result in results if result.item and result.item.subject}
    return set(session.scalars(_PERSONS, {"ids": sorted(subjects)}))


# Built once: building them for each batch would cost more than the database does.
_IDS: BindParameter[list[str]] = bindparam("ids", expanding=True)
_LEASES = (
    select(jobs.JobRow.id, jobs.JobRow.lease_token)
    .where(jobs.JobRow.id.in_(_IDS))
    .order_by(jobs.JobRow.id)
    .with_for_update()
)
_PERSONS = (
    select(Contact.id).where(Contact.id.in_(_IDS)).order_by(Contact.id).with_for_update(read=True, key_share=True)
)


def _settle(session: Session, result: Result, heard: Heard, *, now: datetime) -> None:
    job, item, answer = result.job, result.item, result.answer
    if item is None:
        jobs.finish(session, [job])
    elif item.broken:
        _failed(session, item, {"reason": item.broken}, {"reason": item.broken}, now=now)
        jobs.bury(session, job, error=item.broken)
    elif item.stop:
        session.change(Message, {"id": item.message_id}, {"state": MessageState.CANCELLED, "reason": item.stop})
        jobs.finish(session, [job])
    elif answer is None:
        _wait(session, result, now=now)
    elif answer.accepted:
        _accepted(session, item, answer, now=now)
        heard.accepted(session, item.confirmation_id, now)
        jobs.finish(session, [job])
    elif answer.final:
        reply = {"reason": answer.short, "smtp_reply": answer.short}
        _failed(session, item, reply, _evidence(item, answer), now=now)
        heard.refused(session, item, answer, now)
        jobs.finish(session, [job])
    else:
        jobs.retry(session, job, at=_later(job, now=now), error=answer.short)


def _wait(session: Session, result: Result, *, now: datetime) -> None:
    job, error = result.job, result.error[:500]
    if result.wait is Wait.ERROR:
        jobs.retry(session, job, at=_later(job, now=now), error=error)
    elif result.wait is Wait.LEASE:
        jobs.retry(session, job, at=now, error=error, burns_attempt=False)
    else:
        _raise_alarm(job, error, now=now)
        jobs.retry(session, job, at=_next_connection(job, now=now), error=error, burns_attempt=False)


def _later(job: jobs.Job, *, now: datetime) -> datetime:
    return now + timedelta(seconds=LATER_SECONDS[min(job.attempt, len(LATER_SECONDS)) - 1])


def _raise_alarm(job: jobs.Job, error: str, *, now: datetime) -> None:
    age = now - job.created_at
    if age > ALARM_AFTER:
        minutes = int(age.total_seconds() // 60)
        log.error("mail has been waiting for the mail server", extra={"minutes": minutes, "error": error})


def _next_connection(job: jobs.Job, *, now: datetime) -> datetime:
    """Soon while the outage is young; the age of the job is the age of the outage at most."""
    age = (now - job.created_at).total_seconds()
    step = next((step for step in CONNECTION_STEPS_SECONDS if age < step), CONNECTION_STEPS_SECONDS[-1])
    return now + timedelta(seconds=step)


def _evidence(item: Outgoing, answer: Answer) -> dict[str, Any]:
    settings: MailConfig = current_app.extensions["signup.config"].mail
    return {"recipient": item.recipient, "smtp_server": settings.server, "smtp_reply": answer.full}


def _kept(item: Outgoing) -> dict[str, Any]:
    """What stays of a mail's bytes: nobody has to prove what was written to staff."""
    return {} if item.subject else {"sealed": None}


def _accepted(session: Session, item: Outgoing, answer: Answer, *, now: datetime) -> None:
    values = {"state": MessageState.ACCEPTED, "smtp_reply": answer.short, "accepted_at": now, **_kept(item)}
    session.change(Message, {"id": item.message_id}, values)
    evidence = _evidence(item, answer)
    if item.confirmation_id is not None:
        # So that the mail can be shown, and checked, while its links still act.
        evidence["mail_blanked_sha256"] = hashlib.sha256(blanked(item.raw)).hexdigest()
    _record(session, item, EventType.MAIL_ACCEPTED, evidence, now=now)


def _failed(
    session: Session, item: Outgoing, values: dict[str, Any], evidence: dict[str, Any], *, now: datetime
) -> None:
    session.change(Message, {"id": item.message_id}, {"state": MessageState.FAILED, **values, **_kept(item)})
    _record(session, item, EventType.MAIL_FAILED, evidence, now=now)


def _record(session: Session, item: Outgoing, kind: EventType, evidence: dict[str, Any], *, now: datetime) -> None:
    fields = {
        "message_id": item.header_id,
        "mail_sha256": item.sha256,
        "confirmation": item.confirmation_id,
        **evidence,
    }
    if item.subject is None:
        # The person was erased while the mail was under way, and there is no key left to seal anything with.
        fields = {name: value for name, value in fields.items() if FIELDS[name] not in SEALED_CLASSES}
    record(session, item.controller_id, kind, fields, now=now, subject=item.subject)
