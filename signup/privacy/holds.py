"""Legal holds: what a claim may need is kept until somebody says that it is over."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select

from signup.contacts import actions as contacts
from signup.contacts.models import Hold
from signup.core.db import Session
from signup.core.errors import Conflict, Invalid, NotFound
from signup.core.values import Actor, clean_text, new_id
from signup.eventlog.kinds import EventType
from signup.eventlog.record import Subject, record
from signup.privacy import redaction

MAX_REASON_CHARACTERS = 500


@dataclass(frozen=True)
class HoldView:
    """A hold as it is shown to whoever decides on it."""

    id: str
    contact_id: str
    reason: str
    placed_by: str
    created_at: datetime
    released_by: str | None
    released_at: datetime | None


_VIEW = (
    Hold.id,
    Hold.contact_id,
    Hold.reason,
    Hold.placed_by,
    Hold.created_at,
    Hold.released_by,
    Hold.released_at,
)


def place(session: Session, controller_id: str, contact_id: str, reason: str, *, actor: Actor, now: datetime) -> str:
    """Nothing about this person is purged any more, by nobody and no rule, until the hold is released.

    Returns:
        The id of the hold. A person may be under several, each for a case of its own.

    Raises:
        NotFound: this controller holds no such contact.
        Invalid: no reason is given.

    Rule: GDPR 17(3)(e), 18(1)(c).
    """
    reason = clean_text(reason, MAX_REASON_CHARACTERS).strip()
    if not reason:
        raise Invalid("A hold needs a reason, such as the file number of the case.")
    contacts.get(session, controller_id, contact_id)
    # An erasure that has this row already goes first; then there is nothing left to hold.
    if not contacts.lock(session, [contact_id]):
        raise Conflict("This contact is being changed at this moment. Please try again.", code="busy")
    subject = Subject(contact_id, contacts.open_key(session, contact_id))
    ident = new_id("hld", now)
    row = {
        "id": ident,
        "controller_id": controller_id,
        "contact_id": contact_id,
        "reason": reason,
        "placed_by": _name(actor),
        "created_at": now,
    }
    session.put(Hold, row)
    fields = {"hold": ident, "hold_reason": reason}
    record(session, controller_id, EventType.HOLD_CREATED, fields, now=now, subject=subject, actor=actor)
    return ident


def release(session: Session, controller_id: str, hold_id: str, reason: str, *, actor: Actor, now: datetime) -> bool:
    """The hold is over: what is over its time goes with the next retention run, and what the hold has kept
    from a run that went by goes at once.

    Returns:
        Whether it stood until now.

    Raises:
        NotFound: this controller has no such hold.
        Invalid: no reason is given.
    """
    reason = clean_text(reason, MAX_REASON_CHARACTERS).strip()
    if not reason:
        raise Invalid("Say why the hold is over.")
    found = session.execute(select(*_VIEW).where(Hold.controller_id == controller_id, Hold.id == hold_id)).first()
    if found is None:
        raise NotFound("There is no such hold.")
    if found.released_at is not None:
        return False
    session.change(Hold, {"id": hold_id}, {"released_at": now, "released_by": _name(actor)})
    subject = Subject(found.contact_id, contacts.open_key(session, found.contact_id))
    fields = {"hold": hold_id, "hold_reason": reason}
    record(session, controller_id, EventType.HOLD_RELEASED, fields, now=now, subject=subject, actor=actor)
    session.write_queued()
    redaction.catch_up(session, found.contact_id, now=now)
    return True


def listing(session: Session, controller_id: str, *, released: bool = False) -> list[HoldView]:
    """The holds of a controller, oldest first.

    Args:
        released: those that are over, too.
    """
    query = select(*_VIEW).where(Hold.controller_id == controller_id)
    if not released:
        query = query.where(Hold.released_at.is_(None))
    return [HoldView(*row) for row in session.execute(query.order_by(Hold.id))]


def _name(actor: Actor) -> str:
    return actor.kind if actor.id is None else f"{actor.kind}:{actor.id}"
