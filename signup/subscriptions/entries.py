"""Subscriptions that a program enters for somebody, and ends for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from sqlalchemy import select

from signup.consents import actions as consents
from signup.consents.models import ConsentState
from signup.contacts import actions as contacts
from signup.contacts import entries as contact_entries
from signup.contacts.actions import Found
from signup.core.db import Session
from signup.core.errors import Conflict, Invalid, NotFound
from signup.core.signing import token_hash
from signup.core.values import Actor, ClientInfo, EmailAddress, new_id
from signup.eventlog.kinds import EventType
from signup.eventlog.record import client_fields, publish, record
from signup.forms import actions as forms
from signup.forms.rules import FormView
from signup.purposes import actions as purposes
from signup.purposes.models import LegalBasis
from signup.subscriptions import declared, endings, links, payload, presses, requests
from signup.subscriptions.models import Subscription
from signup.subscriptions.states import EndReason, Frequency, Ground, Status

GROUNDS = {LegalBasis.CONTRACT: Ground.CONTRACT, LegalBasis.SOFT_OPT_IN: Ground.SOFT_OPT_IN}

END_REASONS = {item.value: item for item in EndReason}
MAX_FORMS = 1000


@dataclass(frozen=True)
class Entry:
    """Who is entered, for what, how they came about and why we may write to them."""

    email: EmailAddress
    form: str | None
    purposes: tuple[str, ...]  # slugs; empty: all of the form's
    locale: str | None
    origin: Mapping[str, Any]  # type, detail, collected_by
    legal_basis: LegalBasis
    fields: Mapping[str, str | bool] = field(default_factory=dict)  # said by the person, declared by the form


@dataclass(frozen=True)
class Entered:
    id: str
    status: Status


@dataclass(frozen=True)
class Caller:
    """Which program entered it, from where."""

    actor: Actor
    client: ClientInfo


def enter(session: Session, controller_id: str, entry: Entry, caller: Caller, *, now: datetime) -> Entered:
    """Consent is asked for by mail as on the form; a contract or a soft opt-in makes the subscription active at once.

    Raises:
        Invalid: form, purposes, fields or legal basis cannot carry it; the error names the field.
        Conflict: the address is suppressed, or its owner ended the subscription.

    Rule: GDPR 7(1); Directive 2002/58/EC 13(1) and 13(2): legitimate interest alone permits no mail.
    """
    if entry.legal_basis is LegalBasis.LEGITIMATE_INTEREST:
        raise _invalid("legal_basis", "no-ground-for-mail", "Legitimate interest alone does not permit mail.")
    contact_entries.refuse_suppressed(session, controller_id, entry.email, now=now)
    caller = replace(caller, client=_labelled(caller))
    if entry.legal_basis is LegalBasis.CONSENT:
        return _ask(session, controller_id, entry, caller, now=now)
    return _activate(session, controller_id, entry, caller, now=now)


def _labelled(caller: Caller) -> ClientInfo:
    # The proof must not read as if this were the person's own connection.
    return replace(caller.client, ip_source=f"program that entered it; {caller.client.ip_source}")


def _ask(session: Session, controller_id: str, entry: Entry, caller: Caller, *, now: datetime) -> Entered:
    view = _form(session, controller_id, entry)
    offered = [item["slug"] for item in view.purposes]
    _known(entry.purposes, offered)
    ask = presses.SignupRequest(
        email=entry.email,
        purposes=tuple(slug for slug in offered if slug in (entry.purposes or offered)),
        render_id=None,
        stated_version=None,
        client=caller.client,
        origin_header=None,
        page=None,
        actor=caller.actor,
        origin=entry.origin,
        fields=declared.checked(view, entry.fields),
    )
    requests.request(session, view, ask, now=now)
    found = contacts.find(session, controller_id, entry.email)
    row = session.execute(
        select(Subscription.id, Subscription.status).where(Subscription.contact_id == (found.id if found else None))
    ).one()
    return Entered(row.id, row.status)


def _form(session: Session, controller_id: str, entry: Entry) -> FormView:
    """The form whose question is mailed: the named one, else the first open one with these purposes.

    Raises:
        Invalid: there is none.
    """
    if entry.form is not None:
        return _named_form(session, controller_id, entry.form)
    if not entry.purposes:
        raise _invalid("purposes", "required", "Say what the mails are for: `purposes`, or a `form`.")
    _known(entry.purposes, list(purposes.named(session, controller_id, entry.purposes)))
    for view in forms.listed(session, controller_id, limit=MAX_FORMS):
        offers = set(entry.purposes) <= {item["slug"] for item in view.purposes}
        if offers and not view.closed and entry.locale in (None, view.locale):
            return view
    raise _invalid("form", "required", "Consent is asked for with a form's words, and no open form fits: name one.")


def _named_form(session: Session, controller_id: str, slug: str) -> FormView:
    unknown = _invalid("form", "unknown", "There is no such form.")
    try:
        view = forms.in_force(session, slug)
    except NotFound:
        raise unknown from None
    if view.controller.id != controller_id:
        raise unknown
    if view.closed:
        raise _invalid("form", "closed", "This form is closed.")
    return view


def _known(wanted: Sequence[str], offered: Sequence[str]) -> None:
    unknown = [slug for slug in wanted if slug not in offered]
    if unknown:
        others = f", only {', '.join(offered)}" if offered else ""
        raise _invalid("purposes", "unknown", f"There is no {', '.join(unknown)} here{others}.")


def _activate(session: Session, controller_id: str, entry: Entry, caller: Caller, *, now: datetime) -> Entered:
    wanted, said = _wanted(session, controller_id, entry), _said(session, controller_id, entry)
    new = contacts.NewContact(entry.email, entry.locale or "en", entry.origin, entry.legal_basis)
    found = contacts.find_or_add(session, controller_id, new, now=now)
    held = session.scalars(select(Subscription).where(Subscription.contact_id == found.contact_id)).first()
    if held is not None and held.status is Status.ENDED:
        raise Conflict("The person ended this subscription. Only they can start it again.", code="ended")
    given = {
        item.purpose_id
        for item in consents.of_contact(session, controller_id, found.contact_id)
        if item.state is ConsentState.GIVEN
    }
    items = [item for item in wanted if item["id"] not in given]
    known = contacts.get(session, controller_id, found.contact_id).fields if said else {}
    news = {name: value for name, value in said.items() if known.get(name) != value}
    if held is not None and held.status is Status.ACTIVE and not items and not news:
        return Entered(held.id, held.status)
    if found.fresh:
        contact_entries.tell_created(
            session, controller_id, found.subject, new, client=caller.client, actor=caller.actor, now=now
        )
    step = _activated(session, controller_id, found, held, GROUNDS[entry.legal_basis], now=now)
    _permit(session, controller_id, entry, step, items, now=now)
    if news:
        contacts.learn(session, found.contact_id, news, now=now)
    _tell(session, controller_id, entry, found, replace(step, said=news), caller, now=now)
    return Entered(step.standing.id, Status.ACTIVE)


@dataclass(frozen=True)
class _Step:
    """One change of a subscription: what it is called, where it led, and the act that its consents share."""

    kind: EventType
    standing: payload.Standing
    act_id: str
    said: Mapping[str, Any] = field(default_factory=dict)  # what the contact's fields learned by it


def _said(session: Session, controller_id: str, entry: Entry) -> dict[str, Any]:
    if entry.form is not None and entry.fields:
        return declared.checked(_named_form(session, controller_id, entry.form), entry.fields)
    if entry.fields:
        raise _invalid("form", "required", "Fields are those of a form: name it.")
    return {}


def _wanted(session: Session, controller_id: str, entry: Entry) -> list[dict[str, str]]:
    """The purposes as consent rows need them. No wording: none was shown to the person."""
    slugs = entry.purposes
    if entry.form is not None:
        offered = tuple(item["slug"] for item in _named_form(session, controller_id, entry.form).purposes)
        _known(slugs, offered)
        slugs = slugs or offered
    if not slugs:
        raise _invalid("purposes", "required", "Say what the mails are for: `purposes`, or a `form`.")
    known = purposes.named(session, controller_id, slugs)
    _known(slugs, list(known))
    return [
        {
            "id": known[slug].id,
            "slug": slug,
            "topic": known[slug].topic,
            "text": "",
            "text_sha256": purposes.text_sha256(""),
        }
        for slug in dict.fromkeys(slugs)
    ]


def _activated(
    session: Session, controller_id: str, found: Found, held: Subscription | None, ground: Ground, *, now: datetime
) -> _Step:
    """The subscription is active; one that was active before keeps its ground."""
    act_id = new_id("act", now)
    if held is None:
        ident = new_id("sub", now)
        row = {
            "id": ident,
            "controller_id": controller_id,
            "contact_id": found.contact_id,
            "status": Status.ACTIVE,
            "ground": ground,
            "end_reason": None,
            "flagged": False,
            "version": 1,
            "epoch": 1,
            "link_hash": token_hash(links.unsubscribe_id(session, ident, 1)),
            "requested_at": now,
            "activated_at": now,
            "updated_at": now,
        }
        session.put(Subscription, row)
        standing = payload.Standing(ident, found.contact_id, Status.ACTIVE.value, ground.value, 1, 1)
        return _Step(EventType.SUBSCRIPTION_ACTIVATED, standing, act_id)
    version = held.version + 1
    changes: dict[str, Any] = {"version": version, "updated_at": now}
    was_active = held.status is Status.ACTIVE
    if not was_active:
        fresh = {"frequency": Frequency.ALL, "paused_until": None}
        changes |= {"status": Status.ACTIVE, "ground": ground, "activated_at": now, "ended_at": None, **fresh}
    session.change(Subscription, {"id": held.id}, changes)
    stands_on = (held.ground if was_active else None) or ground
    settings = (held.frequency, held.paused_until) if was_active else ()
    standing = payload.Standing(
        held.id, found.contact_id, Status.ACTIVE.value, stands_on.value, version, held.epoch, *settings
    )
    kind = EventType.SUBSCRIPTION_UPDATED if was_active else EventType.SUBSCRIPTION_ACTIVATED
    return _Step(kind, standing, act_id)


def _permit(
    session: Session,
    controller_id: str,
    entry: Entry,
    step: _Step,
    items: Sequence[Mapping[str, str]],
    *,
    now: datetime,
) -> None:
    question = consents.Ask(
        contact_id=step.standing.contact_id,
        subscription_id=step.standing.id,
        epoch=step.standing.epoch,
        act_id=step.act_id,
        legal_basis=entry.legal_basis.value,
        origin=entry.origin,
        form_version_id=None,
        purposes=items,
    )
    consents.ask(session, controller_id, question, given=True, now=now)


def _tell(
    session: Session, controller_id: str, entry: Entry, found: Found, step: _Step, caller: Caller, *, now: datetime
) -> None:
    standing = step.standing
    held = consents.of_contact(session, controller_id, found.contact_id)
    known = contacts.get(session, controller_id, found.contact_id).fields
    act = [item for item in held if item.act_id == step.act_id]
    fields = {
        "email": entry.email.typed,
        "subscription": standing.id,
        "consent": step.act_id,
        "ground": standing.ground,
        "legal_basis": entry.legal_basis.value,
        "origin": dict(entry.origin),
        "purposes": [item.slug for item in act],
        "fields": dict(step.said) or None,
        **contact_entries.late(entry.origin, now=now),
        **client_fields(caller.client),
    }
    event_id = record(session, controller_id, step.kind, fields, now=now, subject=found.subject, actor=caller.actor)
    data = payload.data(session, standing, found.email, held, act, fields=known)
    publish(session, controller_id, step.kind.value, data, now=now, event_id=event_id, subject=found.subject)


def end(
    session: Session, controller_id: str, subscription_id: str, reason: EndReason, caller: Caller, *, now: datetime
) -> bool:
    """The subscription has ended with this reason, and the address is suppressed accordingly.

    Returns:
        Whether anything changed.

    Raises:
        NotFound: this controller has no such subscription.

    Rule: GDPR 7(3), 21(2) and (3).
    """
    order = endings.load(session, subscription_id, controller_id=controller_id)
    ended = endings.end(
        session, order, endings.Ending(reason, "api"), client=_labelled(caller), actor=caller.actor, now=now
    )
    if ended and reason is EndReason.OBJECTED:
        fields = {"subscription": subscription_id, "method": "api"}
        event_id = record(
            session,
            controller_id,
            EventType.CONTACT_OBJECTED,
            fields,
            now=now,
            subject=order.subject,
            actor=caller.actor,
        )
        contact = {
            "id": order.subject.contact_id,
            "email": order.email,
            "external_ids": {},
            "fields": dict(order.fields),
        }
        data = {"contact": contact, "field_locks": []}
        publish(session, controller_id, "contact.objected", data, now=now, event_id=event_id, subject=order.subject)
    return ended


def _invalid(field: str, code: str, message: str) -> Invalid:
    return Invalid(message, errors=[{"field": field, "code": code, "message": message}])
