"""What a report does: whom it is about, what it counts for, and that it counts once."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, select, update

from signup.contacts import actions as contacts
from signup.contacts.models import Contact
from signup.core import plus
from signup.core.db import Session, affected, upsert
from signup.core.errors import NotFound
from signup.core.values import SYSTEM, new_id
from signup.eventlog.kinds import FIELDS, SEALED_CLASSES, EventType
from signup.eventlog.record import Subject, record
from signup.intake.kinds import Kind, Outcome, Way
from signup.intake.models import InboundReport
from signup.intake.reports import Report
from signup.mail import returns
from signup.mail.models import Message
from signup.subscriptions import endings
from signup.subscriptions.models import Subscription
from signup.subscriptions.states import EndReason

# As long as soft bounces are counted, what was seen is known again, and what could not be read waits for somebody.
KEPT = timedelta(days=30)
# Enough to see what it is.
MAX_KEPT_BYTES = 64 * 1024
# Whoever floods us fills no disk: of more than these a day only the row is kept.
MAX_KEPT_A_DAY = 1000
MAIL_WAY = "mailto"

_EVENTS = {
    Kind.HARD: EventType.MAIL_BOUNCED,
    Kind.SOFT: EventType.MAIL_BOUNCED,
    Kind.DELAYED: EventType.MAIL_DELAYED,
    Kind.COMPLAINT: EventType.MAIL_COMPLAINED,
    Kind.UNSUBSCRIBE: EventType.MAIL_RECEIVED,
}
# What needs somebody's eyes, and so keeps its bytes.
_UNUSED = (Outcome.UNKNOWN, Outcome.WAITING)


@dataclass(frozen=True)
class Arrival:
    """One thing that came in.

    Args:
        own_id: what its sender calls it; the same one again counts once.
    """

    way: Way
    raw: bytes
    report: Report
    own_id: str


@dataclass(frozen=True)
class Taken:
    """What became of it."""

    id: str
    kind: Kind
    outcome: Outcome
    repeated: bool = False


@dataclass(frozen=True)
class _About:
    """Whom a report is about: one of our mails, or the subscription behind an address of ours."""

    controller_id: str | None = None
    contact_id: str | None = None
    header_id: str | None = None
    link: bytes | None = None


def own_id(raw: bytes, recipients: Sequence[str]) -> str:
    """What a mail is known by: its content without what each mail server on its way puts before it.

    Args:
        recipients: of the envelope: the same bytes to another address are another mail.
    """
    head, _, body = raw.replace(b"\r\n", b"\n").partition(b"\n\n")
    lines = [line for line in head.split(b"\n") if line.lower().startswith((b"message-id:", b"date:", b"from:"))]
    content = b"\n".join([*sorted(lines), b"", body.strip() if lines else raw])
    names = ",".join(sorted(recipient.lower() for recipient in recipients))
    return hashlib.sha256(content).hexdigest() + names


def take(session: Session, controller_id: str | None, arrival: Arrival, *, now: datetime) -> Taken:
    """The report has its effect, or is kept for the operator, and is never taken a second time.

    Args:
        controller_id: only mails of this controller may be meant; None for what reaches the whole service.

    Rule: GDPR 7(3) for mails that unsubscribe and complaints; RFC 3464, RFC 5965.
    """
    key = hashlib.sha256(f"{controller_id or ''}|{arrival.own_id}".encode()).digest()
    known = session.execute(
        select(InboundReport.id, InboundReport.kind, InboundReport.outcome).where(InboundReport.key == key)
    ).first()
    if known:
        return Taken(known.id, known.kind, known.outcome, repeated=True)
    report = arrival.report
    about = _about(session, controller_id, report)
    if report.kind is Kind.UNSUBSCRIBE and about.link is None and not report.message_ids:
        report, about = _no_order(session, report), _About(controller_id)
    # The person first: what is read and written from here on is true of somebody who is not being erased meanwhile.
    person = _person(session, about)
    ident = new_id("rpt", now)
    row = {
        "id": ident,
        "key": key,
        "controller_id": about.controller_id or controller_id,
        "contact_id": person.subject.contact_id if person.subject else None,
        "way": arrival.way,
        "kind": report.kind,
        "outcome": Outcome.RECORDED,
        "reason": report.reason or None,
        "sealed": None,
        "received_at": now,
        "expires_at": now + KEPT,
    }
    # Two processes may get the same one at once; the second waits here, and then finds it done.
    insert = upsert(session, InboundReport, row, on=["key"], update={"key": InboundReport.key})
    stored = session.execute(insert.returning(InboundReport.id, InboundReport.kind, InboundReport.outcome)).one()
    if stored.id != ident:
        return Taken(stored.id, stored.kind, stored.outcome, repeated=True)
    outcome = _apply(session, replace(arrival, report=report), about, person, now=now)
    values = {"outcome": outcome, "sealed": _kept(session, arrival.raw, now=now) if outcome in _UNUSED else None}
    session.execute(update(InboundReport).where(InboundReport.id == ident).values(**values).execution_options(**_QUIET))
    return Taken(ident, report.kind, outcome)


_QUIET = {"synchronize_session": False}


def _no_order(session: Session, report: Report) -> Report:
    """A mail from somebody to one of our mailboxes that orders nothing we know."""
    mailbox = session.config.intake.unsubscribe_mailbox
    if mailbox and any(_is_ours(address, mailbox) for address in report.addresses):
        return replace(report, reason="unsubscribes by a token that was never given out")
    return replace(report, kind=Kind.UNREADABLE, reason="neither a report nor a mail that unsubscribes")


def _is_ours(address: str, mailbox: str) -> bool:
    return plus.is_mailbox(address, mailbox) or plus.token_in(address, mailbox) is not None


def _about(session: Session, controller_id: str | None, report: Report) -> _About:
    """Decided by tokens and ids that only our own mails have; what a report claims of the address decides nothing."""
    config = session.config.intake
    if report.kind is Kind.UNSUBSCRIBE and config.unsubscribe_mailbox:
        for link in _orders(report, config.unsubscribe_mailbox):
            found = endings.behind_link(session, link, lock=False)
            if found and controller_id in (None, found[0].subscription.controller_id):
                held = found[0].subscription
                return _About(held.controller_id, held.contact_id, link=link)
    tokens = [plus.token_in(address, config.bounce_address) for address in report.addresses if config.bounce_address]
    idents = [ident for token in tokens if token and (ident := returns.message_behind(session, token))]
    for named in (Message.id.in_(idents), Message.message_id.in_(report.message_ids)):
        query = select(Message.controller_id, Message.contact_id, Message.message_id).where(named)
        if controller_id is not None:
            query = query.where(Message.controller_id == controller_id)
        row = session.execute(query.order_by(Message.id.desc()).limit(1)).first()
        if row:
            return _About(*row)
    return _About()


def _orders(report: Report, mailbox: str) -> Iterable[bytes]:
    """The ids behind tokens of the address or, for mailboxes that know no plus sign, of the subject."""
    words = [plus.token_in(address, mailbox) for address in report.addresses]
    words += report.subject.lower().split()[:10]
    for word in words:
        ident = plus.unspelled(word) if word else None
        if ident:
            yield ident


@dataclass(frozen=True)
class _Person:
    """Who it is about, as far as we still know them."""

    subject: Subject | None = None
    order: endings.Order | None = None


def _person(session: Session, about: _About) -> _Person:
    """The person with their subscription, ours until the commit; empty when they are erased."""
    ours = select(Contact.id).where(Contact.id == about.contact_id).with_for_update()
    if about.contact_id is None or session.scalar(ours) is None:
        return _Person()
    subject = Subject(about.contact_id, contacts.open_key(session, about.contact_id))
    ident = session.scalar(select(Subscription.id).where(Subscription.contact_id == about.contact_id))
    return _Person(subject, endings.load(session, ident, controller_id=about.controller_id) if ident else None)


def _apply(session: Session, arrival: Arrival, about: _About, person: _Person, *, now: datetime) -> Outcome:
    kind = arrival.report.kind
    if kind is Kind.IGNORED:
        return Outcome.IGNORED
    if kind in (Kind.UNREADABLE, Kind.CONFIRMATION):
        return Outcome.WAITING
    if about.controller_id is None or (kind is Kind.UNSUBSCRIBE and about.contact_id is None):
        return Outcome.UNKNOWN
    _record(session, about, arrival, person, now=now)
    if person.order is None:
        return Outcome.RECORDED
    if _end(session, arrival, about, person.order, now=now):
        return Outcome.ENDED
    return Outcome.COUNTED if kind is Kind.SOFT else Outcome.RECORDED


def _record(session: Session, about: _About, arrival: Arrival, person: _Person, *, now: datetime) -> None:
    report = arrival.report
    fields: dict[str, Any] = {
        "message_id": about.header_id,
        "method": arrival.way.value,
        "reason": report.kind.value,
        "smtp_status": report.status or None,
        "smtp_reply": report.diagnostic or None,
        "recipient": report.recipient or None,
        "report": report.text or None,
        "report_sha256": hashlib.sha256(arrival.raw).hexdigest(),
        "subscription": person.order.subscription.id if person.order else None,
    }
    if person.subject is None:
        fields = {name: value for name, value in fields.items() if FIELDS[name] not in SEALED_CLASSES}
    record(session, about.controller_id, _EVENTS[report.kind], fields, now=now, subject=person.subject)


def _end(session: Session, arrival: Arrival, about: _About, order: endings.Order, *, now: datetime) -> bool:
    kind = arrival.report.kind
    if kind is Kind.UNSUBSCRIBE:
        return _unsubscribe(session, arrival.way, about, order, now=now)
    if kind is Kind.COMPLAINT:
        return _ended(session, order, EndReason.COMPLAINED, "complaint", now=now)
    gone = kind is Kind.HARD and not _got_a_later_one(session, about, order)
    often = kind is Kind.SOFT and _soft_bounces(session, order, now=now) >= session.config.intake.soft_bounces
    if not gone and not often:
        return False
    return _ended(session, order, EndReason.BOUNCED, "bounce" if gone else "soft-bounces", now=now)


def _ended(session: Session, order: endings.Order, reason: EndReason, by: str, *, now: datetime) -> bool:
    return endings.end(session, order, endings.Ending(reason, by), client=None, actor=SYSTEM, now=now)


def _unsubscribe(session: Session, way: Way, about: _About, order: endings.Order, *, now: datetime) -> bool:
    """As the https link of the same header would: all of it, or the one topic."""
    ending = endings.Ending(EndReason.UNSUBSCRIBED, MAIL_WAY if about.link else way.value)
    found = endings.behind_link(session, about.link) if about.link else (order, None)
    if found is None:
        return False
    order, scope = found
    if scope is not None:
        return endings.end_topic(session, order, scope, ending, client=None, now=now)
    return endings.end(session, order, ending, client=None, now=now)


def _got_a_later_one(session: Session, about: _About, order: endings.Order) -> bool:
    """Whether the person confirmed by a mail that went out after the one that bounced: the mailbox is there again."""
    activated = order.subscription.activated_at
    if activated is None or about.header_id is None:
        return False
    sent = select(Message.created_at).where(Message.message_id == about.header_id).scalar_subquery()
    later = select(func.count()).where(
        Message.contact_id == about.contact_id, Message.created_at > sent, Message.created_at <= activated
    )
    return bool(session.scalar(later))


def _soft_bounces(session: Session, order: endings.Order, *, now: datetime) -> int:
    """How many there were lately, this one included."""
    row = InboundReport
    query = select(func.count()).where(
        row.contact_id == order.subject.contact_id, row.kind == Kind.SOFT, row.received_at > now - KEPT
    )
    return session.scalar(query) or 0


def _kept(session: Session, raw: bytes, *, now: datetime) -> bytes | None:
    row = InboundReport
    since = now - timedelta(days=1)
    today = select(func.count()).where(row.outcome.in_(_UNUSED), row.received_at > since)
    if (session.scalar(today) or 0) >= MAX_KEPT_A_DAY:
        return None
    return session.keys.seal_own(raw[:MAX_KEPT_BYTES])


@dataclass(frozen=True)
class Waiting:
    """A report that nobody could use."""

    id: str
    way: Way
    kind: Kind
    reason: str
    received_at: datetime


def waiting(session: Session, *, limit: int = 1000) -> list[Waiting]:
    """What could not be used, oldest first, over all controllers."""
    row = InboundReport
    query = select(row.id, row.way, row.kind, func.coalesce(row.reason, ""), row.received_at)
    found = query.where(row.outcome.in_(_UNUSED)).order_by(row.received_at, row.id).limit(limit)
    return [Waiting(*line) for line in session.execute(found)]


def raw_of(session: Session, report_id: str, *, kind: Kind | None = None) -> bytes:
    """The first bytes of a report that could not be used, as they came.

    Args:
        kind: it must be of this kind.

    Raises:
        NotFound: there is none, or it was one of too many to be kept.
    """
    query = select(InboundReport.sealed).where(InboundReport.id == report_id)
    sealed = session.scalar(query if kind is None else query.where(InboundReport.kind == kind))
    if sealed is None:
        raise NotFound(f"No bytes are kept of {report_id}.")
    return session.keys.unseal_own(sealed)


def drop(session: Session, report_id: str | None = None) -> int:
    """The report, or without an id each that could not be used, is seen to: its bytes are gone.

    Returns:
        How many there were.
    """
    row = InboundReport
    change = update(row).where(row.outcome.in_(_UNUSED)).values(outcome=Outcome.DONE, sealed=None)
    if report_id is not None:
        change = change.where(row.id == report_id)
    return affected(session.execute(change.execution_options(**_QUIET)))


def unreadable(session: Session) -> int:
    """How many wait for the operator because they make no sense."""
    row = InboundReport
    query = select(func.count()).where(row.outcome == Outcome.WAITING, row.kind == Kind.UNREADABLE)
    return session.scalar(query) or 0


def forget(session: Session, contact_ids: Sequence[str]) -> None:
    """No report says any longer that it was about these persons."""
    row = InboundReport
    change = update(row).where(row.contact_id.in_(list(contact_ids))).values(contact_id=None)
    session.execute(change.execution_options(**_QUIET))
