"""Remembering, by keyed hash, whom we must not write to."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta

from sqlalchemy import Integer, bindparam, func, literal_column, or_, select

from signup.core.db import Prepared, Session
from signup.suppression.models import Reason, Suppression

# Long enough for a prankster to lose interest, short enough for the owner to change their mind.
NOT_ME_DAYS = 90

# After these a person's own fresh sign-up still gets the bare question, and confirming it lifts the block.
LIFTED_BY_CONFIRMATION = frozenset({Reason.ERASED, Reason.OBJECTED, Reason.UNSUBSCRIBED})


# The first of these that holds decides.
STRONGEST_FIRST = (
    Reason.DPO,
    Reason.COMPLAINED,
    Reason.BOUNCED,
    Reason.NOT_ME,
    Reason.OBJECTED,
    Reason.ERASED,
    Reason.UNSUBSCRIBED,
)


_RANKS = " ".join(f"WHEN '{reason.value}' THEN {rank}" for rank, reason in enumerate(STRONGEST_FIRST))
# What `covering` asks, for queries that ask more at once: bind controller_id, address_key and now; see `reason_of`.
STRONGEST = (
    select(func.min(literal_column(f"CASE suppression.reason {_RANKS} END", Integer)))
    .where(
        Suppression.controller_id == bindparam("controller_id"),
        Suppression.address_key == bindparam("address_key"),
        or_(Suppression.expires_at.is_(None), Suppression.expires_at > bindparam("now")),
    )
    .scalar_subquery()
)
_COVERING = Prepared(select(STRONGEST))


def covering(session: Session, controller_id: str, address_key: bytes, *, now: datetime) -> Reason | None:
    """The strongest reason for which the address is suppressed now, or None."""
    values = {"controller_id": controller_id, "address_key": address_key, "now": now}
    return reason_of(session.rows(_COVERING, values)[0][0])


def reason_of(answer: int | None) -> Reason | None:
    return None if answer is None else STRONGEST_FIRST[answer]


def holds(session: Session, controller_id: str, address_key: bytes, reason: Reason, *, now: datetime) -> bool:
    """Whether the address is suppressed now for just this reason, whatever others there are."""
    found = session.scalar(
        select(Suppression.reason).where(
            Suppression.controller_id == controller_id,
            Suppression.address_key == address_key,
            Suppression.reason == reason,
            or_(Suppression.expires_at.is_(None), Suppression.expires_at > now),
        )
    )
    return found is not None


def remember(session: Session, controller_id: str, address_key: bytes, reason: Reason, *, now: datetime) -> None:
    """The address is suppressed for this reason from now on, after a "not me" for 90 days; other reasons stay.

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
        on_conflict="ON CONFLICT (controller_id, address_key, reason) DO UPDATE SET "
        "created_at = excluded.created_at, expires_at = excluded.expires_at",
    )


def lift(
    session: Session, controller_id: str, address_key: bytes, reasons: Collection[Reason] = LIFTED_BY_CONFIRMATION
) -> None:
    """Blocks with these reasons, by default those that the person's own confirmation lifts, are gone; others stay."""
    for reason in STRONGEST_FIRST:
        if reason in reasons:
            key = {"controller_id": controller_id, "address_key": address_key, "reason": reason}
            session.remove(Suppression, key)
