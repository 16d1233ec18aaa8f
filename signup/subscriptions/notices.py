"""Notices to staff: who is new, each soon after or in a weekly digest, with addresses shortened."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, select

from signup.contacts.models import Contact
from signup.core.db import Session, reading, transaction
from signup.core.values import EmailAddress, mask
from signup.eventlog.kinds import EventType
from signup.eventlog.models import Event
from signup.jobs import Job
from signup.mail import compose
from signup.mail.models import NoticeEvery, StaffNotice
from signup.purposes import actions as purposes

JOB_RUN = "staff.notice"
EVERY_SECONDS = 60
LEASE_SECONDS = 120
# The budget of these mails: a rush of sign-ups comes as one mail in ten minutes that names them all.
PAUSES = {NoticeEvery.EACH: timedelta(minutes=10), NoticeEvery.WEEKLY: timedelta(days=7)}
# A confirmation is written a few seconds after its own time at most; looking no nearer than this misses none.
SETTLED = timedelta(seconds=60)
NAMED = 50
GIVE_UP = timedelta(days=2)


@dataclass(frozen=True)
class Chosen:
    """What staff asked for."""

    address: str
    every: NoticeEvery
    locale: str


def choose(
    session: Session, controller_id: str, to: EmailAddress, every: NoticeEvery, locale: str, *, now: datetime
) -> None:
    """Staff at `to` hear of subscribers who confirm from now on, as often as `every` says."""
    row = session.get(StaffNotice, controller_id)
    if row is None:
        row = StaffNotice(controller_id=controller_id, told_until=now, sent_at=None)
        session.add(row)
    elif row.every is NoticeEvery.OFF:
        row.told_until = now
    row.address, row.every, row.locale = to.normalised, every, locale
    session.flush()


def chosen(session: Session, controller_id: str) -> Chosen | None:
    """What staff asked for; None when they never did."""
    row = session.get(StaffNotice, controller_id)
    return Chosen(row.address, row.every, row.locale) if row else None


def run(_leased: Sequence[Job], clock: Callable[[], datetime]) -> None:
    """Every controller whose staff want to know has a mail queued, if anybody is new and the pause is over."""
    with reading() as session:
        wanting = session.scalars(select(StaffNotice.controller_id).where(StaffNotice.every != NoticeEvery.OFF)).all()
    for controller_id in wanting:
        with transaction() as session:
            tell(session, controller_id, now=clock())


def tell(session: Session, controller_id: str, *, now: datetime) -> bool:
    """Staff have one mail queued about everybody who is new since the last one; not before the pause is over.

    Returns:
        Whether there was anything to tell.

    Rule: GDPR 5(1)(c): a mailbox of staff is no place for whole addresses.
    """
    row = session.scalars(
        select(StaffNotice).where(StaffNotice.controller_id == controller_id).with_for_update()
    ).first()
    if row is None or row.every is NoticeEvery.OFF:
        return False
    since, until = row.told_until, now - SETTLED
    if until <= since or now - (row.sent_at or since) < _pause(row):
        return False
    count, addresses = _new(session, controller_id, since, until)
    row.told_until = until
    if not count:
        return False
    row.sent_at = now
    _queue(session, row, (since, until), count, addresses, now=now)
    return True


def _pause(row: StaffNotice) -> timedelta:
    # The first of each kind of notice need not wait.
    return PAUSES[row.every] if row.sent_at or row.every is NoticeEvery.WEEKLY else timedelta()


def _new(session: Session, controller_id: str, since: datetime, until: datetime) -> tuple[int, list[str]]:
    """How many confirmed in this time, and the addresses of the first of them, shortened."""
    confirmed = (
        Event.controller_id == controller_id,
        Event.occurred_at > since,
        Event.occurred_at <= until,
        Event.kind == EventType.SUBSCRIPTION_CONFIRMED,
    )
    count = session.scalar(select(func.count()).select_from(Event).where(*confirmed)) or 0
    query = select(Contact.email).join(Event, Event.contact_id == Contact.id).where(*confirmed)
    emails = session.scalars(query.order_by(Event.occurred_at, Event.id).limit(NAMED))
    return count, [mask(email) for email in emails]


def _queue(
    session: Session,
    row: StaffNotice,
    period: tuple[datetime, datetime],
    count: int,
    addresses: Sequence[str],
    *,
    now: datetime,
) -> None:
    controller = purposes.get_controller(session, row.controller_id)
    first, last = (compose.local_time(moment, row.locale, controller.timezone) for moment in period)
    more = [f"+ {count - len(addresses)}"] if count > len(addresses) else []
    values = {"count": str(count), "period": f"{first} – {last}", "subscribers": "\r\n".join([*addresses, *more])}
    wording = compose.Wording("staff-notice", row.locale, controller, (), session.config.token_days)
    compose.queue(session, compose.Draft(None, row.address, wording, values, None, now + GIVE_UP), now=now)
