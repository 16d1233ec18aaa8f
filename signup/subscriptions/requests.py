"""Asking for a subscription: one press of the button, one commit, the same answer for everybody."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from signup.abuse import admission, domains, limits, switches
from signup.consents import actions as consents
from signup.contacts import actions as contacts
from signup.contacts.actions import Found
from signup.core.db import Session
from signup.core.signing import token_hash
from signup.core.values import new_id
from signup.eventlog.kinds import EventType
from signup.eventlog.record import client_fields, publish, record
from signup.forms import actions as forms
from signup.forms import rules as rules_of_forms
from signup.forms.rules import FormView
from signup.purposes.models import LegalBasis
from signup.subscriptions import declared, links, payload, presses, questions, rules
from signup.subscriptions.models import Confirmation, Submission, Subscription
from signup.subscriptions.presses import SignupRequest, State
from signup.subscriptions.rules import Plan, Reply
from signup.subscriptions.states import Status

# Nobody needs to be told twice a day that they are already signed up.
NOTICES = (*limits.ADDRESS_MAIL, limits.Limit(1, limits.DAY))


def request(session: Session, view: FormView, ask: SignupRequest, *, now: datetime) -> str:
    """The sign-up is on record with its evidence, and a mail is due unless a rule holds it back.

    The same press again (same form, render id, address and purposes within 24 h) changes nothing.

    Returns:
        The random handle of the page that tells the visitor what to do next, of the same shape for every address.

    Raises:
        NetworkSpent: the client's network has spent its budget; nothing is written.
        Invalid: the controller takes no addresses of this domain; nothing is written.
        SecondLook: it is doubtful, and nothing vouches for it; nothing is written.
        Outdated: the form is not what `view` says any more; nothing is written.

    Rule: GDPR 7(1); BGH I ZR 164/09 (each concrete declaration documented); GDPR 32 (nobody learns who is subscribed).
    """
    held = presses.claim(session, view, ask, now=now)
    if held.repeated:
        admission.settle(held.ticket, held.more)
        contacts.disclaim(session, held.contact)
        return held.handle
    admitted = admission.admit(session, held.ticket, held.spent, held.more, now=now)
    switches.refuse_disposable(session, view.controller.id, ask.look.signals)
    spent = held.spent[held.budget]
    state = presses.state_of(session, view, ask, held.contact.id, now=now)
    found = contacts.with_key(session, held.contact, state.wrapped_key)
    wanted = [item["id"] for item in view.purposes if item["slug"] in ask.purposes]
    plan = rules.plan_request(
        wanted=wanted,
        given=state.given,
        asked=state.asked(view, now),
        suppressed=state.suppressed,
        cap_wait_seconds=limits.remaining_seconds(spent, limits.ADDRESS_MAIL, now=now),
        notice_wait_seconds=limits.remaining_seconds(spent, NOTICES, now=now),
        role=domains.is_role(ask.email.comparable),
        attacked=admitted.held,
    )
    _carry_out(session, view, ask, found, state, plan, now=now)
    if plan.reply is not Reply.HOLD:
        limits.save(session, held.budget, limits.spend(spent, limits.ADDRESS_MAIL, now=now))
    if not found.fresh:
        session.change(Submission, {"handle": held.handle}, {"contact_id": found.contact_id})
    return held.handle


def _carry_out(
    session: Session,
    view: FormView,
    ask: SignupRequest,
    found: Found,
    state: State,
    plan: Plan,
    *,
    now: datetime,
) -> None:
    if state.subscription and plan.reason and (plan.blocked or not plan.confirm):
        # A block: somebody else may be typing this address, so what we hold about its owner stays as it is.
        # A cap of notices: the owner has been told today.
        kind = "confirm" if plan.blocked else "already"
        questions.hold(session, view, found, kind, plan.reason, about=None, now=now)
        _record_request(session, view, ask, found, plan, {}, now=now)
    elif state.subscription and plan.reply is Reply.NOTICE:
        message_id = questions.queue_notice(
            session,
            view,
            found,
            (state.subscription.id, state.subscription.epoch),
            state.given,
            page_host=_host(view, ask),
            now=now,
        )
        _record_request(session, view, ask, found, plan, {"message_id": message_id}, now=now)
    else:
        _ask(session, view, ask, found, state, plan, now=now)


def _ask(
    session: Session,
    view: FormView,
    ask: SignupRequest,
    found: Found,
    state: State,
    plan: Plan,
    *,
    now: datetime,
) -> None:
    """The consents are requested, and one question about them is open."""
    standing = _subscription_requested(session, view, found, state.subscription, now=now)
    items = _items(session, view, state.open, plan.confirm)
    waiting = state.open if plan.reply is Reply.HOLD and state.waiting(now) else None
    act_id = waiting.act_id if waiting else new_id("act", now)
    question = consents.Ask(
        contact_id=found.contact_id,
        subscription_id=standing.id,
        epoch=standing.epoch,
        act_id=act_id,
        legal_basis=LegalBasis.CONSENT.value,
        origin=presses.origin(view, ask),
        form_version_id=view.version_id,
        # While the mail that asked before still counts, what it asked keeps its wording.
        purposes=[item for item in items if waiting is None or item["id"] not in waiting.purpose_ids],
    )
    consents.ask(session, view.controller.id, question, now=now)
    told = declared.sealed(session, found.subject, state.open.told if state.open else None, ask.fields)
    if waiting:
        link: dict[str, Any] = {"confirmation": waiting.id}
        if ask.fields:
            session.change(Confirmation, {"id": waiting.id}, {"told": told})
        questions.hold(session, view, found, "confirm", plan.reason or "", about=waiting.id, now=now)
    else:
        asked = questions.Asked(standing.id, act_id, _host(view, ask), plan.reason, told, plan.quarantined)
        link = questions.open_confirmation(
            session, view, found, items, asked, replaces=state.open.id if state.open else None, now=now
        )
    more = {**link, "consent": act_id, "subscription": standing.id}
    event_id = _record_request(session, view, ask, found, plan, more, now=now)
    _publish_request(session, view, ask, found, standing, (act_id, items, event_id), now=now)


def _publish_request(
    session: Session,
    view: FormView,
    ask: SignupRequest,
    found: Found,
    standing: payload.Standing,
    act_of: tuple[str, Sequence[Mapping[str, str]], str],
    *,
    now: datetime,
) -> None:
    """The request is told to the outside, without the address: nobody confirmed it yet."""
    act_id, items, event_id = act_of
    basis = LegalBasis.CONSENT.value
    act = payload.requested(
        session, found.contact_id, act_id, items, origin=presses.origin(view, ask), legal_basis=basis, now=now
    )
    data = {**payload.data(session, standing, None, [], []), "consent": act}
    publish(
        session, view.controller.id, "subscription.requested", data, now=now, event_id=event_id, subject=found.subject
    )


def _subscription_requested(
    session: Session, view: FormView, found: Found, held: presses.Known | None, *, now: datetime
) -> payload.Standing:
    """A subscription that is not active is requested from now on; an active one stays untouched."""
    if held is None:
        return _new_subscription(session, view, found, now=now)
    if held.status is Status.ACTIVE:
        ground = held.ground.value if held.ground else None
        settings = (held.frequency, held.paused_until)
        return payload.Standing(
            held.id, found.contact_id, held.status.value, ground, held.version, held.epoch, *settings
        )
    changes = {
        "status": Status.REQUESTED,
        "ground": None,
        "end_reason": None,
        "ended_by": None,
        "ended_at": None,
        "flagged": False,
        "version": held.version + 1,
        "requested_at": now,
        "updated_at": now,
    }
    session.change(Subscription, {"id": held.id}, changes)
    return payload.Standing(held.id, found.contact_id, Status.REQUESTED.value, None, held.version + 1, held.epoch)


def _new_subscription(session: Session, view: FormView, found: Found, *, now: datetime) -> payload.Standing:
    ident = new_id("sub", now)
    row = {
        "id": ident,
        "controller_id": view.controller.id,
        "contact_id": found.contact_id,
        "status": Status.REQUESTED,
        "ground": None,
        "end_reason": None,
        "flagged": False,
        "version": 1,
        "epoch": 1,
        "link_hash": token_hash(links.unsubscribe_id(session, ident, 1)),
        "requested_at": now,
        "updated_at": now,
    }
    session.put(Subscription, row)
    return payload.Standing(ident, found.contact_id, Status.REQUESTED.value, None, 1, 1)


def _items(
    session: Session, view: FormView, open_: presses.Question | None, purpose_ids: Sequence[str]
) -> list[Mapping[str, str]]:
    """The wording of these purposes: from this version of the form, else from the one the person saw before."""
    known: dict[str, Mapping[str, str]] = {}
    if open_ is not None and open_.form_version_id != view.version_id:
        known = {item["id"]: item for item in forms.by_version_id(session, open_.form_version_id).purposes}
    known.update({item["id"]: item for item in view.purposes})
    return [known[ident] for ident in purpose_ids if ident in known]


def _record_request(
    session: Session,
    view: FormView,
    ask: SignupRequest,
    found: Found,
    plan: Plan,
    more: Mapping[str, Any],
    *,
    now: datetime,
) -> str:
    fields = {
        "email": ask.email.typed,
        "form": view.slug,
        "form_version": view.version,
        "form_version_stated": ask.stated_version is not None,
        "form_sha256": view.sha256,
        "locale": view.locale,
        "page": ask.page,
        "origin_header": ask.origin_header,
        "legal_basis": LegalBasis.CONSENT.value,
        "origin": presses.origin(view, ask),
        "attribution": dict(ask.attribution) if ask.attribution else None,
        "reason": rules.UNDER_ATTACK if plan.quarantined else plan.reason,
        "signals": ask.look.told,
        "source": ask.look.source or None,
        **view.disclosed,
        "boxes": [
            {"purpose": item["slug"], "default": False, "submitted": item["slug"] in ask.purposes}
            for item in view.purposes
        ],
        **client_fields(ask.client),
        **more,
    }
    kind, subject = EventType.SUBSCRIPTION_REQUESTED, found.subject
    return record(session, view.controller.id, kind, fields, now=now, subject=subject, actor=ask.actor)


def _host(view: FormView, ask: SignupRequest) -> str | None:
    """Host of the embedding page, when staff listed it: what a stranger's header says is not repeated in a mail."""
    if not ask.origin_header or not rules_of_forms.listed(view.allowed_origins, ask.origin_header):
        return None
    return ask.origin_header.partition("://")[2]
