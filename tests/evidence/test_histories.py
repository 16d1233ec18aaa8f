"""What people really do with a subscription: every honest history passes the verifier, and is told as it was."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest

from signup.core.db import reading, transaction
from signup.core.values import OPERATOR, EmailAddress, utc_now
from signup.forms import actions as forms
from signup.privacy import retention
from signup.purposes.actions import LEGAL_BASES
from signup.subscriptions import endings, entries, resending
from signup.subscriptions.states import EndReason
from tests.conftest import CLIENT, Clock, SignedUp
from tests.evidence.checking import Judge, World, send_mails
from tests.evidence.conftest import seal_all


def just_asked(world: World) -> None:
    world.ask()


def confirmed_with_two(world: World) -> None:
    world.ask(chosen=("product-news", "invitations"))
    world.confirm()


def added_a_purpose(world: World) -> None:
    world.ask()
    world.confirm()
    world.ask(chosen=("invitations",))
    world.confirm()


def asked_for_more_while_open(world: World) -> None:
    world.ask()
    world.ask(chosen=("invitations",))
    world.confirm()


def asked_for_another_link(world: World) -> None:
    world.ask()
    now = world.clock.forward(minutes=11)
    with transaction() as session:
        view = forms.in_force(session, "demo-de")
        contact_id, email = world.person.contact_id, world.person.email
        assert resending.resend_to(session, view, contact_id, email, client=CLIENT, now=now)
    send_mails(world.clock)


def left_and_came_back(world: World) -> None:
    world.ask()
    world.confirm()
    world.end()
    world.ask()
    world.confirm()


def left_and_took_it_back(world: World) -> None:
    world.ask()
    world.confirm()
    world.end()
    world.undo()


def dropped_a_topic(world: World) -> None:
    confirmed_with_two(world)
    world.prefer("invitations")


def ticked_a_topic(world: World) -> None:
    world.ask()
    world.confirm()
    world.prefer("product-news", "invitations")
    send_mails(world.clock)


def said_not_me_before(world: World) -> None:
    world.ask()
    world.refuse()


def said_not_me_after(world: World) -> None:
    world.ask()
    world.confirm()
    world.refuse()


def let_it_expire(world: World) -> None:
    world.ask()
    world.clock.forward(days=7, minutes=1)
    with transaction() as session:
        assert retention.expire(session, now=world.clock()) == 1


def objected(world: World) -> None:
    world.ask()
    world.confirm()
    world.end(EndReason.OBJECTED, "api")


def bounced(world: World) -> None:
    world.ask()
    world.confirm()
    world.end(EndReason.BOUNCED, "dsn")


def spelled_oddly(world: World) -> None:
    world.ask("Anna.Berg@MÜNCHEN.example")
    world.confirm()


def entered_on_a_contract(world: World) -> None:
    now = world.clock.forward(minutes=1)
    caller = entries.Caller(OPERATOR, CLIENT)
    entry = entries.Entry(
        email=EmailAddress.parse("vertrag@kunde.example"),
        form=None,
        purposes=("product-news",),
        locale="de",
        legal_basis=LEGAL_BASES["gdpr-6-1-b"],
        origin={"type": "contract", "detail": "4711", "collected_by": None},
    )
    with transaction() as session:
        controller_id = forms.in_force(session, "demo-de").controller.id
        made = entries.enter(session, controller_id, entry, caller, now=now)
    with reading() as session:
        contact_id = endings.load(session, made.id, lock=False).subject.contact_id
    world.person = SignedUp("vertrag@kunde.example", contact_id, made.id, "", "", "")


HISTORIES = {
    just_asked: [],
    confirmed_with_two: ["given"],
    added_a_purpose: ["given", "given"],
    asked_for_more_while_open: ["given"],
    asked_for_another_link: [],
    left_and_came_back: ["given", "withdrawn", "given"],
    left_and_took_it_back: ["given", "withdrawn", "given"],
    dropped_a_topic: ["given", "withdrawn"],
    ticked_a_topic: ["given"],
    said_not_me_before: ["refused"],
    said_not_me_after: ["given", "withdrawn"],
    let_it_expire: ["expired"],
    objected: ["given", "withdrawn"],
    bounced: ["given", "terminated"],
    spelled_oddly: ["given"],
    entered_on_a_contract: [],
}


@pytest.fixture
def backend() -> str:
    """The verifier knows no database."""
    return "sqlite"


@pytest.fixture
def clock() -> Clock:
    """Far enough back that no history reaches into the future."""
    return Clock(utc_now() - timedelta(days=9))


@pytest.mark.parametrize("history", HISTORIES, ids=lambda history: history.__name__)
def test_honest_history_is_accepted_and_told_as_it_was(
    history: Callable[[World], None], sign_up: Callable[..., SignedUp], judge: Judge, clock: Clock
) -> None:
    world = World(sign_up, clock)
    seal_all(clock())
    history(world)
    seal_all(clock.forward(seconds=30))
    bundle = judge.bundle(world.person)
    states = [event["state"] for event in bundle["record"]["events"] if event["state"] != "requested"]
    assert states == HISTORIES[history]
    status, text = judge(bundle)
    assert status == 0, text
    # Taking an ending back is no new act.
    assert text.count("With that the consent to") == states.count("given") - (history is left_and_took_it_back)
    assert ("no sealed event in this file says so" in text) is ("given" not in states)


def places(value: Any) -> Iterator[tuple[Any, ...]]:
    """The way to every part of a JSON value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, item in items:
        yield (name,)
        yield from ((name, *rest) for rest in places(item))


def test_verifier_never_falls_over_when_any_part_is_something_else(
    sign_up: Callable[..., SignedUp], judge: Judge, clock: Clock
) -> None:
    world = World(sign_up, clock)
    seal_all(clock())
    left_and_came_back(world)
    seal_all(clock.forward(seconds=30))
    made = judge.bundle(world.person)
    statuses = []
    for way in places(made):
        for other in (None, [], 7, "x", [None], {"event": -1}):
            changed = copy.deepcopy(made)
            holder = changed
            for name in way[:-1]:
                holder = holder[name]
            holder[way[-1]] = other
            status, text = judge(changed)
            assert text
            statuses.append(status)
    assert set(statuses) == {0, 1, 2}
    assert statuses.count(1) > statuses.count(0)
