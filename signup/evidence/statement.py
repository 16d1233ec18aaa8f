"""A person's consents in the words of ISO/IEC TS 27560, as far as this service knows them."""

from __future__ import annotations

import hashlib
import uuid
from collections.abc import Sequence
from typing import Any

from signup.consents import actions as consents
from signup.consents.actions import Held
from signup.contacts.actions import ContactView
from signup.core.db import Session
from signup.core.values import rfc3339
from signup.eventlog.history import Fact
from signup.eventlog.kinds import EventType
from signup.purposes import actions as purposes
from signup.purposes.actions import ControllerView

SCHEMA = "ISO/IEC TS 27560:2023"
# What an event did to a consent. Opening a link or sending a mail changes none.
STATES = {
    EventType.SUBSCRIPTION_REQUESTED: "requested",
    EventType.SUBSCRIPTION_CONFIRMED: "given",
    EventType.SUBSCRIPTION_RESTORED: "given",
    EventType.CONSENT_WITHDRAWN: "withdrawn",
    EventType.SUBSCRIPTION_EXPIRED: "expired",
    EventType.SUBSCRIPTION_REFUSED: "refused",
    EventType.SUBSCRIPTION_BOUNCED: "terminated",
    EventType.CONTACT_OBJECTED: "terminated",
    EventType.CONFIRMATION_CONTRADICTED: "invalidated",
}
# Mandatory in 27560, and known to the controller alone.
NOT_STATED = ("storage_locations", "retention_period", "jurisdiction", "recipient_third_parties")


def of_contact(session: Session, controller_id: str, view: ContactView, facts: Sequence[Fact]) -> dict[str, Any]:
    """The record of a person's consents; each of its events points at the sealed one that it is taken from.

    Nothing in it counts by itself: what is not in a sealed event is only said.

    Rule: ISO/IEC TS 27560:2023, record structure; GDPR 7(1).
    """
    controller = purposes.get_controller(session, controller_id)
    held = consents.of_contact(session, controller_id, view.id)
    notices = [fact.fields["notice"] for fact in facts if "notice" in fact.fields]
    return {
        "schema_version": SCHEMA,
        "record_id": _record_id(view.id),
        "subject": {"id": view.id, "email": view.email},
        "controllers": [controller.id],
        "parties": [_party(controller)],
        "notice": {**(notices[-1] if notices else {}), "language": view.locale},
        "purposes": [_purpose(item) for item in held],
        "legal_basis": view.legal_basis,
        "origin": view.origin,
        "data": [{"type": "email", "optional": False}]
        + [{"type": name, "optional": True} for name in sorted(view.fields)],
        "withdrawal": {"text": "by the link in every mail, or to the controller", "url": controller.privacy_url},
        "events": [_event(place, fact) for place, fact in enumerate(facts) if _state(fact)],
        "not_stated": list(NOT_STATED),
    }


def _record_id(contact_id: str) -> str:
    """The same for the same person, and in the shape of a random one, which says nothing else."""
    return str(uuid.UUID(bytes=hashlib.sha256(contact_id.encode()).digest()[:16], version=4))


def _party(controller: ControllerView) -> dict[str, Any]:
    return {
        "id": controller.id,
        "name": controller.name,
        "address": controller.address,
        "contact": controller.reply_to or controller.sender,
        "type": "organisation",
        "url": controller.imprint_url,
        "role": "controller",
    }


def _purpose(item: Held) -> dict[str, Any]:
    return {
        "code": item.slug,
        "text": item.text,
        "text_sha256": item.text_sha256,
        "channel": consents.EMAIL,
        "legal_basis": item.legal_basis,
        "origin": item.origin,
        "consent": item.act_id,
        "state": item.state.value,
        "requested_at": rfc3339(item.requested_at),
        "given_at": rfc3339(item.given_at) if item.given_at else None,
        "ended_at": rfc3339(item.ended_at) if item.ended_at else None,
    }


def _state(fact: Fact) -> str | None:
    kind = EventType(fact.kind)
    if kind is EventType.SUBSCRIPTION_UPDATED and "act" in fact.fields:
        # The button behind a mail that asked for one more purpose.
        return "given"
    return STATES.get(kind)


def _event(place: int, fact: Fact) -> dict[str, Any]:
    event: dict[str, Any] = {
        "event": place,
        "time": rfc3339(fact.occurred_at),
        "state": _state(fact),
        "type": fact.kind,
        "actor": fact.fields.get("actor"),
        "consent": fact.fields.get("consent"),
    }
    return {**event, "consent_type": "expressed"} if event["state"] == "given" else event
