"""Uses of consents and contacts, told by the programs that made use of them."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from msgspec import Meta, Struct

from signup.consents import uses
from signup.core.db import Session
from signup.purposes.actions import LEGAL_BASES
from signup.web import api
from signup.web.api import Call, Line
from signup.web.shapes import Basis, Slug

blueprint = api.blueprint("consents")

Channel = Annotated[Literal["email", "phone", "sms", "post"], Meta(description="How the person was reached.")]
UsedAt = Annotated[datetime, Meta(tz=True, description="When; now, if not said. May lie back, never ahead.")]


class ContactUse(Struct, forbid_unknown_fields=True, kw_only=True):
    """One use of a person's data."""

    campaign: Annotated[Line, Meta(description="Which mailing, call list or letter.", examples=["spring-2027"])]
    sender: Annotated[Line, Meta(description="Who used it: a program, a team, an agent's number.")]
    channel: Channel
    used_at: UsedAt | None = None
    legal_basis: Annotated[Basis | None, Meta(description="The contact's own, if not said.")] = None


class ConsentUse(Struct, forbid_unknown_fields=True, kw_only=True):
    """One use of a consent."""

    campaign: Annotated[Line, Meta(description="Which mailing, call list or letter.", examples=["spring-2027"])]
    sender: Annotated[Line, Meta(description="Who used it: a program, a team, an agent's number.")]
    channel: Channel
    used_at: UsedAt | None = None
    purpose: Annotated[Slug | None, Meta(description="Of an act for several: the one that was used.")] = None


class UseOfContact(Struct):
    id: Annotated[str, Meta(description="Of the event in the person's history.")]
    contact_id: str


class UseOfConsent(Struct):
    id: Annotated[str, Meta(description="Of the event in the person's history.")]
    contact_id: str
    in_force: Annotated[
        bool,
        Meta(description="Whether the consent covered channel, purpose and time; if not, the event is flagged."),
    ]


@api.operation(blueprint, "POST", "/consents/<consent_id>/uses", scope="uses.write", status=201)
def use_consent(session: Session, call: Call, body: ConsentUse, consent_id: str) -> UseOfConsent:
    """Record a use of a consent.

    The id is that of the act, as webhooks name it in `consent.id`, or of one consent. What was used without being \
covered is recorded as well, flagged. Each use begins the time anew for which the proof is kept.
    """
    use = uses.Use(body.campaign, body.sender, body.channel, body.used_at or call.now)
    noted = uses.note_consent(
        session, call.controller_id, consent_id, use, purpose=body.purpose, actor=call.actor, now=call.now
    )
    return UseOfConsent(noted.event_id, noted.contact_id, bool(noted.in_force))


@api.operation(blueprint, "POST", "/contacts/<contact_id>/uses", scope="uses.write", status=201)
def use_contact(session: Session, call: Call, body: ContactUse, contact_id: str) -> UseOfContact:
    """Record a use of a contact on any legal basis.

    Who used whose data, when and what for, stands in the person's evidence.
    """
    use = uses.Use(body.campaign, body.sender, body.channel, body.used_at or call.now)
    basis = LEGAL_BASES[body.legal_basis] if body.legal_basis else None
    noted = uses.note_contact(session, call.controller_id, contact_id, use, basis, actor=call.actor, now=call.now)
    return UseOfContact(noted.event_id, noted.contact_id)
