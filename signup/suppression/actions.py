"""Remembering, by keyed hash, whom we must not write to."""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import delete, or_, select

from signup.core.db import Session, affected
from signup.suppression.models import Reason, Suppression

# Long enough for a prankster to lose interest, short enough for the owner to change their mind.
NOT_ME_DAYS = 90

# After these a person's own fresh sign-up still gets the bare question, and confirming it lifts the block.
LIFTED_BY_CONFIRMATION = frozenset({Reason.ERASED, Reason.OBJECTED, Reason.UNSUBSCRIBED})


def covering(session: Session, controller_id: str, address_key: bytes, *, now: datetime) -> Reason | None:
    """Why the address is suppressed now, or None."""
    return session.scalar(
        select(Suppression.reason).where(
            Suppression.controller_id == controller_id,
            Suppression.address_key == address_key,
            or_(Suppression.expires_at.is_(None), Suppression.expires_at > now),
        )
    )


def remember(session: Session, controller_id: str, address_key: bytes, reason: Reason, *, now: datetime) -> None:
    """The address is suppressed from now on, after a "not me" for 90 days.

    Rule: GDPR 21(3); the keyed hash is all that is kept of the address.
    """
    expires_at = now + timedelta(days=NOT_ME_DAYS) if reason is Reason.NOT_ME else None
    session.put(
        Suppression,
        {
            "controller_id": controller_id,
            "address_key": address_key,
            "reason": reason,
            "created_at": now,
            "expires_at": expires_at,
        },
        on_conflict="ON CONFLICT (controller_id, address_key) DO UPDATE SET reason = excluded.reason, "
        "created_at = excluded.created_at, expires_at = excluded.expires_at",
    )


def lift(session: Session, controller_id: str, address_key: bytes) -> bool:
    """A block that the person's own confirmation may lift is gone; any other stays.

    Returns:
        Whether there was one.
    """
    gone = session.execute(
        delete(Suppression)
        .where(
            Suppression.controller_id == controller_id,
            Suppression.address_key == address_key,
            Suppression.reason.in_(list(LIFTED_BY_CONFIRMATION)),
        )
        .execution_options(synchronize_session=False)
    )
    return affected(gone) > 0
