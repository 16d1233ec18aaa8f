"""What endpoints are owed and what became of it: reading, resending, forgetting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import select, update

from signup.core.db import Session, affected
from signup.core.errors import Conflict, NotFound
from signup.eventlog.models import Publication
from signup.webhooks.models import Attempt, Delivery, DeliveryState, Endpoint, EndpointState

STATES = {item.value: item for item in DeliveryState}

_QUIET = {"synchronize_session": False}


@dataclass(frozen=True)
class AttemptView:
    """One POST; `error` says why there was no answer, or why nothing was sent."""

    number: int
    trigger: str
    started_at: datetime
    milliseconds: int
    ip: str | None
    status: int | None
    error: str | None
    request_headers: dict[str, Any]
    response_body: bytes | None
    next_at: datetime | None


@dataclass(frozen=True)
class DeliveryView:
    """One publication owed to one endpoint, with every attempt so far."""

    id: str
    endpoint_id: str
    publication_id: str
    type: str
    state: DeliveryState
    trigger: str
    attempt: int
    next_at: datetime | None
    created_at: datetime
    finished_at: datetime | None
    attempts: list[AttemptView] = field(default_factory=list)


def page(
    session: Session,
    controller_id: str,
    *,
    after: str = "",
    limit: int = 100,
    endpoint_id: str | None = None,
    state: DeliveryState | None = None,
) -> list[DeliveryView]:
    """Deliveries in the order of their publications, after the id `after`."""
    query = _query(controller_id).where(Delivery.id > after)
    if endpoint_id is not None:
        query = query.where(Delivery.endpoint_id == endpoint_id)
    if state is not None:
        query = query.where(Delivery.state == state)
    return _views(session, session.execute(query.order_by(Delivery.id).limit(limit)).all())


def get(session: Session, controller_id: str, delivery_id: str) -> DeliveryView:
    """The delivery with this id.

    Raises:
        NotFound: this controller has no such delivery.
    """
    found = _views(session, session.execute(_query(controller_id).where(Delivery.id == delivery_id)).all())
    if not found:
        raise NotFound("There is no such delivery.")
    return found[0]


def _query(controller_id: str) -> Any:
    return (
        select(Delivery, Publication.type)
        .join(Publication, Publication.id == Delivery.publication_id)
        .where(Delivery.controller_id == controller_id)
    )


def _views(session: Session, rows: Sequence[Any]) -> list[DeliveryView]:
    made: dict[str, list[AttemptView]] = {row.Delivery.id: [] for row in rows}
    columns = tuple(getattr(Attempt, name) for name in AttemptView.__dataclass_fields__)
    query = select(Attempt.delivery_id, *columns).where(Attempt.delivery_id.in_(list(made)))
    for delivery_id, *values in session.execute(query.order_by(Attempt.delivery_id, Attempt.number)):
        made[delivery_id].append(AttemptView(*values))
    return [_view(row.Delivery, row.type, made[row.Delivery.id]) for row in rows]


def _view(row: Delivery, type_: str, attempts: list[AttemptView]) -> DeliveryView:
    waits = row.state in (DeliveryState.DUE, DeliveryState.HELD)
    return DeliveryView(
        id=row.id,
        endpoint_id=row.endpoint_id,
        publication_id=row.publication_id,
        type=type_,
        state=row.state,
        trigger=row.trigger,
        attempt=row.attempt,
        next_at=row.next_at if waits else None,
        created_at=row.created_at,
        finished_at=row.finished_at,
        attempts=attempts,
    )


def resend(session: Session, controller_id: str, delivery_id: str, *, now: datetime) -> DeliveryView:
    """The delivery is due now, whatever became of it before: same id, same bytes, a fresh round of attempts.

    Raises:
        NotFound: this controller has no such delivery.
        Conflict: the endpoint is paused or disabled, or the person it was about is erased.

    Rule: Standard Webhooks 1.0: the id stays, so that the receiver can tell a repeat.
    """
    own = select(Delivery.endpoint_id, Delivery.publication_id).where(
        Delivery.controller_id == controller_id, Delivery.id == delivery_id
    )
    # The endpoint first, as when somebody pauses it: neither waits for the other.
    endpoint = select(Endpoint.state).where(
        Endpoint.id == own.with_only_columns(Delivery.endpoint_id).scalar_subquery()
    )
    state = session.scalar(endpoint.with_for_update(read=True))
    row = session.execute(own.with_for_update()).first()
    if row is None:
        raise NotFound("There is no such delivery.")
    if state is not EndpointState.ACTIVE:
        raise Conflict("The endpoint is paused or disabled. Make it active first.")
    if session.scalar(select(Publication.payload.is_(None)).where(Publication.id == row.publication_id)):
        raise Conflict("The person was erased: there is nothing left to send.")
    again = {
        "state": DeliveryState.DUE,
        "next_at": now,
        "attempt": 0,
        "lease_token": None,
        "trigger": "resend",
        "finished_at": None,
    }
    session.execute(update(Delivery).where(Delivery.id == delivery_id).values(**again).execution_options(**_QUIET))
    return get(session, controller_id, delivery_id)


def forget(session: Session, contact_ids: Sequence[str]) -> int:
    """What receivers answered about these persons is gone. Runs before the log forgets whom it is about.

    Returns:
        How many answers were removed.

    Rule: GDPR 17(1).
    """
    about = (
        select(Delivery.id)
        .join(Publication, Publication.id == Delivery.publication_id)
        .where(Publication.contact_id.in_(list(contact_ids)))
    )
    statement = (
        update(Attempt)
        .where(Attempt.delivery_id.in_(about.scalar_subquery()), Attempt.response_body.is_not(None))
        .values(response_body=None)
    )
    return affected(session.execute(statement.execution_options(**_QUIET)))
