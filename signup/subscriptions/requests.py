"""Asking for a subscription: one press of the button, one commit, the same answer for everybody."""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import case, select

from signup.abuse import limits
from signup.consents import actions as consents
from signup.consents.models import Consent, ConsentState
from signup.contacts import actions as contacts
from signup.contacts.actions import Found
from signup.contacts.models import Contact, DataKey
from signup.core.db import KEEP_QUEUE, Session, upsert
from signup.core.errors import NetworkSpent
from signup.core.signing import token_hash
from signup.core.values import PERSON, Actor, ClientInfo, EmailAddress, new_id
from signup.eventlog.kinds import EventType
from signup.eventlog.record import client_fields, publish, record
from signup.forms import actions as forms
from signup.forms import rules as rules_of_forms
from signup.forms.rules import FormView
from signup.purposes.models import LegalBasis
from signup.subscriptions import links, payload, questions, rules
from signup.subscriptions.models import Confirmation, Submission, Subscription
from signup.subscriptions.rules import Plan, Reply
from signup.subscriptions.states import ConfirmationState, Status
from signup.suppression import actions as suppression

# A double click or a lost answer is repeated within minutes; a day covers a sleeping laptop.
SAME_PRESS_HOURS = 24
# Nobody needs to be told twice a day that they are already signed up.
NOTICES = (*limits.ADDRESS_MAIL, limits.Limit(1, limits.DAY))


@dataclass(frozen=True)
class SignupRequest:
    """One checked press of the button."""

    email: EmailAddress
    purposes: tuple[str, ...]  # slugs, ticked by the visitor
    render_id: str | None
    stated_version: int | None
    client: ClientInfo
    origin_header: str | None
    page: str | None  # the embedding page without its query
    actor: Actor = PERSON
    origin: Mapping[str, Any] | None = None  # how the contact came about, when a program says so


def _origin(view: FormView, ask: SignupRequest) -> dict[str, Any]:
    return dict(ask.origin or {"type": "form", "detail": view.slug, "collected_by": None})


IN_PLAY = (ConsentState.GIVEN, ConsentState.REQUESTED)


@dataclass(frozen=True)
class State:
    """What we hold about the address when the request arrives."""

    subscription: Subscription | None
    given: frozenset[str]
    requested: frozenset[str]
    open: Confirmation | None
    wrapped_key: bytes | None

    def waiting(self, now: datetime) -> bool:
        """Whether a question can still be answered; one that ran out counts as none."""
        return self.open is not None and now < self.open.expires_at

    def asked(self, view: FormView, now: datetime) -> list[str]:
        """What is asked and not answered: by the open question, or held back by a cap behind it."""
        if self.open is None or not self.waiting(now):
            return []
        held_back = [item["id"] for item in view.purposes if item["id"] in self.requested]
        return list(dict.fromkeys([*self.open.purpose_ids, *held_back]))


def request(session: Session, view: FormView, ask: SignupRequest, *, now: datetime) -> str:
    """The sign-up is on record with its evidence, and a mail is due unless a rule holds it back.

    The same press again (same form, render id, address and purposes within 24 h) changes nothing.

    Returns:
        The random handle of the page that tells the visitor what to do next, of the same shape for every address.

    Raises:
        NetworkSpent: the client's network has spent its budget; nothing is written.

    Rule: GDPR 7(1); BGH I ZR 164/09 (each concrete declaration documented); GDPR 32 (nobody learns who is subscribed).
    """
    controller_id = view.controller.id
    handle, fresh = _press(session, view, ask, now=now)
    if not fresh:
        return handle
    if ask.actor is PERSON:
        # A program has a key that can be revoked; the caps of the address hold for it too.
        _spend_network(session, ask.client, now=now)
    new = contacts.NewContact(ask.email, view.locale, _origin(view, ask), LegalBasis.CONSENT)
    claimed = contacts.claim(session, controller_id, new, now=now)
    budget = limits.address_budget_key(session, controller_id, ask.email.comparable)
    spent = limits.lock(session, [budget], now=now)[budget]
    state = state_of(session, view, claimed.id)
    address_key = contacts.address_key(session, controller_id, ask.email)
    suppressed = suppression.covering(session, controller_id, address_key, now=now)
    found = contacts.with_key(session, claimed, state.wrapped_key)
    wanted = [item["id"] for item in view.purposes if item["slug"] in ask.purposes]
    plan = rules.plan_request(
        wanted=wanted,
        given=state.given,
        asked=state.asked(view, now),
        suppressed=suppressed,
        cap_wait_seconds=limits.remaining_seconds(spent, limits.ADDRESS_MAIL, now=now),
        notice_wait_seconds=limits.remaining_seconds(spent, NOTICES, now=now),
    )
    _carry_out(session, view, ask, found, state, plan, now=now)
    if plan.reply is not Reply.HOLD:
        limits.save(session, budget, limits.spend(spent, limits.ADDRESS_MAIL, now=now))
    session.change(Submission, {"handle": handle}, {"contact_id": found.contact_id})
    return handle


