"""What consents and contacts were used for: who wrote to whom, with which campaign, when, on which channel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import delete, select

from signup.consents import actions as consents
from signup.consents.actions import Held
from signup.consents.models import Consent, ConsentState, ContactUse
from signup.contacts import actions as contacts
from signup.core.db import Session
from signup.core.errors import Invalid, NotFound
from signup.core.values import Actor, has_happened, made_at, rfc3339
from signup.eventlog.kinds import EventType
from signup.eventlog.models import Event
from signup.eventlog.record import Subject, record
from signup.purposes.models import LegalBasis

CHANNELS = ("email", "phone", "sms", "post")


@dataclass(frozen=True)
class Use:
    """One use: which campaign, who sent or called, on which channel, when."""

    campaign: str
    sender: str
    channel: str
    used_at: datetime


@dataclass(frozen=True)
class Noted:
    """A use on record, and whether the consent covered it; None when it was not on a consent."""

    event_id: str
    contact_id: str
    in_force: bool | None


def note_consent(
    session: Session,
    controller_id: str,
    consent_id: str,
    use: Use,
    *,
    purpose: str | None = None,
    actor: Actor,
    now: datetime,
) -> Noted:
    """The use of a consent is on record. One that the consent did not cover is on record as just that.

    Args:
        consent_id: of one consent, or of the act that several share, as webhooks name it.
        purpose: slug of the one purpose of the act that was used; None: all of them.

    Raises:
        NotFound: this controller holds no such consent.
        Invalid: the use lies ahead, or the act has no such purpose.

    Rule: GDPR 5(2) and 7(1); §7a(2) UWG, keep the proof of a consent after each use.
    """
    _check(use, now=now)
    contact_id = _owner(session, controller_id, consent_id)
    every = consents.of_contact(session, controller_id, contact_id)
    act = [item for item in every if consent_id in (item.id, item.act_id)]
    used = [item for item in act if purpose in (None, item.slug)]
    if not used:
        names = ", ".join(item.slug for item in act)
        error = {"field": "purpose", "code": "unknown", "message": f"This consent is for {names} only."}
        raise Invalid(error["message"], errors=[error])
    covered = use.channel == consents.EMAIL and all(_in_force(item, use.used_at) for item in used)
    fields = {
        "consent": used[0].act_id,
        "purposes": [item.slug for item in used],
        "legal_basis": used[0].legal_basis,
        "flagged": None if covered else True,
    }
    event_id = _note(session, controller_id, contact_id, EventType.CONSENT_USED, use, fields, actor=actor, now=now)
    return Noted(event_id, contact_id, covered)


def note_contact(
    session: Session,
    controller_id: str,
    contact_id: str,
    use: Use,
    legal_basis: LegalBasis | None = None,
    *,
    actor: Actor,
    now: datetime,
) -> Noted:
    """The use of a contact's data is on record with its legal basis; by default the one that the contact is kept on.

    Raises:
        NotFound: this controller holds no such contact.
        Invalid: the use lies ahead.

    Rule: GDPR 5(2), 6(1).
    """
    _check(use, now=now)
    held = contacts.get(session, controller_id, contact_id)
    fields = {"legal_basis": legal_basis.value if legal_basis else held.legal_basis}
    event_id = _note(session, controller_id, contact_id, EventType.CONTACT_USED, use, fields, actor=actor, now=now)
    return Noted(event_id, contact_id, None)


def _note(
    session: Session,
    controller_id: str,
    contact_id: str,
    kind: EventType,
    use: Use,
    fields: dict[str, Any],
    *,
    actor: Actor,
    now: datetime,
) -> str:
    subject = Subject(contact_id, contacts.open_key(session, contact_id))
    used_at = use.used_at.astimezone(UTC)
    # Retention of the proof counts from here.
    session.put(
        ContactUse,
        {"contact_id": contact_id, "channel": use.channel, "last_used_at": used_at},
        on_conflict="ON CONFLICT (contact_id, channel) DO UPDATE SET last_used_at = excluded.last_used_at"
        " WHERE excluded.last_used_at > contact_use.last_used_at",
    )
    told = {"campaign": use.campaign, "sender": use.sender, "channel": use.channel, "used_at": rfc3339(used_at)}
    return record(session, controller_id, kind, {**told, **fields}, now=now, subject=subject, actor=actor)


def _check(use: Use, *, now: datetime) -> None:
    if not has_happened(use.used_at, now):
        error = {
            "field": "used_at",
            "code": "range",
            "message": "Tell a use once it has happened; none is before 1970.",
        }
        raise Invalid(error["message"], errors=[error])


def _owner(session: Session, controller_id: str, consent_id: str) -> str:
    """Whose consent this is.

    An act is found by the events of its millisecond: an index of acts would cost every sign-up an entry.
    """
    asked_at = made_at(consent_id) if consent_id.startswith("act_") else None
    query = select(Consent.contact_id).where(Consent.controller_id == controller_id)
    if asked_at is None:
        query = query.where(Consent.id == consent_id)
    else:
        then = select(Event.contact_id).where(Event.controller_id == controller_id, Event.occurred_at == asked_at)
        query = query.where(Consent.contact_id.in_(then.scalar_subquery()), Consent.act_id == consent_id)
    found = session.scalars(query.limit(1)).first()
    if found is None:
        raise NotFound("There is no such consent.")
    return found


def _in_force(held: Held, moment: datetime) -> bool:
    if held.given_at is None or moment < held.given_at:
        return False
    return held.state is ConsentState.GIVEN or (held.ended_at is not None and moment < held.ended_at)


def forget(session: Session, contact_ids: Sequence[str]) -> None:
    """When these persons' data was used is forgotten."""
    gone = delete(ContactUse).where(ContactUse.contact_id.in_(list(contact_ids)))
    session.execute(gone.execution_options(synchronize_session=False))
