"""Contacts that somebody else enters: with origin and legal basis, or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from signup.contacts import actions as contacts
from signup.contacts.actions import ContactView, NewContact
from signup.contacts.models import Contact
from signup.core.db import Session
from signup.core.errors import Conflict, Invalid
from signup.core.values import Actor, ClientInfo, EmailAddress, rfc3339
from signup.eventlog.kinds import EventType
from signup.eventlog.record import Subject, client_fields, publish, record
from signup.purposes.models import LegalBasis
from signup.suppression import actions as suppression


def refuse_suppressed(session: Session, controller_id: str, email: EmailAddress, *, now: datetime) -> None:
    """Raise when the address must not come back by any way but its owner's own sign-up.

    Raises:
        Conflict: with the reason.

    Rule: GDPR 21(3), 17(1): what somebody refused is not entered again by others.
    """
    reason = suppression.covering(session, controller_id, contacts.address_key(session, controller_id, email), now=now)
    if reason is not None:
        raise Conflict(
            f"This address is suppressed ({reason.value}). Only its owner can come back, by signing up on a form.",
            code="suppressed",
            details={"reason": reason.value},
        )


def create(
    session: Session, controller_id: str, new: NewContact, *, client: ClientInfo, actor: Actor, now: datetime
) -> ContactView:
    """The contact exists with its origin and legal basis, and the outside is told.

    Raises:
        Invalid: consent is a basis that only the person can give.
        Conflict: the address is suppressed, or there is such a contact already.

    Rule: GDPR 5(1)(a) and 14(2)(f), where the data came from; GDPR 6(1).
    """
    if new.legal_basis is LegalBasis.CONSENT:
        error = {
            "field": "legal_basis",
            "code": "needs-confirmation",
            "message": "Consent is asked for with POST /api/v1/subscriptions, which mails the person.",
        }
        raise Invalid("Only the person can give consent.", errors=[error])
    refuse_suppressed(session, controller_id, new.email, now=now)
    found = contacts.find_or_add(session, controller_id, new, now=now)
    if not found.fresh:
        raise Conflict(
            "There is such a contact already.", code="contact-exists", details={"contact_id": found.contact_id}
        )
    tell_created(session, controller_id, found.subject, new, client=client, actor=actor, now=now)
    return contacts.get(session, controller_id, found.contact_id)


def tell_created(
    session: Session,
    controller_id: str,
    subject: Subject,
    new: NewContact,
    *,
    client: ClientInfo,
    actor: Actor,
    now: datetime,
) -> None:
    """It is on record, and told to the outside, that this contact came in without having to confirm."""
    facts = {"origin": dict(new.origin), "legal_basis": new.legal_basis.value}
    fields = {"email": new.email.typed, "locale": new.locale, **facts, **late(new.origin, now=now)}
    fields |= client_fields(client)
    event_id = record(session, controller_id, EventType.CONTACT_CREATED, fields, now=now, subject=subject, actor=actor)
    data = {**_shown(subject.contact_id, new.email.normalised, {}), **facts}
    publish(session, controller_id, "contact.created", data, now=now, event_id=event_id, subject=subject)


def late(origin: Mapping[str, Any], *, now: datetime) -> dict[str, Any]:
    """What the evidence says of something that came about before it was told: when, as we are told, and sealed when.

    The seal proves that we were told, and when; it must never read as if it proved the grant itself.
    """
    return {"granted_at": origin.get("collected_at"), "sealed_late": rfc3339(now)}


def change_locale(
    session: Session, controller_id: str, contact_id: str, locale: str, *, actor: Actor, now: datetime
) -> ContactView:
    """The contact is written to in this language.

    Raises:
        NotFound: this controller holds no such contact.
    """
    contacts.take(session, contact_id)
    before = contacts.get(session, controller_id, contact_id)
    if before.locale == locale:
        return before
    changes = {"locale": locale, "version": before.version + 1, "updated_at": now}
    session.change(Contact, {"id": contact_id}, changes)
    subject = Subject(contact_id, contacts.open_key(session, contact_id))
    fields = {"locale": locale}
    event_id = record(session, controller_id, EventType.CONTACT_UPDATED, fields, now=now, subject=subject, actor=actor)
    data = {**_shown(contact_id, before.email, before.fields), "locale": locale}
    publish(session, controller_id, "contact.updated", data, now=now, event_id=event_id, subject=subject)
    return contacts.get(session, controller_id, contact_id)


def _shown(contact_id: str, email: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "contact": {"id": contact_id, "email": email, "external_ids": {}, "fields": dict(fields)},
        "field_locks": [],
    }
