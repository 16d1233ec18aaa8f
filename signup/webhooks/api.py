"""Webhook endpoints and deliveries, for programs."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Literal

from msgspec import Meta, Struct, structs

from signup.core.db import Session
from signup.web import api
from signup.web.api import Call, Line, ListQuery, Page
from signup.webhooks import deliveries, endpoints
from signup.webhooks.deliveries import STATES, AttemptView, DeliveryView
from signup.webhooks.endpoints import EndpointView

blueprint = api.blueprint("webhooks")

Types = Annotated[list[Line], Meta(max_length=50, description="Event types; the documentation of webhooks lists them.")]
Url = Annotated[
    str, Meta(min_length=1, max_length=2000, description="Where to POST; https, and not a private address.")
]


class NewEndpoint(Struct, forbid_unknown_fields=True):
    url: Url
    types: Annotated[Types | None, Meta(description="All but `subscription.requested` if not given.")] = None


class EndpointChange(Struct, forbid_unknown_fields=True):
    """What is not given stays."""

    url: Url | None = None
    types: Types | None = None
    state: Annotated[
        Literal["active", "paused"] | None, Meta(description="While paused, deliveries are held; none is dropped.")
    ] = None


class Rotation(Struct, forbid_unknown_fields=True):
    grace_hours: Annotated[int, Meta(ge=0, le=168, description="How long the old secret signs too.")] = 24


class Endpoint(Struct):
    id: str
    url: str
    types: list[str]
    state: str
    state_reason: str | None
    old_secret_until: datetime | None
    created_at: datetime
    updated_at: datetime


class EndpointWithSecret(Endpoint):
    secret: Annotated[str, Meta(description="Signs every delivery. Shown this once.")]


class Attempt(Struct):
    """One POST and what came back."""

    number: int
    trigger: str
    started_at: datetime
    milliseconds: int
    ip: str | None
    status: int | None
    error: str | None
    response_body: str | None
    next_at: datetime | None


class Delivery(Struct):
    id: str
    endpoint_id: str
    event_id: Annotated[str, Meta(description="The `id` of the envelope, the same in the header `webhook-id`.")]
    type: str
    state: str
    trigger: str
    attempt: int
    next_at: datetime | None
    created_at: datetime
    finished_at: datetime | None
    attempts: list[Attempt]


class Queued(Struct):
    delivery_id: str


class DeliveryQuery(ListQuery, kw_only=True):
    endpoint: Annotated[str, Meta(pattern=r"^[A-Za-z0-9_-]{1,100}(?![\s\S])")] | None = None
    state: Literal["due", "held", "delivered", "dead"] | None = None


@api.operation(blueprint, "POST", "/webhook-endpoints", scope="webhooks.write", status=201)
def create_endpoint(session: Session, call: Call, body: NewEndpoint) -> EndpointWithSecret:
    """Add a webhook endpoint; its secret is shown this once."""
    view, secret = endpoints.create(session, call.controller_id, body.url, body.types, now=call.now, actor=call.actor)
    return _with_secret(view, secret)


@api.operation(blueprint, "GET", "/webhook-endpoints", scope="webhooks.read")
def list_endpoints(session: Session, call: Call, query: ListQuery) -> Page[Endpoint]:
    """List webhook endpoints."""
    after = api.position("endpoints", query)
    found = endpoints.page(session, call.controller_id, after=after, limit=query.limit + 1)
    return api.page("endpoints", query, [_shown(view) for view in found], lambda item: item.id)


@api.operation(blueprint, "GET", "/webhook-endpoints/<endpoint_id>", scope="webhooks.read")
def get_endpoint(session: Session, call: Call, endpoint_id: str) -> Endpoint:
    """Read one webhook endpoint."""
    return _shown(endpoints.get(session, call.controller_id, endpoint_id))


@api.operation(blueprint, "PATCH", "/webhook-endpoints/<endpoint_id>", scope="webhooks.write")
def change_endpoint(session: Session, call: Call, body: EndpointChange, endpoint_id: str) -> Endpoint:
    """Change, pause or resume a webhook endpoint.

    Making it active sends everything that was held.
    """
    view = endpoints.update(
        session,
        call.controller_id,
        endpoint_id,
        now=call.now,
        url=body.url,
        types=body.types,
        state=body.state,
        actor=call.actor,
    )
    return _shown(view)


@api.operation(blueprint, "DELETE", "/webhook-endpoints/<endpoint_id>", scope="webhooks.write", status=204)
def delete_endpoint(session: Session, call: Call, endpoint_id: str) -> None:
    """Remove a webhook endpoint with its deliveries."""
    endpoints.delete(session, call.controller_id, endpoint_id, now=call.now, actor=call.actor)


@api.operation(blueprint, "POST", "/webhook-endpoints/<endpoint_id>/test", scope="webhooks.write", status=202)
def test_endpoint(session: Session, call: Call, endpoint_id: str) -> Queued:
    """Send an `endpoint.test` to this endpoint alone; the delivery shows what came back."""
    return Queued(endpoints.test(session, call.controller_id, endpoint_id, now=call.now))


@api.operation(blueprint, "POST", "/webhook-endpoints/<endpoint_id>/rotate", scope="webhooks.write")
def rotate_secret(session: Session, call: Call, body: Rotation, endpoint_id: str) -> EndpointWithSecret:
    """Give a webhook endpoint a new secret; the old one signs along for a while."""
    view, secret = endpoints.rotate(
        session,
        call.controller_id,
        endpoint_id,
        now=call.now,
        grace=timedelta(hours=body.grace_hours),
        actor=call.actor,
    )
    return _with_secret(view, secret)


@api.operation(blueprint, "GET", "/deliveries", scope="webhooks.read")
def list_deliveries(session: Session, call: Call, query: DeliveryQuery) -> Page[Delivery]:
    """List deliveries with their attempts."""
    found = deliveries.page(
        session,
        call.controller_id,
        after=api.position("deliveries", query),
        limit=query.limit + 1,
        endpoint_id=query.endpoint,
        state=STATES[query.state] if query.state else None,
    )
    return api.page("deliveries", query, [_delivery(view) for view in found], lambda item: item.id)


@api.operation(blueprint, "GET", "/deliveries/<delivery_id>", scope="webhooks.read")
def get_delivery(session: Session, call: Call, delivery_id: str) -> Delivery:
    """Read one delivery with its attempts."""
    return _delivery(deliveries.get(session, call.controller_id, delivery_id))


@api.operation(blueprint, "POST", "/deliveries/<delivery_id>/resend", scope="webhooks.write", status=202)
def resend_delivery(session: Session, call: Call, delivery_id: str) -> Delivery:
    """Send a delivery again: same id, same bytes."""
    return _delivery(deliveries.resend(session, call.controller_id, delivery_id, now=call.now))


def _shown(view: EndpointView) -> Endpoint:
    return Endpoint(
        id=view.id,
        url=view.url,
        types=list(view.types),
        state=view.state.value,
        state_reason=view.state_reason,
        old_secret_until=view.old_secret_until,
        created_at=view.created_at,
        updated_at=view.updated_at,
    )


def _with_secret(view: EndpointView, secret: str) -> EndpointWithSecret:
    return EndpointWithSecret(**structs.asdict(_shown(view)), secret=secret)


def _delivery(view: DeliveryView) -> Delivery:
    return Delivery(
        id=view.id,
        endpoint_id=view.endpoint_id,
        event_id=view.publication_id,
        type=view.type,
        state=view.state.value,
        trigger=view.trigger,
        attempt=view.attempt,
        next_at=view.next_at,
        created_at=view.created_at,
        finished_at=view.finished_at,
        attempts=[_attempt(item) for item in view.attempts],
    )


def _attempt(view: AttemptView) -> Attempt:
    return Attempt(
        number=view.number,
        trigger=view.trigger,
        started_at=view.started_at,
        milliseconds=view.milliseconds,
        ip=view.ip,
        status=view.status,
        error=view.error,
        response_body=view.response_body.decode(errors="replace") if view.response_body is not None else None,
        next_at=view.next_at,
    )