def _press(session: Session, view: FormView, ask: SignupRequest, *, now: datetime) -> tuple[str, bool]:
    """The handle of this press of the button, and whether it is the first time we see it."""
    content = (
        f"{view.id}|{ask.render_id or secrets.token_hex(16)}|{ask.email.comparable}|{','.join(sorted(ask.purposes))}"
    )
    handle = secrets.token_urlsafe(16)
    row = {
        "key": session.keys.keyed_hash("submission", content),
        "handle": handle,
        "form_id": view.id,
        "contact_id": None,
        "created_at": now,
        "expires_at": now + timedelta(hours=SAME_PRESS_HOURS),
    }
    stale = Submission.expires_at <= now
    renewed = {
        name: case((stale, row[name]), else_=getattr(Submission, name))
        for name in ("handle", "created_at", "expires_at")
    }
    kept = session.scalar(upsert(session, Submission, row, on=["key"], update=renewed).returning(Submission.handle))
    return kept or handle, kept == handle


def _spend_network(session: Session, client: ClientInfo, *, now: datetime) -> None:
    if session.config.development and _is_loopback(client.ip):
        # The developer's own machine: a budget would only stop their tests.
        return
    budgets = limits.network_budgets(session, client)
    spent = limits.lock(session, budgets, now=now)
    wait = max(limits.remaining_seconds(spent[key], budget, now=now) for key, budget in budgets.items())
    if wait:
        raise NetworkSpent("Too many sign-ups from this network.", retry_after_seconds=wait)
    for key, budget in budgets.items():
        limits.save(session, key, limits.spend(spent[key], budget, now=now))


def _is_loopback(ip: str) -> bool:
    try:
        return ipaddress.ip_address(ip).is_loopback
    except ValueError:
        return False


def state_of(session: Session, view: FormView, contact_id: str) -> State:
    """What we hold about one contact, as far as a request on this form needs it; one query, whoever it is."""
    open_here = (
        (Confirmation.contact_id == Contact.id)
        & (Confirmation.form_id == view.id)
        & (Confirmation.state == ConfirmationState.OPEN)
    )
    rows = session.execute(
        select(Subscription, Confirmation, DataKey.wrapped, Consent.purpose_id, Consent.state)
        .select_from(Contact)
        .outerjoin(DataKey, DataKey.contact_id == Contact.id)
        .outerjoin(Subscription, Subscription.contact_id == Contact.id)
        .outerjoin(Confirmation, open_here)
        .outerjoin(Consent, (Consent.contact_id == Contact.id) & Consent.state.in_(IN_PLAY))
        .where(Contact.id == contact_id),
        execution_options={KEEP_QUEUE: True},
    ).all()
    subscription, open_, wrapped = rows[0][:3]
    by_state = {state: frozenset(row.purpose_id for row in rows if row.state is state) for state in IN_PLAY}
    return State(subscription, by_state[ConsentState.GIVEN], by_state[ConsentState.REQUESTED], open_, wrapped)


