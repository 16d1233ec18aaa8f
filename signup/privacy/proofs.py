"""The proof of a consent that ended long ago: when nobody can ask for it any more, it goes with the person."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import ColumnElement, and_, exists, false, func, or_, select, text

from signup.consents.models import ContactUse
from signup.contacts import holds
from signup.contacts.models import Contact
from signup.core.config import Config
from signup.core.db import Session
from signup.eventlog.kinds import EventType
from signup.eventlog.record import publish, record
from signup.purposes.models import LegalBasis
from signup.subscriptions.models import ONCE_ACTIVE, Subscription

# Five years from each use, and a day or two on the safe side: §7a(2) UWG.
PHONE_KEPT = timedelta(days=5 * 366)


def over(config: Config, *, now: datetime) -> ColumnElement[bool]:
    """Subscriptions whose proof nobody needs any more: full calendar years after they ended and were used last.

    Whom we know for another reason than consent stays, and so does a person under a hold.

    Rule: GDPR 17(3)(e); §§195, 199 BGB, claims lapse three years after the end of the year; §7a(2) UWG for calls.
    """
    if not config.proof_years:
        return false()
    years_over = datetime(now.year - config.proof_years, 1, 1, tzinfo=UTC)
    only_consent = exists().where(
        Contact.id == Subscription.contact_id, Contact.legal_basis == LegalBasis.CONSENT.value
    )
    used = exists().where(
        ContactUse.contact_id == Subscription.contact_id,
        or_(
            ContactUse.last_used_at >= years_over,
            and_(ContactUse.channel == "phone", ContactUse.last_used_at >= now - PHONE_KEPT),
        ),
    )
    long_ended = and_(text(ONCE_ACTIVE), Subscription.ended_at < years_over)
    return and_(long_ended, only_consent, ~used, ~holds.is_held(Subscription.contact_id))


def count(session: Session, *, now: datetime) -> int:
    """How many persons are over."""
    return session.scalar(select(func.count()).select_from(Subscription).where(over(session.config, now=now))) or 0


def tell_erased(session: Session, controller_id: str, contact_id: str, *, now: datetime) -> None:
    """Every recipient is told to forget the person too; they learn the id, and nothing else.

    Rule: GDPR 19.
    """
    event_id = record(session, controller_id, EventType.CONTACT_ERASED, {"reason": "retention"}, now=now)
    data = {"contact": {"id": contact_id, "external_ids": {}}}
    publish(session, controller_id, "contact.erased", data, now=now, event_id=event_id)
