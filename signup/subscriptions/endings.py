"""How a subscription ends, whole or by topic, and the half hour in which that can be undone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import select

from signup.abuse import scanners
from signup.consents import actions as consents
from signup.consents.actions import Held
from signup.consents.models import ConsentState
from signup.contacts import actions as contacts
from signup.contacts.models import Contact
from signup.core.db import Session
from signup.core.errors import NotFound
from signup.core.signing import token_hash
from signup.core.values import PERSON, Actor, ClientInfo, EmailAddress, mask, rfc3339
from signup.eventlog.kinds import EventType
from signup.eventlog.record import Subject, client_fields, count_hit, publish, record
from signup.mail.models import Message, MessageState
from signup.purposes.actions import ControllerView, get_controller
from signup.subscriptions import payload, rules
from signup.subscriptions.links import UNSUBSCRIBE
from signup.subscriptions.models import Confirmation, Subscription
from signup.subscriptions.states import ConfirmationState, EndReason, Ground, Status
from signup.suppression import actions as suppression
from signup.suppression.models import Reason

# How long and against whom the address is blocked follows from why the subscription ended.
SUPPRESSES = {
    EndReason.UNSUBSCRIBED: Reason.UNSUBSCRIBED,
    EndReason.WITHDRAWN: Reason.UNSUBSCRIBED,
    EndReason.OBJECTED: Reason.OBJECTED,
    EndReason.BOUNCED: Reason.BOUNCED,
    EndReason.COMPLAINED: Reason.COMPLAINED,
    EndReason.ERASED: Reason.ERASED,
}


@dataclass(frozen=True)
class Order:
    """A subscription with its contact and consents, as an ending needs them."""

    subscription: Subscription
    subject: Subject
    email: str
    locale: str
    controller: ControllerView
    held: tuple[Held, ...]
    fields: Mapping[str, Any]  # what the person said in declared fields

    @property
    def given(self) -> list[Held]:
        return [item for item in self.held if item.state is ConsentState.GIVEN]

    @property
    def masked(self) -> str:
        return mask(self.email)


@dataclass(frozen=True)
class Ending:
    """Why and by which way a subscription ends."""

    reason: EndReason
    by: str
    flagged: bool = False


def load(session: Session, subscription_id: str, *, controller_id: str | None = None, lock: bool = True) -> Order:
    """The subscription with what belongs to it; with `lock` it is ours until the commit.

    Raises:
        NotFound: there is none, or it belongs to another controller.
    """
    found = session.scalars(select(Subscription).where(Subscription.id == subscription_id)).first()
    if found is None or (controller_id is not None and found.controller_id != controller_id):
        raise NotFound("There is no such subscription.")
    owner = select(Contact.email, Contact.locale, Contact.fields).where(Contact.id == found.contact_id)
    row = session.execute(owner.with_for_update() if lock else owner).first()
    if row is None:
        raise NotFound("There is no such subscription.")
    if lock:
        session.refresh(found)
    held = consents.of_contact(session, found.controller_id, found.contact_id)
    subject = Subject(found.contact_id, contacts.open_key(session, found.contact_id))
    controller = get_controller(session, found.controller_id)
    return Order(found, subject, row.email, row.locale, controller, tuple(held), row.fields)


def behind_link(session: Session, ident: bytes, *, lock: bool = True) -> tuple[Order, Held | None] | None:
    """The subscription behind an unsubscribe link, and the one consent when the link is about one topic only."""
    subscription_id = session.scalar(select(Subscription.id).where(Subscription.link_hash == token_hash(ident)))
    if subscription_id is not None:
        return load(session, subscription_id, lock=lock), None
    scope = consents.behind_link(session, ident)
    if scope is None:
        return None
    _, contact_id, purpose_id = scope
    subscription_id = session.scalar(select(Subscription.id).where(Subscription.contact_id == contact_id))
    if subscription_id is None:
        return None
    order = load(session, subscription_id, lock=lock)
    return order, next(item for item in order.held if item.purpose_id == purpose_id)


def end(
    session: Session, order: Order, ending: Ending, *, client: ClientInfo | None, actor: Actor = PERSON, now: datetime
) -> bool:
    """The subscription has ended before the answer leaves; open questions are void and queued mails stay.

    What was only requested is refused. An objection, a complaint or a bounce counts for everybody we know.

    Returns:
        Whether anything changed: ending twice is a calm no-op.

    Rule: GDPR 7(3), as easy as giving; GDPR 21(3); RFC 8058 when a mail client asks.
    """
    subscription, controller_id = order.subscription, order.subscription.controller_id
    address_key = contacts.address_key(session, controller_id, EmailAddress.parse(order.email))
    active, asked = subscription.status is Status.ACTIVE, subscription.status is Status.REQUESTED
    if not active and not asked and not _news(session, controller_id, address_key, ending, now=now):
        return False
    ended = order.given
    purpose_ids = [item.purpose_id for item in ended]
    if ending.reason is EndReason.BOUNCED:
        consents.void(session, controller_id, subscription.contact_id, purpose_ids, now=now)
    else:
        consents.withdraw(session, controller_id, subscription.contact_id, purpose_ids, ending.by, now=now)
    consents.close_requests(session, controller_id, subscription.contact_id, ConsentState.REFUSED, now=now)
    _cancel_questions(session, subscription.contact_id, now=now)
    stop_mails(session, subscription.contact_id, "the subscription ended")
    suppression.remember(session, controller_id, address_key, SUPPRESSES[ending.reason], now=now)
    # Nobody confirmed what was only asked for, so there is nothing to withdraw: the request is over.
    status = Status.ENDED if active else Status.REFUSED if asked else subscription.status
    if active or asked or status is Status.ENDED:
        # The newer, stronger reason stands for an ended one too: what it says cannot be undone on a page.
        session.change(Subscription, {"id": subscription.id}, _ended(subscription, status, ending, now=now))
    fields = {
        "subscription": subscription.id,
        "reason": ending.reason.value,
        "method": ending.by,
        "flagged": ending.flagged or None,
        "purposes": [item.slug for item in ended],
        **client_fields(client),
    }
    bounced = ending.reason is EndReason.BOUNCED
    told = active or (asked and bounced)
    change = _Change(status, ended, fields, {"reason": ending.reason.value}, outside=told, unconfirmed=asked)
    kinds = (EventType.SUBSCRIPTION_REFUSED,) if asked and not bounced else _kinds(ending.reason)
    _tell(session, order, kinds, change, actor=actor, now=now)
    return True


def _news(session: Session, controller_id: str, address_key: bytes, ending: Ending, *, now: datetime) -> bool:
    """Whether an ending without an active subscription still says something that we must remember."""
    if ending.reason not in (EndReason.OBJECTED, EndReason.COMPLAINED, EndReason.BOUNCED):
        return False
    return not suppression.holds(session, controller_id, address_key, SUPPRESSES[ending.reason], now=now)


def _ended(subscription: Subscription, status: Status, ending: Ending, *, now: datetime) -> dict[str, Any]:
    return {
        "status": status,
        "end_reason": ending.reason if status is Status.ENDED else None,
        "ended_by": ending.by,
        "flagged": ending.flagged,
        "version": subscription.version + 1,
        "ended_at": now,
        "updated_at": now,
    }


def _kinds(reason: EndReason) -> tuple[EventType, ...]:
    """A bounce says nothing about the person's will; everything else withdraws."""
    if reason is EndReason.BOUNCED:
        return (EventType.SUBSCRIPTION_BOUNCED,)
    return (EventType.SUBSCRIPTION_UNSUBSCRIBED, EventType.CONSENT_WITHDRAWN)


