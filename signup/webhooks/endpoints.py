"""Endpoints: making, changing, pausing and testing them, and their secrets."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from sqlalchemy import ScalarSelect, case, select
from sqlalchemy import delete as sql_delete
from sqlalchemy import update as sql_update

from signup.core.addresses import Allowance, check_url
from signup.core.db import Session
from signup.core.errors import Conflict, Invalid, NotFound
from signup.core.values import SYSTEM, Actor, new_id
from signup.eventlog.kinds import EventType
from signup.eventlog.record import publish, record
from signup.webhooks import rules
from signup.webhooks.actions import delivery_row
from signup.webhooks.models import Attempt, Delivery, DeliveryState, Endpoint, EndpointState, EndpointType
from signup.webhooks.types import DEFAULT_TYPES, PAUSED_TYPE, TEST_TYPE, TYPES

DEFAULT_GRACE = timedelta(hours=24)
MAX_GRACE = timedelta(days=7)

_QUIET = {"synchronize_session": False}


@dataclass(frozen=True)
class EndpointView:
    """An endpoint as staff and the API see it; its secret is shown once, when it is made."""

    id: str
    url: str
    types: tuple[str, ...]
    state: EndpointState
    state_reason: str | None
    old_secret_until: datetime | None
    created_at: datetime
    updated_at: datetime


_VIEW = (
    Endpoint.id,
    Endpoint.url,
    Endpoint.state,
    Endpoint.state_reason,
    Endpoint.old_secret_until,
    Endpoint.created_at,
    Endpoint.updated_at,
)


def create(
    session: Session,
    controller_id: str,
    url: str,
    types: Sequence[str] | None = None,
    *,
    now: datetime,
    secret: str | None = None,
    actor: Actor = SYSTEM,
) -> tuple[EndpointView, str]:
    """The endpoint is active and hears of everything that is published from now on.

    Args:
        types: None means all but those that are off by default.
        secret: an existing `whsec_` secret to take over; a fresh one if None.

    Returns:
        The endpoint, and its signing secret, which nobody can read again.

    Raises:
        Invalid: URL, a type or the secret cannot be used.

    Rule: Standard Webhooks 1.0 "signature scheme": a unique key for each endpoint.
    """
    check_url(url, Allowance.parse(session.config.outbound_allow))
    chosen = _checked_types(types)
    secret = _checked_secret(secret) if secret is not None else rules.new_secret()
    ident = new_id("ep", now)
    session.put(
        Endpoint,
        {
            "id": ident,
            "controller_id": controller_id,
            "url": url,
            "state": EndpointState.ACTIVE,
            "sealed_secret": session.keys.seal_own(secret.encode()),
            "sealed_old_secret": None,
            "old_secret_until": None,
            "state_reason": None,
            "created_at": now,
            "updated_at": now,
        },
    )
    _put_types(session, controller_id, ident, chosen)
    fields = {"endpoint": ident, "host": _host(url)}
    record(session, controller_id, EventType.ENDPOINT_CREATED, fields, now=now, actor=actor)
    return EndpointView(ident, url, chosen, EndpointState.ACTIVE, None, None, now, now), secret


def get(session: Session, controller_id: str, endpoint_id: str) -> EndpointView:
    """The endpoint with this id.

    Raises:
        NotFound: this controller has no such endpoint.
    """
    query = select(*_VIEW).where(Endpoint.controller_id == controller_id, Endpoint.id == endpoint_id)
    row = session.execute(query).first()
    if row is None:
        raise NotFound("There is no such endpoint.")
    return _views(session, [row])[0]


def page(session: Session, controller_id: str, *, after: str = "", limit: int = 100) -> list[EndpointView]:
    """Endpoints in the order in which they were made, after the id `after`."""
    query = select(*_VIEW).where(Endpoint.controller_id == controller_id, Endpoint.id > after)
    return _views(session, session.execute(query.order_by(Endpoint.id).limit(limit)).all())


def _views(session: Session, rows: Sequence[Any]) -> list[EndpointView]:
    types: dict[str, list[str]] = {row.id: [] for row in rows}
    query = select(EndpointType.endpoint_id, EndpointType.type).where(EndpointType.endpoint_id.in_(list(types)))
    for endpoint_id, name in session.execute(query):
        types[endpoint_id].append(name)
    order = list(TYPES)
    return [EndpointView(row.id, row.url, tuple(sorted(types[row.id], key=order.index)), *row[2:]) for row in rows]


def update(
    session: Session,
    controller_id: str,
    endpoint_id: str,
    *,
    now: datetime,
    url: str | None = None,
    types: Sequence[str] | None = None,
    state: str | None = None,
    actor: Actor = SYSTEM,
) -> EndpointView:
    """The given parts of the endpoint are as asked; what is None stays.

    Args:
        state: `active` makes everything held due at once; `paused` holds what is due and what comes.

    Raises:
        NotFound: this controller has no such endpoint.
        Invalid: URL, a type or the state cannot be used; nothing was changed.
    """
    before = _locked(session, controller_id, endpoint_id)
    # A URL that stays is not checked again: what the operator no longer allows must still be possible to pause.
    if url is not None:
        check_url(url, Allowance.parse(session.config.outbound_allow))
    wanted = before.state if state is None else _checked_state(state)
    if types is not None:
        _replace_types(session, controller_id, endpoint_id, _checked_types(types))
    changed = {"url": url or before.url, "updated_at": now}
    if wanted is not before.state:
        changed |= {"state": wanted, "state_reason": None}
    _change(session, endpoint_id, **changed)
    fields = {"endpoint": endpoint_id, "host": _host(url or before.url), "status": wanted.value}
    event_id = record(session, controller_id, EventType.ENDPOINT_CHANGED, fields, now=now, actor=actor)
    if wanted is not before.state:
        if wanted is EndpointState.ACTIVE:
            _release(session, endpoint_id, now=now)
        else:
            _hold(session, controller_id, endpoint_id, wanted, event_id, now=now)
    return get(session, controller_id, endpoint_id)


def disable(session: Session, controller_id: str, endpoint_id: str, *, status: int, reason: str, now: datetime) -> None:
    """The endpoint gets nothing more until somebody makes it active again; what it is owed is held.

    Rule: Standard Webhooks 1.0 "deliverability": 410 means that the receiver is gone.
    """
    before = _locked(session, controller_id, endpoint_id)
    if before.state is EndpointState.DISABLED:
        return
    _change(session, endpoint_id, state=EndpointState.DISABLED, state_reason=reason, updated_at=now)
    fields = {"endpoint": endpoint_id, "host": _host(before.url), "status": status, "reason": reason}
    event_id = record(session, controller_id, EventType.ENDPOINT_DISABLED, fields, now=now)
    _hold(session, controller_id, endpoint_id, EndpointState.DISABLED, event_id, now=now)


def _hold(
    session: Session, controller_id: str, endpoint_id: str, state: EndpointState, event_id: str, *, now: datetime
) -> None:
    """What the endpoint is owed waits, and the controller's other endpoints hear that it does."""
    session.execute(
        sql_update(Delivery)
        .where(Delivery.id.in_(_locked_deliveries(endpoint_id, DeliveryState.DUE)))
        .values(state=DeliveryState.HELD)
        .execution_options(**_QUIET)
    )
    data = {"endpoint": {"id": endpoint_id, "state": state.value}}
    publish(session, controller_id, PAUSED_TYPE, data, now=now, event_id=event_id)


