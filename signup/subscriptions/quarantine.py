"""Mails of a form under attack: they wait until staff release or discard them, for a day at most."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import case, func, select, update

from signup import jobs
from signup.abuse import flows
from signup.abuse.models import Flow
from signup.contacts import holds
from signup.core.db import Session, reading, transaction, upsert
from signup.core.values import OPERATOR
from signup.eventlog.kinds import EventType
from signup.eventlog.record import record
from signup.forms.rules import FormView
from signup.jobs import Job
from signup.mail.compose import JOB_SEND, QUARANTINED
from signup.mail.models import Message, MessageState
from signup.subscriptions.models import Confirmation
from signup.subscriptions.states import ConfirmationState

JOB_WATCH = "abuse.watch"
EVERY_SECONDS = 600
# Whoever was meant has forgotten by then that they asked.
KEPT = timedelta(hours=24)
DISCARDED = "discarded after an attack"
TOO_LATE = "discarded: nobody released it within a day"
BATCH = 200
CANCELLED_AT_ONCE = 5000
_QUIET = {"synchronize_session": False}


def release(session: Session, view: FormView, *, now: datetime) -> int:
    """The waiting mails of the form go out: to each person the newest, if its question is still open.

    The caps were drawn on when they were made, so nobody gets more than they allow.

    Returns:
        How many.
    """
    rows = session.execute(
        select(Message.id, Message.contact_id, Confirmation.state, Message.give_up_at)
        .join(Confirmation, Confirmation.id == Message.confirmation_id)
        .where(QUARANTINED, Confirmation.form_id == view.id)
        .order_by(Message.id)
        .with_for_update(of=Message)
    ).all()
    newest = {row.contact_id: row for row in rows}
    going = [row.id for row in newest.values() if row.state is ConfirmationState.OPEN and now < row.give_up_at]
    for ident in going:
        session.change(Message, {"id": ident}, {"state": MessageState.QUEUED, "reason": None})
        jobs.enqueue(session, JOB_SEND, {"message": ident}, now=now)
    _cancel(session, sorted({row.id for row in rows} - set(going)), DISCARDED)
    _record(session, view.controller.id, EventType.MAILS_RELEASED, view.slug, len(going), now=now)
    return len(going)


def discard(session: Session, view: FormView, *, now: datetime) -> int:
    """The waiting mails of the form never go out. Whoever meant it signs up again.

    Returns:
        How many.
    """
    ours = select(Confirmation.id).where(Confirmation.form_id == view.id)
    waiting = select(Message.id).where(QUARANTINED, Message.confirmation_id.in_(ours)).order_by(Message.id)
    rows = session.scalars(waiting.with_for_update()).all()
    _cancel(session, rows, DISCARDED)
    _record(session, view.controller.id, EventType.MAILS_DISCARDED, view.slug, len(rows), now=now)
    return len(rows)


def _cancel(session: Session, message_ids: Sequence[str], reason: str) -> None:
    # What would have been sent is kept of nobody but a person whose data is on hold.
    kept = case((holds.is_held(Message.contact_id), Message.sealed), else_=None)
    # A statement takes some ten thousand ids, an attack makes more.
    for start in range(0, len(message_ids), CANCELLED_AT_ONCE):
        gone = update(Message).where(Message.id.in_(message_ids[start : start + CANCELLED_AT_ONCE]))
        session.execute(
            gone.values(state=MessageState.CANCELLED, reason=reason, sealed=kept).execution_options(**_QUIET)
        )


def _record(
    session: Session, controller_id: str, kind: EventType, slug: str | None, count: int, *, now: datetime
) -> None:
    if count:
        record(session, controller_id, kind, {"form": slug, "rows": count}, now=now, actor=OPERATOR)


def run(_leased: Sequence[Job], clock: Callable[[], datetime]) -> None:
    """What nobody released within a day is discarded, and busy forms have their usual hour on record."""
    while _discard_old(clock()):
        pass
    _learn(clock())


def _discard_old(now: datetime) -> int:
    old = select(Message.id, Message.controller_id).where(QUARANTINED, Message.created_at <= now - KEPT).limit(BATCH)
    with reading() as session:
        if not session.execute(old.limit(1)).first():
            return 0
    with transaction() as session:
        # What staff release at this moment is no longer among them.
        rows = session.execute(old.order_by(Message.id).with_for_update()).all()
        _cancel(session, [row.id for row in rows], TOO_LATE)
        for controller_id in sorted({row.controller_id for row in rows}):
            count = sum(row.controller_id == controller_id for row in rows)
            _record(session, controller_id, EventType.MAILS_DISCARDED, None, count, now=now)
    return len(rows)


def _learn(now: datetime) -> None:
    """Forms and controllers that are busy this hour know what is usual for them, for this hour and the next."""
    hour = flows.hour_of(now)
    known = select(Flow.key).where(Flow.hour == hour + 1)
    # Only what is learned from is kept for longer than hours.
    lasting = now + timedelta(days=1)
    busy = select(Flow.key).where(Flow.hour == hour, Flow.expires_at > lasting, Flow.key.not_in(known))
    with reading() as session:
        usual = {key: _median(session, key, hour) for key in session.scalars(busy).all()}
    if not usual:
        return
    with transaction() as session:
        for key, number in sorted(usual.items()):
            for at in (hour, hour + 1):
                row = {"key": key, "hour": at, "count": 0, "usual": number, "expires_at": flows.expiry(at, learns=True)}
                session.execute(upsert(session, Flow, row, on=["key", "hour"], update={"usual": number}))


def _median(session: Session, key: bytes, hour: int) -> int:
    """The median of the hours before this one that had any sign-up."""
    past = select(Flow.count).where(Flow.key == key, Flow.hour < hour, Flow.count > 0)
    return int(statistics.median(session.scalars(past).all() or [0]))


def waiting(session: Session) -> list[tuple[str, int]]:
    """Forms with mails that wait for somebody to look: id, and how many."""
    rows: Sequence[Any] = session.execute(
        select(Confirmation.form_id, func.count())
        .join(Message, Message.confirmation_id == Confirmation.id)
        .where(QUARANTINED)
        .group_by(Confirmation.form_id)
    ).all()
    return [(form_id, count) for form_id, count in rows]
