"""One press of the button: its rows, held until the commit, and what they say of the person."""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from sqlalchemy import and_, bindparam, or_, select

from signup.abuse import admission, limits
from signup.abuse.admission import Look, Press, Ticket
from signup.consents.models import Consent, ConsentState
from signup.contacts import actions as contacts
from signup.contacts.actions import Claimed
from signup.contacts.models import Contact, DataKey
from signup.core.config import Config
from signup.core.db import Claim, Prepared, Session, claim_of
from signup.core.errors import Busy
from signup.core.values import PERSON, Actor, ClientInfo, EmailAddress
from signup.forms import actions as forms
from signup.forms.rules import FormView
from signup.purposes.models import LegalBasis
from signup.subscriptions.models import Confirmation, Submission, Subscription
from signup.subscriptions.states import ConfirmationState, Frequency, Ground, Status
from signup.suppression import actions as suppression
from signup.suppression.models import Reason

# A double click or a lost answer is repeated within minutes; a day covers a sleeping laptop.
SAME_PRESS_HOURS = 24


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
    fields: Mapping[str, Any] | None = None  # what the person said in the form's declared fields
    attribution: Mapping[str, str] | None = None  # allow-listed words of the link that led to the form
    look: Look = admission.UNSEEN


def origin(view: FormView, ask: SignupRequest) -> dict[str, Any]:
    """How the contact came about."""
    return dict(ask.origin or {"type": "form", "detail": view.slug, "collected_by": None})


class Outdated(Busy):
    """The form has changed since it was read; nothing is written. Reading it again and asking again helps."""


@dataclass(frozen=True)
class Held:
    """The rows that one press needs, ours until the commit, and what they said."""

    handle: str
    repeated: bool
    contact: Claimed
    budget: bytes
    spent: Mapping[bytes, list[int]]
    ticket: Ticket
    more: Sequence[Any]  # what the claims of the ticket returned


def claim(session: Session, view: FormView, ask: SignupRequest, *, now: datetime) -> Held:
    """Every row that a press needs, in one round trip.

    The contact first, as everywhere: two that want the same rows then cannot wait for each other.
    """
    controller_id = view.controller.id
    new = contacts.NewContact(ask.email, view.locale, origin(view, ask), LegalBasis.CONSENT)
    contact = contacts.claim(session, controller_id, new, now=now)
    press = _press(session, view, ask, contact.values[0], now=now)
    budget = limits.address_budget_key(session, controller_id, ask.email.comparable)
    ticket = admission.ticket(session, _at_the_door(session, view, ask, press.values[1]), now=now)
    budgets = limits.claims([budget, *ticket.budgets], now=now)
    claimed, pressed, *amounts = session.claim([contact, press, *budgets.values(), *ticket.claims])
    spent = {key: amount for key, (amount,) in zip(budgets, amounts, strict=False)}
    return Held(
        handle=pressed[0],
        repeated=pressed[0] != press.values[1],
        contact=contacts.claimed_by(contact, claimed),
        budget=budget,
        spent=spent,
        ticket=ticket,
        more=amounts[len(budgets) :],
    )


def _press(session: Session, view: FormView, ask: SignupRequest, contact_id: str, *, now: datetime) -> Claim:
    """The claim to this press of the button; it returns another handle when the press is known."""
    content = (
        f"{view.id}|{ask.render_id or secrets.token_hex(16)}|{ask.email.comparable}|{','.join(sorted(ask.purposes))}"
    )
    row = {
        "key": session.keys.keyed_hash("submission", content),
        "handle": secrets.token_urlsafe(16),
        "form_id": view.id,
        "contact_id": contact_id,
        "created_at": now,
        "expires_at": now + timedelta(hours=SAME_PRESS_HOURS),
    }
    return claim_of(Submission, row, on=["key"], update=_RENEWED, returning=["handle"])


# A press that is over its time is a new one.
_RENEWED = ", ".join(
    f"{name} = CASE WHEN submission.expires_at <= excluded.created_at THEN excluded.{name} ELSE submission.{name} END"
    for name in ("handle", "contact_id", "resends", "code_tries", "created_at", "expires_at")
)