def _release(session: Session, endpoint_id: str, *, now: datetime) -> None:
    """What was held is due now; a delivery that is under way keeps its lease, so that it is not made twice."""
    session.execute(
        sql_update(Delivery)
        .where(Delivery.id.in_(_locked_deliveries(endpoint_id, DeliveryState.HELD)))
        .values(state=DeliveryState.DUE, next_at=case((Delivery.lease_token.is_(None), now), else_=Delivery.next_at))
        .execution_options(**_QUIET)
    )


def _locked_deliveries(endpoint_id: str, *states: DeliveryState) -> ScalarSelect[str]:
    """Locked in the order in which results of attempts lock them, so that neither waits for the other."""
    query = select(Delivery.id).where(Delivery.endpoint_id == endpoint_id, Delivery.state.in_(states))
    return query.order_by(Delivery.id).with_for_update().scalar_subquery()


def delete(session: Session, controller_id: str, endpoint_id: str, *, now: datetime, actor: Actor = SYSTEM) -> None:
    """The endpoint is gone with its deliveries and attempts; the event log knows that it was there.

    Raises:
        NotFound: this controller has no such endpoint.
    """
    before = _locked(session, controller_id, endpoint_id)
    owed = select(Delivery.id).where(Delivery.endpoint_id == endpoint_id)
    # First the deliveries: whoever is writing down an attempt of one is waited for.
    session.execute(owed.order_by(Delivery.id).with_for_update())
    for statement in (
        sql_delete(Attempt).where(Attempt.delivery_id.in_(owed.scalar_subquery())),
        sql_delete(Delivery).where(Delivery.id.in_(_locked_deliveries(endpoint_id, *DeliveryState))),
        sql_delete(EndpointType).where(EndpointType.endpoint_id == endpoint_id),
        sql_delete(Endpoint).where(Endpoint.id == endpoint_id),
    ):
        session.execute(statement.execution_options(**_QUIET))
    fields = {"endpoint": endpoint_id, "host": _host(before.url)}
    record(session, controller_id, EventType.ENDPOINT_DELETED, fields, now=now, actor=actor)


