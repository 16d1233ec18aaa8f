"""The life of a subscription, decided without a database."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

from signup.subscriptions.states import ConfirmationState, EndReason, Status
from signup.suppression.actions import LIFTED_BY_CONFIRMATION
from signup.suppression.models import Reason

# Long enough to notice a slip, short enough that nobody else finds the open page.
UNDO_MINUTES = 30
# What people may say when they have left; a free text would hold what nobody may keep.
LEAVING_REASONS = ("too-many", "not-relevant", "not-asked-for", "other-way", "other")
# Further openings of one link are only counted: the log must not be a place to fill up.
OPENINGS_TOLD = 50
# A count that is forgotten begins anew, so it outlives its link: this long after the last opening.
DEAD_LINKS_COUNTED = timedelta(days=30)
# Links to leave by end only with the subscription.
LASTING_LINKS_COUNTED = timedelta(days=400)

# Why a mail waits that nobody else keeps back.
UNDER_ATTACK = "form under attack"
# The way of an ending that its own page may undo.
BY_PAGE = "page"

UNDO_WINDOW = timedelta(minutes=UNDO_MINUTES)
# Nobody says yes and "that was not me" in one breath; what presses every button of a mail does.
CONTRADICTION = timedelta(seconds=5)


class Reply(Enum):
    """What a sign-up leads to; the visitor sees the same page for each."""

    ASK = "ask"  # a mail with a fresh link
    NOTICE = "notice"  # a mail saying that nothing needs to be done
    HOLD = "hold"  # on record, no mail


@dataclass(frozen=True)
class Plan:
    reply: Reply
    confirm: tuple[str, ...]  # ids of the purposes the question is about
    reason: str | None = None  # why no mail goes out
    blocked: bool = False  # by a suppression that only others may lift
    quarantined: bool = False  # the mail waits until somebody looked


def plan_request(
    *,
    wanted: Sequence[str],
    given: Collection[str],
    asked: Sequence[str],
    suppressed: Reason | None,
    cap_wait_seconds: int,
    notice_wait_seconds: int,
    role: bool = False,
    attacked: bool = False,
) -> Plan:
    """Decide what a sign-up leads to.

    Args:
        wanted: ids of the ticked purposes.
        given: ids of the purposes with a consent in force.
        asked: ids of the purposes of the open confirmation on the same form.
        role: the address is that of an office which must not be mailed.
        attacked: the form has far more sign-ups than it ever had.
    """
    new = [ident for ident in wanted if ident not in given]
    waiting = [ident for ident in asked if ident not in given]
    confirm = tuple(dict.fromkeys([*waiting, *new]))
    if suppressed is not None and suppressed not in LIFTED_BY_CONFIRMATION:
        return Plan(Reply.HOLD, confirm, f"suppressed: {suppressed.value}", blocked=True)
    if role:
        return Plan(Reply.HOLD, confirm, "role address", blocked=True)
    if not confirm:
        if attacked:
            return Plan(Reply.HOLD, (), UNDER_ATTACK)
        if notice_wait_seconds:
            return Plan(Reply.HOLD, (), "cap of notices to this address")
        return Plan(Reply.NOTICE, ())
    if cap_wait_seconds:
        return Plan(Reply.HOLD, confirm, "cap of mails to this address")
    return Plan(Reply.ASK, confirm, quarantined=attacked)


class Link(Enum):
    """What a confirmation link stands for now."""

    OPEN = "open"
    CONFIRMED = "confirmed"
    EXPIRED = "expired"
    REPLACED = "replaced"
    CANCELLED = "cancelled"
    WITHDRAWN = "withdrawn"
    CHECK = "check"  # answered with yes and no at once, so with neither


def contradicts(first_at: datetime | None, *, page_seconds: int, now: datetime) -> bool:
    """Whether the opposite answer is a machine's: within seconds, from a page that was open before the first one.

    Who reads what the first answer led to and then opens the other link has changed their mind.
    """
    if first_at is None or abs(now - first_at) > CONTRADICTION:
        return False
    return now - timedelta(seconds=page_seconds) <= first_at


def link_now(
    state: ConfirmationState,
    *,
    expires_at: datetime,
    newest: ConfirmationState | None,
    still_given: bool,
    now: datetime,
) -> Link:
    """Decide what a confirmation link says. First act wins, and an old link revives nothing.

    Args:
        newest: the state of the person's newest confirmation on the same form, for a replaced one.
        still_given: whether a consent that this or the newer confirmation gave is in force.
    """
    if state is ConfirmationState.REPLACED and newest is not None and newest is not ConfirmationState.OPEN:
        state = newest
    if state is ConfirmationState.OPEN:
        return Link.OPEN if now < expires_at else Link.EXPIRED
    if state is ConfirmationState.CONFIRMED:
        return Link.CONFIRMED if still_given else Link.WITHDRAWN
    return {
        ConfirmationState.REPLACED: Link.REPLACED,
        ConfirmationState.EXPIRED: Link.EXPIRED,
        ConfirmationState.CHECK: Link.CHECK,
    }.get(state, Link.CANCELLED)


class NotMe(Enum):
    """What "that was not me" can still do."""

    OPEN = "open"  # delete the request
    AFTER_CONFIRM = "after_confirm"  # end what somebody confirmed
    DONE = "done"
    GONE = "gone"
    CHECK = "check"


def not_me_now(link: Link, state: ConfirmationState) -> NotMe:
    if state is ConfirmationState.REFUSED:
        return NotMe.DONE
    if link is Link.CHECK:
        return NotMe.CHECK
    if link in (Link.OPEN, Link.REPLACED):
        return NotMe.OPEN
    return NotMe.AFTER_CONFIRM if link is Link.CONFIRMED else NotMe.GONE


def may_undo(
    status: Status, reason: EndReason | None, ended_by: str | None, ended_at: datetime | None, *, now: datetime
) -> bool:
    """Whether the person who just pressed the button may take it back; a mail client's click is final."""
    return (
        status is Status.ENDED
        and reason is EndReason.UNSUBSCRIBED
        and ended_by == BY_PAGE
        and ended_at is not None
        and now - ended_at <= UNDO_WINDOW
    )