def _at_the_door(session: Session, view: FormView, ask: SignupRequest, handle: str) -> Press:
    """The press as the guard sees it."""
    # A program has a key that can be revoked, and on the developer's own machine a budget would only stop their tests.
    # The caps of the address hold for both.
    domain = ask.email.comparable.rpartition("@")[2]
    counted = ask.actor is PERSON and not is_developer(session.config, ask.client)
    return Press(view.controller.id, view.id, domain, ask.client, ask.look, counted, handle)


def is_developer(config: Config, client: ClientInfo) -> bool:
    """Whether somebody tries the service out on their own machine."""
    return config.development and _is_loopback(client.ip)


def _is_loopback(ip: str) -> bool:
    try:
        return ipaddress.ip_address(ip).is_loopback
    except ValueError:
        return False


IN_PLAY = (ConsentState.GIVEN, ConsentState.REQUESTED)


class Known(NamedTuple):
    """A subscription as it stands before the request."""

    id: str
    status: Status
    ground: Ground | None
    version: int
    epoch: int
    frequency: Frequency
    paused_until: datetime | None


class Question(NamedTuple):
    """An open confirmation."""

    id: str
    act_id: str
    purpose_ids: list[str]
    form_version_id: str
    expires_at: datetime
    told: bytes | None  # what the person said in the declared fields, sealed


@dataclass(frozen=True)
class State:
    """What we hold about the address when the request arrives."""

    subscription: Known | None
    given: frozenset[str]
    requested: frozenset[str]
    open: Question | None
    wrapped_key: bytes | None
    suppressed: Reason | None

    def waiting(self, now: datetime) -> bool:
        """Whether a question can still be answered; one that ran out counts as none."""
        return self.open is not None and now < self.open.expires_at

    def asked(self, view: FormView, now: datetime) -> list[str]:
        """What is asked and not answered: by the open question, or held back by a cap behind it."""
        if self.open is None or not self.waiting(now):
            return []
        held_back = [item["id"] for item in view.purposes if item["id"] in self.requested]
        return list(dict.fromkeys([*self.open.purpose_ids, *held_back]))


_IN_PLAY = or_(*(Consent.state == state for state in IN_PLAY))
_STATE = Prepared(
    select(
        Subscription.id,
        Subscription.status,
        Subscription.ground,
        Subscription.version,
        Subscription.epoch,
        Subscription.frequency,
        Subscription.paused_until,
        Confirmation.id,
        Confirmation.act_id,
        Confirmation.purpose_ids,
        Confirmation.form_version_id,
        Confirmation.expires_at,
        Confirmation.told,
        DataKey.wrapped,
        forms.STAMP_NOW,
        suppression.STRONGEST,
        Consent.purpose_id,
        Consent.state,
    )
    .select_from(Contact)
    .outerjoin(DataKey, DataKey.contact_id == Contact.id)
    .outerjoin(Subscription, Subscription.contact_id == Contact.id)
    .outerjoin(
        Confirmation,
        and_(
            Confirmation.contact_id == Contact.id,
            Confirmation.form_id == bindparam("form_id"),
            Confirmation.state == ConfirmationState.OPEN,
        ),
    )
    .outerjoin(Consent, and_(Consent.contact_id == Contact.id, _IN_PLAY))
    .where(Contact.id == bindparam("contact_id"))
)


def state_of(session: Session, view: FormView, ask: SignupRequest, contact_id: str, *, now: datetime) -> State:
    """What we hold about one contact, as far as a request on this form needs it; one query, whoever it is.

    Asked after the contact was claimed, in a statement of its own: what another one wrote while we waited is seen.

    Raises:
        Outdated: the form is not what `view` says any more.
    """
    controller_id = view.controller.id
    values = {
        "form_id": view.id,
        "contact_id": contact_id,
        "controller_id": controller_id,
        "address_key": contacts.address_key(session, controller_id, ask.email),
        "now": now,
    }
    rows = session.rows(_STATE, values, keep_queue=True)
    first = rows[0]
    if first[14] != view.stamp:
        raise Outdated("The form has just been changed. Please try again.", retry_after_seconds=1)
    consents_in = {state: frozenset(purpose_id for *_, purpose_id, held in rows if held is state) for state in IN_PLAY}
    return State(
        subscription=Known(*first[:7]) if first[0] else None,
        given=consents_in[ConsentState.GIVEN],
        requested=consents_in[ConsentState.REQUESTED],
        open=Question(*first[7:13]) if first[7] else None,
        wrapped_key=first[13],
        suppressed=suppression.reason_of(first[15]),
    )