def rotate(
    session: Session,
    controller_id: str,
    endpoint_id: str,
    *,
    now: datetime,
    grace: timedelta = DEFAULT_GRACE,
    actor: Actor = SYSTEM,
) -> tuple[EndpointView, str]:
    """The endpoint has a new secret; for `grace` everything is signed with the old one too, retries included.

    Returns:
        The endpoint, and the new secret, which nobody can read again.

    Raises:
        NotFound: this controller has no such endpoint.
        Invalid: the grace is not 0 to 7 days.
        Conflict: the grace of an earlier rotation still runs, and would be cut short in silence.

    Rule: Standard Webhooks 1.0 "signature scheme": several signatures, for rotation without downtime.
    """
    if not timedelta() <= grace <= MAX_GRACE:
        raise _invalid("grace", "range", "The old secret may stay valid for 0 to 7 days.")
    before = _locked(session, controller_id, endpoint_id)
    if grace and before.old_secret_until is not None and before.old_secret_until > now:
        raise Conflict("The previous secret is still valid. End its grace period first, or rotate without one.")
    secret = rules.new_secret()
    current = session.scalar(select(Endpoint.sealed_secret).where(Endpoint.id == endpoint_id))
    _change(
        session,
        endpoint_id,
        sealed_secret=session.keys.seal_own(secret.encode()),
        sealed_old_secret=current if grace else None,
        old_secret_until=now + grace if grace else None,
        updated_at=now,
    )
    _record_change(session, controller_id, before, "secret rotated", now=now, actor=actor)
    return get(session, controller_id, endpoint_id), secret


def end_grace(
    session: Session, controller_id: str, endpoint_id: str, *, now: datetime, actor: Actor = SYSTEM
) -> EndpointView:
    """From now on only the newest secret signs.

    Raises:
        NotFound: this controller has no such endpoint.
    """
    before = _locked(session, controller_id, endpoint_id)
    _change(session, endpoint_id, sealed_old_secret=None, old_secret_until=None, updated_at=now)
    _record_change(session, controller_id, before, "old secret ended", now=now, actor=actor)
    return get(session, controller_id, endpoint_id)