def _carry_out(
    session: Session, view: FormView, ask: SignupRequest, found: Found, state: State, plan: Plan, *, now: datetime
) -> None:
    if state.subscription and plan.reason and (plan.blocked or not plan.confirm):
        # A block: somebody else may be typing this address, so what we hold about its owner stays as it is.
        # A cap of notices: the owner has been told today.
        kind = "confirm" if plan.blocked else "already"
        questions.hold(session, view, found, kind, plan.reason, about=None, now=now)
        _record_request(session, view, ask, found, plan, {}, now=now)
    elif state.subscription and plan.reply is Reply.NOTICE:
        message_id = questions.queue_notice(
            session, view, found, state.subscription, state.given, page_host=_host(view, ask), now=now
        )
        _record_request(session, view, ask, found, plan, {"message_id": message_id}, now=now)
    else:
        _ask(session, view, ask, found, state, plan, now=now)


def _ask(
    session: Session, view: FormView, ask: SignupRequest, found: Found, state: State, plan: Plan, *, now: datetime
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
        origin=_origin(view, ask),
        form_version_id=view.version_id,
        # While the mail that asked before still counts, what it asked keeps its wording.
        purposes=[item for item in items if waiting is None or item["id"] not in waiting.purpose_ids],
    )
    consents.ask(session, view.controller.id, question, now=now)
    if waiting:
        link: dict[str, Any] = {"confirmation": waiting.id}
        questions.hold(session, view, found, "confirm", plan.reason or "", about=waiting.id, now=now)
    else:
        asked = questions.Asked(standing.id, act_id, _host(view, ask), hold=plan.reason)
        link = questions.open_confirmation(session, view, found, items, asked, replaces=state.open, now=now)
    more = {**link, "consent": act_id, "subscription": standing.id}
    event_id = _record_request(session, view, ask, found, plan, more, now=now)
    basis = LegalBasis.CONSENT.value
    act = payload.requested(
        session, found.contact_id, act_id, items, origin=_origin(view, ask), legal_basis=basis, now=now
    )
    data = {**payload.data(session, standing, None, [], []), "consent": act}
    publish(
        session, view.controller.id, "subscription.requested", data, now=now, event_id=event_id, subject=found.subject
    )


def _subscription_requested(
    session: Session, view: FormView, found: Found, held: Subscription | None, *, now: datetime
) -> payload.Standing:
    """A subscription that is not active is requested from now on; an active one stays untouched."""
    if held is None:
        return _new_subscription(session, view, found, now=now)
    if held.status is Status.ACTIVE:
        ground = held.ground.value if held.ground else None
        return payload.Standing(held.id, found.contact_id, held.status.value, ground, held.version, held.epoch)
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
    session: Session, view: FormView, open_: Confirmation | None, purpose_ids: Sequence[str]
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
        "notice": dict(view.definition["notice"]),
        "legal_basis": LegalBasis.CONSENT.value,
        "origin": _origin(view, ask),
        "reason": plan.reason,
        **_shown(view, ask),
        **client_fields(ask.client),
        **more,
    }
    kind, subject = EventType.SUBSCRIPTION_REQUESTED, found.subject
    return record(session, view.controller.id, kind, fields, now=now, subject=subject, actor=ask.actor)


def _shown(view: FormView, ask: SignupRequest) -> dict[str, Any]:
    """Every wording on the form, and every box with how it stood before and after."""
    return {
        "consent_texts": [
            {"purpose": item["slug"], "text": item["text"], "sha256": item["text_sha256"]} for item in view.purposes
        ],
        "boxes": [
            {"purpose": item["slug"], "default": False, "submitted": item["slug"] in ask.purposes}
            for item in view.purposes
        ],
    }


def _host(view: FormView, ask: SignupRequest) -> str | None:
    """Host of the embedding page, when staff listed it: what a stranger's header says is not repeated in a mail."""
    if not ask.origin_header or not rules_of_forms.listed(view.allowed_origins, ask.origin_header):
        return None
    return ask.origin_header.partition("://")[2]
