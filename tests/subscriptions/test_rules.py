"""The life of a subscription as plain decisions."""

from datetime import timedelta

import pytest

from signup.abuse.scanners import Sign, sign_of
from signup.subscriptions.rules import (
    Link,
    NotMe,
    Reply,
    contradicts,
    link_now,
    may_undo,
    not_me_now,
    plan_request,
)
from signup.subscriptions.states import ConfirmationState, EndReason, Status
from signup.suppression.models import Reason

BROWSER = "Mozilla/5.0 (Windows NT 10.0) Firefox/140"


def plan(**more):
    base = {
        "wanted": ["a"],
        "given": [],
        "asked": [],
        "suppressed": None,
        "cap_wait_seconds": 0,
        "notice_wait_seconds": 0,
    }
    return plan_request(**{**base, **more})


def test_a_new_address_is_asked():
    assert plan().reply is Reply.ASK


def test_purposes_of_the_open_question_are_joined_when_somebody_asks_again():
    assert plan(wanted=["b"], asked=["a"]).confirm == ("a", "b")


def test_only_the_added_purpose_is_asked_when_another_is_given():
    assert plan(wanted=["a", "b"], given=["a"]).confirm == ("b",)


def test_a_notice_goes_out_when_everything_is_given_already():
    assert plan(given=["a"]).reply is Reply.NOTICE


@pytest.mark.req("A2")
def test_nothing_goes_out_when_the_cap_is_spent():
    held = plan(cap_wait_seconds=1)
    assert (held.reply, held.reason) == (Reply.HOLD, "cap of mails to this address")


@pytest.mark.req("A9")
@pytest.mark.parametrize(
    ("reason", "reply"),
    [
        (Reason.ERASED, Reply.ASK),
        (Reason.OBJECTED, Reply.ASK),
        (Reason.UNSUBSCRIBED, Reply.ASK),
        (Reason.NOT_ME, Reply.HOLD),
        (Reason.COMPLAINED, Reply.HOLD),
        (Reason.BOUNCED, Reply.HOLD),
        (Reason.DPO, Reply.HOLD),
    ],
)
def test_only_some_suppressions_let_their_owner_ask_again(reason, reply):
    assert plan(suppressed=reason).reply is reply


@pytest.mark.parametrize(
    ("state", "newest", "given", "expired", "link"),
    [
        (ConfirmationState.OPEN, None, False, False, Link.OPEN),
        (ConfirmationState.OPEN, None, False, True, Link.EXPIRED),
        (ConfirmationState.EXPIRED, None, False, True, Link.EXPIRED),
        (ConfirmationState.CONFIRMED, None, True, False, Link.CONFIRMED),
        (ConfirmationState.CONFIRMED, None, True, True, Link.CONFIRMED),
        (ConfirmationState.CONFIRMED, None, False, False, Link.WITHDRAWN),
        (ConfirmationState.REPLACED, ConfirmationState.OPEN, False, False, Link.REPLACED),
        (ConfirmationState.REPLACED, ConfirmationState.CONFIRMED, True, False, Link.CONFIRMED),
        (ConfirmationState.REPLACED, ConfirmationState.CONFIRMED, False, False, Link.WITHDRAWN),
        (ConfirmationState.REPLACED, ConfirmationState.REFUSED, False, False, Link.CANCELLED),
        (ConfirmationState.REPLACED, None, False, False, Link.REPLACED),
        (ConfirmationState.REFUSED, None, False, False, Link.CANCELLED),
        (ConfirmationState.CANCELLED, None, False, False, Link.CANCELLED),
        (ConfirmationState.CHECK, None, False, False, Link.CHECK),
    ],
)
def test_a_link_says_what_is_true_now(state, newest, given, expired, link, now):
    expires_at = now + timedelta(seconds=-1 if expired else 1)
    assert link_now(state, expires_at=expires_at, newest=newest, still_given=given, now=now) is link


@pytest.mark.parametrize(
    ("link", "state", "outcome"),
    [
        (Link.OPEN, ConfirmationState.OPEN, NotMe.OPEN),
        (Link.REPLACED, ConfirmationState.REPLACED, NotMe.OPEN),
        (Link.CONFIRMED, ConfirmationState.CONFIRMED, NotMe.AFTER_CONFIRM),
        (Link.CANCELLED, ConfirmationState.REFUSED, NotMe.DONE),
        (Link.EXPIRED, ConfirmationState.EXPIRED, NotMe.GONE),
        (Link.CHECK, ConfirmationState.CHECK, NotMe.CHECK),
        (Link.WITHDRAWN, ConfirmationState.CONFIRMED, NotMe.GONE),
    ],
)
def test_not_me_does_what_is_still_possible(link, state, outcome):
    assert not_me_now(link, state) is outcome


@pytest.mark.req("U5")
@pytest.mark.parametrize(
    ("by", "minutes", "allowed"), [("page", 29, True), ("page", 31, False), ("one-click", 1, False), ("api", 1, False)]
)
def test_undo_is_for_the_page_and_half_an_hour(by, minutes, allowed, now):
    ended_at = now - timedelta(minutes=minutes)
    assert may_undo(Status.ENDED, EndReason.UNSUBSCRIBED, by, ended_at, now=now) is allowed


@pytest.mark.req("A18")
@pytest.mark.parametrize(
    ("method", "agent", "ip", "seconds", "sign"),
    [
        ("GET", BROWSER, "203.0.113.7", 61, None),
        ("GET", BROWSER, "203.0.113.7", None, None),
        ("GET", BROWSER, "2001:db8::7", 61, None),
        ("GET", BROWSER, "unknown", 61, None),
        ("HEAD", BROWSER, "203.0.113.7", 61, Sign.METHOD),
        ("GET", BROWSER, "203.0.113.7", 59, Sign.EARLY),
        ("GET", BROWSER, "64.235.150.9", 3000, Sign.NETWORK),
        ("GET", "", "203.0.113.7", 61, Sign.AGENT),
        ("GET", "python-urllib/3", "203.0.113.7", 61, Sign.AGENT),
        ("GET", "Barracuda Sentinel", "203.0.113.7", 3000, Sign.AGENT),
    ],
)
def test_machines_are_labelled(method, agent, ip, seconds, sign):
    assert sign_of(method, agent, ip, seconds) is sign


@pytest.mark.req("A17")
@pytest.mark.parametrize(
    ("seconds", "page_seconds", "machine"),
    [(0, 2, True), (5, 6, True), (5, 5, True), (6, 9, False), (3, 2, False), (2, 1, False)],
)
def test_opposite_answers_within_seconds_are_a_machine_when_both_pages_were_open(seconds, page_seconds, machine, now):
    assert contradicts(now - timedelta(seconds=seconds), page_seconds=page_seconds, now=now) is machine
    assert not contradicts(None, page_seconds=page_seconds, now=now)