def end_topic(
    session: Session,
    order: Order,
    scope: Held,
    ending: Ending,
    *,
    client: ClientInfo | None,
    actor: Actor = PERSON,
    now: datetime,
) -> bool:
    """Just this topic has ended; with the last one the whole subscription ends.

    Returns:
        Whether anything changed.
    """
    return end_topics(session, order, [scope], ending, client=client, actor=actor, now=now)


def end_topics(
    session: Session,
    order: Order,
    scopes: Sequence[Held],
    ending: Ending,
    *,
    client: ClientInfo | None,
    actor: Actor = PERSON,
    now: datetime,
) -> bool:
    """These topics have ended, as one act; with the last one the whole subscription ends.

    Returns:
        Whether anything changed.
    """
    given = [item for item in scopes if item.state is ConsentState.GIVEN]
    if not given:
        return False
    if len(given) == len(order.given):
        return end(session, order, ending, client=client, actor=actor, now=now)
    subscription = order.subscription
    controller_id, contact_id = subscription.controller_id, subscription.contact_id
    purpose_ids = [item.purpose_id for item in given]
    consents.withdraw(session, controller_id, contact_id, purpose_ids, ending.by, now=now)
    session.change(Subscription, {"id": subscription.id}, {"version": subscription.version + 1, "updated_at": now})
    fields = {
        "subscription": subscription.id,
        "reason": ending.reason.value,
        "method": ending.by,
        "purposes": [item.slug for item in given],
        **client_fields(client),
    }
    change = _Change(subscription.status, given, fields, {"reason": ending.reason.value})
    _tell(session, order, (EventType.SUBSCRIPTION_UPDATED, EventType.CONSENT_WITHDRAWN), change, actor=actor, now=now)
    return True


