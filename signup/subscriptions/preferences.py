"""What a person may set for themselves: topics, how often, a pause. Less is often enough to stay."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import select

from signup.abuse import admission, limits
from signup.consents.actions import Held
from signup.consents.models import ConsentState
from signup.core.db import Session
from signup.core.values import ClientInfo, EmailAddress
from signup.forms import actions as forms
from signup.forms.rules import FormView
from signup.subscriptions import endings, presses, requests, resending
from signup.subscriptions.endings import Order
from signup.subscriptions.models import Confirmation, Subscription
from signup.subscriptions.rules import BY_PAGE
from signup.subscriptions.states import ConfirmationState, EndReason, Frequency, Status

# Long enough for a holiday, a project, a season. Who wants more leaves.
PAUSE_DAYS = (30, 60, 90)


@dataclass(frozen=True)
class Wish:
    """What somebody set on their page.

    Args:
        topics: slugs of the purposes that are ticked.
        pause_days: one of `PAUSE_DAYS`; 0 ends a pause; None leaves it as it is.
    """

    topics: frozenset[str]
    frequency: Frequency
    pause_days: int | None


@dataclass(frozen=True)
class Choices:
    """A subscription as its page of preferences shows it."""

    order: Order
    offered: tuple[dict[str, str], ...]  # purposes that may be added
    form: FormView | None  # where they came from

    @property
    def active(self) -> bool:
        return self.order.subscription.status is Status.ACTIVE and bool(self.order.given)

    @property
    def asked(self) -> list[Held]:
        return [item for item in self.order.held if item.state is ConsentState.REQUESTED]


def read_wish(topics: Sequence[str], frequency: str, pause: str) -> Wish | None:
    """The wish that these form fields spell; None when they spell none."""
    pauses = {"": 0, "keep": None, **{str(days): days for days in PAUSE_DAYS}}
    known = {item.value: item for item in Frequency}
    if frequency not in known or pause not in pauses:
        return None
    return Wish(frozenset(topics), known[frequency], pauses[pause])


def look(session: Session, ident: bytes, *, lock: bool = False) -> Choices | None:
    """What stands behind a link to preferences; None when there is nothing, or it was revoked."""
    found = endings.behind_link(session, ident, lock=lock)
    if found is None or found[1] is not None:
        return None
    order = found[0]
    form = _form(session, order.subscription.contact_id)
    known = {item.purpose_id for item in order.held if item.state in (ConsentState.GIVEN, ConsentState.REQUESTED)}
    offered = () if form is None or form.closed else tuple(item for item in form.purposes if item["id"] not in known)
    return Choices(order, offered, form)


def _form(session: Session, contact_id: str) -> FormView | None:
    """The form on which the person confirmed last, in its version of today."""
    query = (
        select(Confirmation.form_version_id)
        .where(Confirmation.contact_id == contact_id, Confirmation.state == ConfirmationState.CONFIRMED)
        .order_by(Confirmation.closed_at.desc(), Confirmation.id.desc())
        .limit(1)
    )
    version_id = session.scalar(query)
    return forms.in_force(session, forms.by_version_id(session, version_id).slug) if version_id else None


def save(
    session: Session, ident: bytes, wish: Wish, *, asks: bool = True, client: ClientInfo, now: datetime
) -> bool | None:
    """What was unticked is withdrawn, what was ticked is asked for by mail, frequency and pause count at once.

    Args:
        asks: whether added topics are asked for; without, they stay as they are.

    Returns:
        Whether the subscription could be changed; None when there is none behind the link.

    Raises:
        TooMany: added topics cannot be asked for, from this network or on this form; nothing is saved.

    Rule: GDPR 7(3), as easy as giving; 7(1), a new topic needs a confirmation of its own. A pause withdraws nothing.
    """
    held = look(session, ident, lock=True)
    if held is None:
        return None
    if not held.active:
        return False
    dropped = [item for item in held.order.given if item.slug not in wish.topics]
    ending = endings.Ending(EndReason.UNSUBSCRIBED, BY_PAGE)
    endings.end_topics(session, held.order, dropped, ending, client=client, now=now)
    if len(dropped) < len(held.order.given):
        _set(session, held.order.subscription.id, wish, client=client, now=now)
    added = tuple(item["slug"] for item in held.offered if item["slug"] in wish.topics)
    if asks and added and held.form is not None:
        _ask(session, held.form, held.order.email, added, client=client, now=now)
    return True


def next_mail(session: Session, order: Order, *, now: datetime) -> datetime | None:
    """When the caps of the address let out another mail; None when they would now."""
    comparable = EmailAddress.parse(order.email).comparable
    key = limits.address_budget_key(session, order.subscription.controller_id, comparable)
    wait = limits.remaining_seconds(limits.spent_under(session, key), limits.ADDRESS_MAIL, now=now)
    return now + timedelta(seconds=wait) if wait else None


def ask_again(session: Session, ident: bytes, *, client: ClientInfo, now: datetime) -> bool:
    """What waits for a confirmation is asked for by a fresh mail, if the caps of the address let one out.

    A topic may be ticked minutes after the sign-up's own mail. The caps hold the second mail back for good, so without
    this the person would wait for a mail that never comes.

    Returns:
        Whether a mail was queued.
    """
    held = look(session, ident, lock=True)
    if held is None or not held.asked:
        return False
    contact_id = held.order.subscription.contact_id
    query = (
        select(Confirmation.form_version_id)
        .where(Confirmation.contact_id == contact_id, Confirmation.state == ConfirmationState.OPEN)
        .order_by(Confirmation.created_at.desc(), Confirmation.id.desc())
        .limit(1)
    )
    version_id = session.scalar(query)
    if version_id is None:
        return False
    view = forms.in_force(session, forms.by_version_id(session, version_id).slug)
    return resending.resend_to(session, view, contact_id, held.order.email, client=client, now=now)


def _set(session: Session, subscription_id: str, wish: Wish, *, client: ClientInfo, now: datetime) -> None:
    """Frequency and pause are stored and told, if they differ from what they were."""
    order = endings.load(session, subscription_id)
    before = order.subscription
    paused_until = before.paused_until
    if wish.pause_days is not None:
        paused_until = now + timedelta(days=wish.pause_days) if wish.pause_days else None
    settings: dict[str, Any] = {"frequency": wish.frequency, "paused_until": paused_until}
    if settings == {"frequency": before.frequency, "paused_until": before.paused_until}:
        return
    values = {**settings, "version": before.version + 1, "updated_at": now}
    session.change(Subscription, {"id": before.id}, values)
    endings.tell_settings(session, order, settings, client=client, now=now)


def _ask(
    session: Session, view: FormView, email: str, added: tuple[str, ...], *, client: ClientInfo, now: datetime
) -> None:
    """The added purposes are asked for like on the form, with its words and within the caps of the address."""
    # The request reads past what waits to be written.
    session.write_queued()
    ask = presses.SignupRequest(
        email=EmailAddress.parse(email),
        purposes=added,
        render_id=None,
        stated_version=view.version,
        client=client,
        origin_header=None,
        page=None,
        origin={"type": "preferences", "detail": view.slug, "collected_by": None},
        # Whoever holds the link has shown a mailbox: a crowded network is no reason to ask for a proof.
        look=admission.Look(by_hand=True),
    )
    requests.request(session, view, ask, now=now)


def paused(order: Order, *, now: datetime) -> datetime | None:
    """Until when nothing is to be sent; a pause ends by itself."""
    until = order.subscription.paused_until
    return until if until is not None and until > now else None