def test(session: Session, controller_id: str, endpoint_id: str, *, now: datetime) -> str:
    """A publication of type `endpoint.test` is due to this endpoint alone; if it fails it is not tried again.

    Returns:
        The id of the delivery, whose attempt shows the answer.

    Raises:
        NotFound: this controller has no such endpoint.
        Conflict: the endpoint is not active.
    """
    # A delivery of an endpoint that is deleted at this moment would have nothing to belong to.
    stays = select(Endpoint.id).where(Endpoint.controller_id == controller_id, Endpoint.id == endpoint_id)
    session.execute(stays.with_for_update(read=True))
    if get(session, controller_id, endpoint_id).state is not EndpointState.ACTIVE:
        raise Conflict("The endpoint is paused or disabled. Make it active first.")
    data = {"test": True, "endpoint": {"id": endpoint_id}}
    publication_id = publish(session, controller_id, TEST_TYPE, data, now=now)
    ident = f"dlv_{publication_id[4:]}_{endpoint_id.partition('_')[2]}"
    row = delivery_row(controller_id, "test", now=now)
    own = {"id": ident, "publication_id": publication_id, "endpoint_id": endpoint_id, "state": DeliveryState.DUE}
    session.put(Delivery, {**own, **row})
    return ident


def _locked(session: Session, controller_id: str, endpoint_id: str) -> EndpointView:
    """The endpoint, and nobody else changes it before the commit.

    The controller's other endpoints are locked too, as fan-out does and in its order: pausing one is told to them.
    """
    lock_all(session, [controller_id])
    return get(session, controller_id, endpoint_id)


def lock_all(session: Session, controller_ids: Collection[str]) -> None:
    """Nobody else changes an endpoint of these controllers, or publishes to one, before the commit."""
    query = select(Endpoint.id).where(Endpoint.controller_id.in_(sorted(controller_ids))).order_by(Endpoint.id)
    session.execute(query.with_for_update())


def _change(session: Session, endpoint_id: str, **values: Any) -> None:
    statement = sql_update(Endpoint).where(Endpoint.id == endpoint_id).values(**values)
    session.execute(statement.execution_options(**_QUIET))


def _record_change(
    session: Session, controller_id: str, before: EndpointView, reason: str, *, now: datetime, actor: Actor
) -> None:
    fields = {"endpoint": before.id, "host": _host(before.url), "reason": reason}
    record(session, controller_id, EventType.ENDPOINT_CHANGED, fields, now=now, actor=actor)


def _put_types(session: Session, controller_id: str, endpoint_id: str, types: Sequence[str]) -> None:
    for name in types:
        session.put(EndpointType, {"endpoint_id": endpoint_id, "type": name, "controller_id": controller_id})


def _replace_types(session: Session, controller_id: str, endpoint_id: str, types: Sequence[str]) -> None:
    statement = sql_delete(EndpointType).where(EndpointType.endpoint_id == endpoint_id)
    session.execute(statement.execution_options(**_QUIET))
    _put_types(session, controller_id, endpoint_id, types)


def _host(url: str) -> str:
    """What the log says of a URL: its path may hold a secret of the receiver."""
    return urlsplit(url).hostname or ""


def _checked_types(types: Sequence[str] | None) -> tuple[str, ...]:
    if types is None:
        return DEFAULT_TYPES
    unknown = [name for name in types if name not in TYPES]
    if unknown or not types:
        raise _invalid("types", "unknown" if unknown else "required", f"Choose from: {', '.join(TYPES)}.")
    return tuple(name for name in TYPES if name in types)


def _checked_state(state: str) -> EndpointState:
    if state not in (EndpointState.ACTIVE.value, EndpointState.PAUSED.value):
        raise _invalid("state", "unknown", "The state is active or paused.")
    return EndpointState(state)


def _checked_secret(secret: str) -> str:
    try:
        rules.parse_secret(secret)
    except ValueError as error:
        raise _invalid("secret", "invalid", f"{error}.") from None
    return secret


def _invalid(field: str, code: str, message: str) -> Invalid:
    return Invalid(message, errors=[{"field": field, "code": code, "message": message}])