def tell_settings(
    session: Session, order: Order, settings: Mapping[str, Any], *, client: ClientInfo, now: datetime
) -> None:
    """Frequency and pause, as they are from now on, are on record and told to the outside."""
    until = settings["paused_until"]
    fields = {
        "subscription": order.subscription.id,
        "method": rules.BY_PAGE,
        "frequency": settings["frequency"].value,
        "paused_until": rfc3339(until) if until else "",
        **client_fields(client),
    }
    change = _Change(order.subscription.status, [], fields, {"reason": "preferences"}, settings=settings)
    _tell(session, order, (EventType.SUBSCRIPTION_UPDATED,), change, actor=PERSON, now=now)


def undoable(order: Order, scope: Held | None, *, now: datetime) -> list[Held]:
    """The consents that the result page's own button would restore now."""
    subscription = order.subscription
    ended = rules.may_undo(
        subscription.status, subscription.end_reason, subscription.ended_by, subscription.ended_at, now=now
    )
    if ended:
        return [item for item in order.held if item.ended_at == subscription.ended_at and item.given_at]
    if scope is None or subscription.status is not Status.ACTIVE or scope.state is not ConsentState.WITHDRAWN:
        return []
    in_time = scope.ended_at is not None and now - scope.ended_at <= rules.UNDO_WINDOW
    return [scope] if in_time and scope.ended_by == rules.BY_PAGE else []


def unanswered(order: Order, scope: Held | None, *, now: datetime) -> list[Held]:
    """What was only asked for when everything ended a moment ago: its question is closed, and no undo opens it.

    Rule: an old link never revives anything, so the mail that asked stays void.
    """
    # The button may be pressed late in its half hour, and the page after it be read a while later.
    since = now - 2 * rules.UNDO_WINDOW
    lost = [item for item in order.held if item.state is ConsentState.REFUSED and not item.given_at]
    return [] if scope else [item for item in lost if item.ended_at and item.ended_at >= since]


def undo(session: Session, order: Order, scope: Held | None, *, client: ClientInfo, now: datetime) -> bool:
    """What the person ended a moment ago counts again, with both steps on record.

    Returns:
        Whether anything was restored; after half an hour, or after a mail client's click, nothing is.
    """
    restored = undoable(order, scope, now=now)
    if not restored:
        return False
    subscription = order.subscription
    controller_id, contact_id = subscription.controller_id, subscription.contact_id
    consents.restore(session, controller_id, contact_id, [item.purpose_id for item in restored])
    changes = {
        "status": Status.ACTIVE,
        "end_reason": None,
        "ended_by": None,
        "ended_at": None,
        "version": subscription.version + 1,
        "updated_at": now,
    }
    session.change(Subscription, {"id": subscription.id}, changes)
    address_key = contacts.address_key(session, controller_id, EmailAddress.parse(order.email))
    suppression.lift(session, controller_id, address_key, {Reason.UNSUBSCRIBED})
    fields = {
        "subscription": subscription.id,
        "purposes": [item.slug for item in restored],
        "act": "undo button",
        **client_fields(client),
    }
    change = _Change(Status.ACTIVE, restored, fields, {})
    _tell(session, order, (EventType.SUBSCRIPTION_RESTORED,), change, actor=PERSON, now=now)
    return True


