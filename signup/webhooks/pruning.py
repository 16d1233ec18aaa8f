"""Letting go of what was delivered long ago: attempts after a month, payloads after a quarter."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, delete, exists, func, select
from sqlalchemy.orm import InstrumentedAttribute

from signup.contacts import holds
from signup.core.db import Session, affected
from signup.core.values import first_id
from signup.eventlog.models import Publication
from signup.webhooks.models import Attempt, Delivery, DeliveryState

# Long enough to look into what a receiver says went wrong last month.
KEEP_ATTEMPTS = timedelta(days=30)
# A reader of the feed, or an endpoint that was away, finds everything of the last quarter.
KEEP_PAYLOADS = timedelta(days=90)

_FINISHED = Delivery.state.in_([DeliveryState.DELIVERED, DeliveryState.DEAD])


def due(*, now: datetime) -> dict[str, tuple[InstrumentedAttribute[str], ColumnElement[bool]]]:
    """What may go: which rows of each table, found by their ids, which sort by time.

    What is still owed to an endpoint stays for as long as it is, and what was told of a person who is under a hold.
    The newest publication stays: numbers go on from it.
    """
    attempts, payloads = now - KEEP_ATTEMPTS, now - KEEP_PAYLOADS
    unsent = exists().where(Delivery.publication_id == Publication.id)
    newest = select(func.max(Publication.seq)).scalar_subquery()
    tried = exists().where(Attempt.delivery_id == Delivery.id)
    # An attempt keeps its delivery, and that its publication.
    held = exists().where(
        Delivery.id == Attempt.delivery_id,
        Publication.id == Delivery.publication_id,
        holds.is_held(Publication.contact_id),
    )
    told = exists().where(Publication.id == Delivery.publication_id, holds.is_held(Publication.contact_id))
    return {
        "attempts": (Attempt.id, (Attempt.id < first_id("att", attempts)) & ~held),
        "deliveries": (Delivery.id, (Delivery.id < first_id("dlv", payloads)) & _FINISHED & ~tried & ~told),
        "publications": (
            Publication.id,
            (Publication.id < first_id("msg", payloads))
            & (Publication.seq < newest)
            & ~unsent
            & ~holds.is_held(Publication.contact_id),
        ),
    }


def prune(session: Session, *, now: datetime, limit: int) -> dict[str, int]:
    """At most `limit` rows of each table are gone, oldest first.

    Returns:
        How many, by table.

    Rule: GDPR 5(1)(e).
    """
    gone = {}
    for name, (key, condition) in due(now=now).items():
        oldest: Any = select(key).where(condition).order_by(key).limit(limit)
        statement = delete(key.class_).where(key.in_(oldest.scalar_subquery()))
        gone[name] = affected(session.execute(statement.execution_options(synchronize_session=False)))
    return gone
