"""Subscriptions, for programs."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from msgspec import Meta, Struct

from signup.core.db import Session
from signup.core.errors import NotFound
from signup.core.values import EmailAddress
from signup.forms import actions as forms
from signup.purposes.actions import LEGAL_BASES
from signup.subscriptions import entries, listing, versions
from signup.subscriptions.entries import END_REASONS, Caller
from signup.subscriptions.listing import STATUSES, Row
from signup.web import api
from signup.web.api import Call, ListQuery, Page
from signup.web.shapes import Basis, Email, Locale, Origin, Slug, address, as_dict

blueprint = api.blueprint("subscriptions")


class SubscriptionQuery(ListQuery, kw_only=True):
    email: Email | None = None
    status: Literal["requested", "active", "ended", "expired", "refused"] | None = None


class NewSubscription(Struct, forbid_unknown_fields=True):
    """Who should hear of what, how they came about, and why we may write."""

    email: Email
    origin: Origin
    legal_basis: Basis
    form: Annotated[Slug | None, Meta(description="The form whose words are mailed when consent is the basis.")] = None
    purposes: Annotated[
        list[Slug], Meta(max_length=50, description="Slugs of purposes; none means all of the form's.")
    ] = []
    fields: Annotated[
        dict[str, str | bool],
        Meta(
            description="What the person said in the form's declared fields, by the form's rules.",
            examples=[{"first_name": "Anna", "printed": True}],
        ),
    ] = {}
    locale: Annotated[Locale | None, Meta(description="Chooses among forms, or the language of the contact.")] = None


class Accepted(Struct):
    id: str
    status: str


class Ending(Struct, forbid_unknown_fields=True):
    reason: Annotated[
        Literal["unsubscribed", "withdrawn", "objected", "bounced", "complained"],
        Meta(description="An objection, a bounce or a complaint also blocks the address."),
    ] = "unsubscribed"


class Subscription(Struct):
    id: str
    contact_id: str
    email: str
    status: str
    ground: str | None
    end_reason: str | None
    version: int
    purposes: Annotated[list[str], Meta(description="Slugs of the purposes with a consent in force.")]
    requested_at: datetime
    activated_at: datetime | None
    confirmed_at: datetime | None
    ended_at: datetime | None
    origin: dict[str, Any]
    legal_basis: str
    proof_url: str
    list_unsubscribe: Annotated[str, Meta(description="The value of a List-Unsubscribe header, ready to use.")]
    list_unsubscribe_post: str
    frequency: Annotated[str, Meta(description="How often the person wants to hear from you: all or monthly.")]
    paused_until: Annotated[
        datetime | None, Meta(description="Send nothing before; the consent goes on. A time that is over is no pause.")
    ]
    preferences_url: Annotated[str, Meta(description="Where the person sets topics, frequency and pause.")]
    fields: Annotated[dict[str, Any], Meta(description="What the contact said in declared fields, by name.")]


@api.operation(blueprint, "GET", "/subscriptions", scope="subscriptions.read")
def list_subscriptions(session: Session, call: Call, query: SubscriptionQuery) -> Page[Subscription]:
    """List subscriptions, or find one by its address."""
    found = listing.page(
        session,
        call.controller_id,
        after=api.position("subscriptions", query),
        limit=query.limit + 1,
        email=address(query.email),
        status=STATUSES[query.status] if query.status else None,
    )
    return api.page("subscriptions", query, [_shown(row) for row in found], lambda item: item.id)


@api.operation(blueprint, "POST", "/subscriptions", scope="subscriptions.write", status=202)
def create_subscription(session: Session, call: Call, body: NewSubscription) -> Accepted:
    """Ask a person for consent, or subscribe a customer.

    With `gdpr-6-1-a` the person gets the form's confirmation mail, and nothing else until they confirm. A contract \
(`gdpr-6-1-b`) or a soft opt-in (`eprivacy-13-2`) makes the subscription active at once. Legitimate interest alone \
(`gdpr-6-1-f`) does not permit mail. A suppressed address is refused with 409 and the reason.
    """
    entry = entries.Entry(
        email=EmailAddress.parse(body.email),
        form=body.form,
        purposes=tuple(body.purposes),
        locale=body.locale,
        origin=as_dict(body.origin, now=call.now),
        legal_basis=LEGAL_BASES[body.legal_basis],
        fields=body.fields,
    )
    made = entries.enter(session, call.controller_id, entry, Caller(call.actor, call.client), now=call.now)
    return Accepted(made.id, made.status.value)


@api.operation(blueprint, "POST", "/subscriptions/<subscription_id>/end", scope="subscriptions.write")
def end_subscription(session: Session, call: Call, body: Ending, subscription_id: str) -> Subscription:
    """End a subscription.

    Ending one that is not active changes nothing. Only the person can start it again.
    """
    caller = Caller(call.actor, call.client)
    entries.end(session, call.controller_id, subscription_id, END_REASONS[body.reason], caller, now=call.now)
    return _shown(listing.get(session, call.controller_id, subscription_id))


def _shown(row: Row) -> Subscription:
    return Subscription(
        id=row.id,
        contact_id=row.contact_id,
        email=row.email,
        status=row.status.value,
        ground=row.ground.value if row.ground else None,
        end_reason=row.end_reason,
        version=row.version,
        purposes=row.purposes,
        requested_at=row.requested_at,
        activated_at=row.activated_at,
        confirmed_at=row.confirmed_at,
        ended_at=row.ended_at,
        origin=row.origin,
        legal_basis=row.legal_basis,
        proof_url=row.proof_url,
        list_unsubscribe=row.list_unsubscribe,
        list_unsubscribe_post=row.list_unsubscribe_post,
        frequency=row.frequency.value,
        paused_until=row.paused_until,
        preferences_url=row.preferences_url,
        fields=row.fields,
    )


class VersionUse(Struct):
    """A version of a form by which people have signed up lately."""

    version: int
    outdated: Annotated[bool, Meta(description="A copy of it stands somewhere and should be pasted anew.")]
    requests: int
    last_at: datetime


class FormUse(Struct):
    slug: str
    live_version: int
    days: int
    versions: list[VersionUse]


@api.operation(blueprint, "GET", "/forms/<slug>/versions", scope="forms.read")
def read_form_use(session: Session, call: Call, slug: str) -> FormUse:
    """Read which versions of a form people signed up with in the last 30 days."""
    view = forms.in_force(session, slug)
    if view.controller.id != call.controller_id:
        raise NotFound("There is no such form.")
    found = versions.seen(session, call.controller_id, slug=slug, now=call.now)
    shown = [VersionUse(item.version, item.outdated, item.requests, item.last_at) for item in found]
    return FormUse(slug, view.live_version, versions.DAYS, shown)