def note_reason(session: Session, order: Order, reason: str, *, about: bytes, now: datetime) -> None:
    """Why somebody left is on record, once for each ending. No text of their own, and no state changes.

    Args:
        reason: one of `rules.LEAVING_REASONS`.
        about: what stands for this ending.
    """
    if reason not in rules.LEAVING_REASONS or _hits(session, b"reason" + about, now=now) > 1:
        return
    fields = {"subscription": order.subscription.id, "reason": reason}
    controller_id = order.subscription.controller_id
    record(session, controller_id, EventType.REASON_GIVEN, fields, now=now, subject=order.subject, actor=PERSON)


def _hits(session: Session, counted: bytes, *, now: datetime) -> int:
    return count_hit(session, token_hash(counted), until=now + rules.LASTING_LINKS_COUNTED)


def note_opening(
    session: Session, ident: bytes, purpose: str = UNSUBSCRIBE, *, method: str, client: ClientInfo, now: datetime
) -> None:
    """The opening of an unsubscribe or preferences link is on record, the first fifty one by one. No state changes."""
    found = behind_link(session, ident, lock=False)
    counted = ident if purpose == UNSUBSCRIBE else purpose.encode() + ident
    if found is None or _hits(session, counted, now=now) > rules.OPENINGS_TOLD:
        return
    order, scope = found
    fields = {
        "subscription": order.subscription.id,
        "purpose_of_link": f"{purpose} {scope.topic}" if scope else purpose,
        "method": method,
        **scanners.label(scanners.sign_of(method, client.user_agent, client.ip, None)),
        **client_fields(client),
    }
    record(session, order.subscription.controller_id, EventType.LINK_OPENED, fields, now=now, subject=order.subject)


@dataclass(frozen=True)
class _Change:
    """What log and outside are told of one change."""

    status: Status
    about: Sequence[Held]
    fields: dict[str, Any]
    extra: dict[str, Any]
    outside: bool = True  # whether endpoints are told
    unconfirmed: bool = False  # nobody confirmed the address, so it does not leave the system
    settings: Mapping[str, Any] = field(default_factory=dict)  # frequency and pause, where they change


def _tell(
    session: Session, order: Order, kinds: Sequence[EventType], change: _Change, *, actor: Actor, now: datetime
) -> None:
    """One event and one publication of each kind, all with the state after the change."""
    subscription, controller_id = order.subscription, order.subscription.controller_id
    ground: Ground | None = subscription.ground
    standing = payload.Standing(
        subscription.id,
        subscription.contact_id,
        change.status.value,
        ground.value if ground else None,
        subscription.version + 1,
        subscription.epoch,
        **{"frequency": subscription.frequency, "paused_until": subscription.paused_until, **change.settings},
    )
    held = consents.of_contact(session, controller_id, standing.contact_id)
    changed = {item.purpose_id for item in change.about}
    act = [item for item in held if item.purpose_id in changed]
    email = None if change.unconfirmed else order.email
    data = payload.data(session, standing, email, held, act, fields=order.fields, extra=change.extra)
    for kind in kinds:
        event_id = record(session, controller_id, kind, change.fields, now=now, subject=order.subject, actor=actor)
        if change.outside:
            publish(session, controller_id, kind.value, data, now=now, event_id=event_id, subject=order.subject)


def _cancel_questions(session: Session, contact_id: str, *, now: datetime) -> None:
    open_ = {"contact_id": contact_id, "state": ConfirmationState.OPEN}
    session.change(Confirmation, open_, {"state": ConfirmationState.CANCELLED, "closed_at": now, "told": None})


def stop_mails(session: Session, contact_id: str, reason: str) -> None:
    """Mails to this person that have not left stay here."""
    queued = {"contact_id": contact_id, "state": MessageState.QUEUED}
    session.change(Message, queued, {"state": MessageState.CANCELLED, "reason": reason})
