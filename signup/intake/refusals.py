"""A mail that the mail server refused at once because there is no such address: a bounce without a letter."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime

from signup import jobs
from signup.core.db import Session, transaction
from signup.intake import actions
from signup.intake.actions import Arrival
from signup.intake.kinds import Kind, Way
from signup.intake.reports import Report, bounce_kind
from signup.mail.outgoing import Outgoing
from signup.mail.postman import Answer

JOB_APPLY = "mail.refused"


def note(session: Session, item: Outgoing, answer: Answer, now: datetime) -> None:
    """What the refusal leads to is due, unless it says nothing of the address.

    Apart from the commit that records the hand-over: that one holds many mails, and ending a subscription
    needs its person first.
    """
    _, _, status = answer.short.partition(" ")
    if item.subject and status.startswith("5.") and bounce_kind(status) is Kind.HARD:
        about = {"controller_id": item.controller_id, "header_id": item.header_id, "answer": answer.short}
        jobs.enqueue(session, JOB_APPLY, about, now=now)


def run(leased: Sequence[jobs.Job], clock: Callable[[], datetime]) -> None:
    """Each refusal had the effect of a bounce, once."""
    for job in leased:
        header_id, answer = job.payload["header_id"], job.payload["answer"]
        status = answer.partition(" ")[2]
        report = Report(Kind.HARD, message_ids=(header_id,), status=status, diagnostic=answer)
        arrival = Arrival(Way.HAND_OVER, answer.encode(), report, own_id=header_id)
        with transaction() as session:
            actions.take(session, job.payload["controller_id"], arrival, now=clock())
            jobs.finish(session, [job])
