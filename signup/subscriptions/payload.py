"""What a change of a subscription tells the outside."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from signup.consents.actions import Held
from signup.consents.models import ConsentState
from signup.core.db import Session
from signup.core.values import rfc3339
from signup.subscriptions import links
from signup.subscriptions.states import Frequency


@dataclass(frozen=True)
class Standing:
    """A subscription as it stands after a change."""

    id: str
    contact_id: str
    status: str
    ground: str | None
    version: int
    epoch: int
    frequency: Frequency = Frequency.ALL
    paused_until: datetime | None = None


def act_text_sha256(texts: Sequence[str]) -> str:
    """SHA-256 of the consent texts of one act, joined by line feeds in the order of their purposes' slugs."""
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()


def requested(
    session: Session,
    contact_id: str,
    act_id: str,
    items: Sequence[Mapping[str, str]],
    *,
    origin: Mapping[str, Any],
    legal_basis: str,
    now: datetime,
) -> dict[str, Any]:
    """One act of consent as it is asked, before anybody confirmed it."""
    asked = sorted(items, key=lambda item: item["slug"])
    return {
        "id": act_id,
        "purposes": [item["slug"] for item in asked],
        "text_sha256": act_text_sha256([item["text"] for item in asked]),
        "texts": [{"purpose": item["slug"], "sha256": item["text_sha256"]} for item in asked],
        "requested_at": _time(now),
        "confirmed_at": None,
        "withdrawn_at": None,
        "origin": dict(origin),
        "legal_basis": legal_basis,
        "proof_url": proof_url(session, contact_id),
    }


def proof_url(session: Session, contact_id: str) -> str:
    return f"{session.config.public_url}/api/v1/contacts/{contact_id}/evidence"


def _time(moment: datetime | None) -> str | None:
    return rfc3339(moment) if moment else None


def subscription(session: Session, standing: Standing) -> dict[str, Any]:
    """The subscription with header values that a sender can use as they are."""
    list_unsubscribe, preferences_url = links.of_all(session, standing.id, standing.epoch)
    return {
        "id": standing.id,
        "status": standing.status,
        "ground": standing.ground,
        "version": standing.version,
        "frequency": standing.frequency.value,
        "paused_until": _time(standing.paused_until),
        "list_unsubscribe": list_unsubscribe,
        "list_unsubscribe_post": links.ONE_CLICK,
        "preferences_url": preferences_url,
    }


def consent(session: Session, contact_id: str, held: Sequence[Held]) -> dict[str, Any] | None:
    """One act of consent: its purposes with their wording, and where its proof is."""
    if not held:
        return None
    first = held[0]
    return {
        "id": first.act_id,
        "purposes": [item.slug for item in held],
        "text_sha256": act_text_sha256([item.text for item in held]),
        "texts": [{"purpose": item.slug, "sha256": item.text_sha256} for item in held],
        "requested_at": _time(min(item.requested_at for item in held)),
        "confirmed_at": _time(max((item.given_at for item in held if item.given_at), default=None)),
        "withdrawn_at": _time(max((item.ended_at for item in held if item.ended_at), default=None)),
        "origin": first.origin,
        "legal_basis": first.legal_basis,
        "proof_url": proof_url(session, contact_id),
    }


def data(
    session: Session,
    standing: Standing,
    email: str | None,
    held: Sequence[Held],
    act: Sequence[Held],
    *,
    fields: Mapping[str, Any] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The `data` of a webhook.

    Args:
        email: None while nobody confirmed it: an unconfirmed address does not leave the system.
        held: all consents of the contact.
        act: those that this change is about.
        fields: what the person said in declared fields and confirmed.
    """
    given = [item for item in held if item.state is ConsentState.GIVEN]
    return {
        "subscription": subscription(session, standing),
        "contact": {"id": standing.contact_id, "email": email, "external_ids": {}, "fields": dict(fields or {})},
        "topics": [
            {
                "slug": item.topic,
                "label": item.topic_label,
                "list_unsubscribe": links.list_unsubscribe(session, standing.id, standing.epoch, item.topic),
                "list_unsubscribe_post": links.ONE_CLICK,
            }
            for item in given
        ],
        "consent": consent(session, standing.contact_id, act),
        "field_locks": [],
        **(extra or {}),
    }
