"""A legal hold wins over every purge, until it is released."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import select, update

from signup.contacts.models import AddressChange, Hold
from signup.core.db import reading, transaction
from signup.core.errors import Conflict, Invalid, NotFound
from signup.core.signing import token_hash
from signup.core.values import OPERATOR, new_id, utc_now
from signup.eventlog.history import number_publications
from signup.eventlog.kinds import EventType
from signup.eventlog.models import Disclosure, Event
from signup.mail.models import Message, MessageState
from signup.privacy import holds, retention
from signup.subscriptions import quarantine
from signup.subscriptions.models import Confirmation, Submission
from signup.subscriptions.states import Status
from tests.conftest import CLIENT, Clock
from tests.support import log

FILE = "Aktenzeichen 12 C 345/26"


@pytest.fixture
def clock(now):
    return Clock(now)


@pytest.fixture
def hold(demo):
    def act(contact_id: str, *, at) -> str:
        with transaction() as session:
            return holds.place(session, demo.controller.id, contact_id, FILE, actor=OPERATOR, now=at)

    return act


@pytest.fixture
def release(demo):
    def act(ident: str, *, at) -> bool:
        with transaction() as session:
            return holds.release(session, demo.controller.id, ident, "settled", actor=OPERATOR, now=at)

    return act


@pytest.mark.req("E25")
def test_an_unconfirmed_person_is_erased_only_after_the_release_when_held(sign_up, hold, release, clock):
    held, other = sign_up("anna@beispiel.de", at=clock()), sign_up("bert@beispiel.de", at=clock())
    ident = hold(held.contact_id, at=clock())
    clock.forward(days=9)
    counts = retention.run_now(clock)
    assert (counts["expired"], counts["erased"]) == (2, 1)
    assert log.subscription(held.contact_id).status is Status.EXPIRED
    assert log.facts(held.contact_id)[0].fields["email"] == held.email
    assert log.messages(held.contact_id)[0].sealed is not None
    with reading() as session:
        assert retention.preview(session, now=clock())["erased"] == 0
        assert session.scalars(select(Submission.contact_id)).all() == [held.contact_id]
    assert release(ident, at=clock())
    assert retention.run_now(clock)["erased"] == 1
    assert log.count(Hold) == log.count(Submission) == 0
    with reading() as session:
        kept = b"".join(session.scalars(select(Disclosure.data)))
    assert FILE.encode() not in kept
    assert held.email != other.email


@pytest.mark.req("E25")
def test_addresses_stay_in_the_proof_until_the_release_when_held(signup_and_confirm, hold, release, clock):
    held = signup_and_confirm("anna@beispiel.de", at=clock())
    free = signup_and_confirm("bert@beispiel.de", at=clock())
    first, second = hold(held.contact_id, at=clock()), hold(held.contact_id, at=clock())
    clock.forward(days=91)
    assert retention.run_now(clock)["redacted"] == 4
    assert {fact.fields.get("ip") for fact in log.facts(free.contact_id)} == {None}
    assert [fact.fields.get("ip") for fact in log.facts(held.contact_id)][:2] == [CLIENT.ip] * 2
    release(first, at=clock())
    assert [fact.fields.get("ip") for fact in log.facts(held.contact_id)][:2] == [CLIENT.ip] * 2
    release(second, at=clock())
    assert {fact.fields.get("ip") for fact in log.facts(held.contact_id)} == {None}


def test_what_was_told_of_a_held_person_outlives_the_quarter(signup_and_confirm, hold, release, clock):
    held = signup_and_confirm("anna@beispiel.de", at=clock())
    signup_and_confirm("bert@beispiel.de", at=clock())
    signup_and_confirm("cora@beispiel.de", at=clock.forward(days=80))
    ident = hold(held.contact_id, at=clock())
    with transaction() as session:
        number_publications(session)
    clock.forward(days=11)
    assert retention.run_now(clock)["publications"] > 0
    assert log.published(held.contact_id) == ["subscription.requested", "subscription.confirmed"]
    release(ident, at=clock())
    assert retention.run_now(clock)["publications"] == 2
    assert log.published(held.contact_id) == []


def test_a_mail_that_nobody_released_stays_readable_when_its_person_is_held(sign_up, hold, clock):
    held, other = sign_up("anna@beispiel.de", at=clock()), sign_up("bert@beispiel.de", at=clock())
    hold(held.contact_id, at=clock())
    with transaction() as session:
        session.execute(update(Message).values(state=MessageState.HELD))
    clock.forward(days=2)
    quarantine.run([], clock)
    (mine,), (theirs,) = log.messages(held.contact_id), log.messages(other.contact_id)
    assert {mine.state, theirs.state} == {MessageState.CANCELLED}
    assert (mine.sealed is None, theirs.sealed is None) == (False, True)


def test_a_question_that_runs_out_keeps_what_was_said_when_its_person_is_held(sign_up, hold, clock):
    held, other = sign_up("anna@beispiel.de", at=clock()), sign_up("bert@beispiel.de", at=clock())
    hold(held.contact_id, at=clock())
    with transaction() as session:
        session.execute(update(Confirmation).values(told=b"sealed"))
    clock.forward(days=7, minutes=5)
    assert retention.run_now(clock)["expired"] == 2
    with reading() as session:
        told = dict(session.execute(select(Confirmation.contact_id, Confirmation.told)).all())
    assert told == {held.contact_id: b"sealed", other.contact_id: None}


def test_an_address_that_was_asked_for_stays_when_its_person_is_held(signup_and_confirm, hold, demo, clock):
    held, other = (signup_and_confirm(f"{name}@beispiel.de", at=clock()) for name in ("anna", "bert"))
    hold(held.contact_id, at=clock())
    with transaction() as session:
        for number, person in enumerate((held, other)):
            session.put(
                AddressChange,
                {
                    "id": new_id("adr", clock()),
                    "controller_id": demo.controller.id,
                    "contact_id": person.contact_id,
                    "token_hash": token_hash(bytes([number])),
                    "sealed": b"sealed",
                    "state": "open",
                    "created_at": clock(),
                    "expires_at": clock() + timedelta(days=1),
                },
            )
    clock.forward(days=2)
    assert retention.run_now(clock)["addresses"] == 1
    with reading() as session:
        assert session.scalars(select(AddressChange.contact_id)).all() == [held.contact_id]


@pytest.mark.req("E25")
def test_an_erasure_is_refused_when_one_of_the_persons_is_held(signup_and_confirm, hold, clock):
    held, other = (signup_and_confirm(f"{name}@beispiel.de", at=clock()) for name in ("anna", "bert"))
    hold(held.contact_id, at=clock())
    with pytest.raises(Conflict) as refused, transaction() as session:
        retention.forget(session, [other.contact_id, held.contact_id], "retention", now=clock())
    assert refused.value.code == "held"
    for person in (held, other):
        assert log.subscription(person.contact_id).status is Status.ACTIVE


def test_a_held_person_can_still_leave(client, signup_and_confirm, hold):
    held = signup_and_confirm("anna@beispiel.de")
    hold(held.contact_id, at=utc_now())
    assert client.post(held.unsubscribe_path, data={"List-Unsubscribe": "One-Click"}).status_code == 200
    assert log.subscription(held.contact_id).status is Status.ENDED


def test_placing_and_releasing_are_in_the_history_with_reason_and_actor(signup_and_confirm, hold, release, clock):
    held = signup_and_confirm("anna@beispiel.de", at=clock())
    ident = hold(held.contact_id, at=clock.forward(days=1))
    assert release(ident, at=clock.forward(days=1))
    assert not release(ident, at=clock.forward(days=1))
    placed, released = log.facts(held.contact_id)[-2:]
    assert (placed.kind, released.kind) == ("hold.created", "hold.released")
    assert (placed.fields["hold"], placed.fields["hold_reason"]) == (ident, FILE)
    assert (released.fields["hold_reason"], released.fields["actor"]) == ("settled", "operator")


def test_nothing_is_held_without_a_reason_or_a_contact(signup_and_confirm, demo, hold, clock):
    held = signup_and_confirm("anna@beispiel.de", at=clock())
    with pytest.raises(Invalid), transaction() as session:
        holds.place(session, demo.controller.id, held.contact_id, " \n", actor=OPERATOR, now=clock())
    with pytest.raises(NotFound):
        hold("con_nobody", at=clock())
    with pytest.raises(NotFound), transaction() as session:
        holds.place(session, "ctl_stranger", held.contact_id, FILE, actor=OPERATOR, now=clock())
    assert log.count(Hold) == 0


def test_commands_place_list_and_release(app, signup_and_confirm):
    held = signup_and_confirm("anna@beispiel.de")
    runner = app.test_cli_runner()
    made = runner.invoke(args=["hold", "create", "anna@beispiel.de", "--reason", FILE])
    assert made.exit_code == 0, made.output
    ident = made.output.strip()
    listed = runner.invoke(args=["hold", "list"]).output.strip().split("\t")
    assert (listed[0], listed[1], listed[3:]) == (ident, held.contact_id, ["operator", "stands", FILE])
    assert runner.invoke(args=["hold", "release", ident, "--reason", "settled"]).output == "released\n"
    assert runner.invoke(args=["hold", "list"]).output == ""
    assert FILE in runner.invoke(args=["hold", "list", "--all"]).output


@pytest.mark.parametrize(
    "arguments", [("create", "nobody@beispiel.de", "--reason", "x"), ("release", "hld_0", "--reason", "x"), ("create",)]
)
def test_bad_input_is_one_line_and_changes_nothing(app, demo, arguments):
    answer = app.test_cli_runner().invoke(args=["hold", *arguments])
    assert answer.exit_code == 2
    assert answer.output.startswith("Error: ")
    assert answer.output.count("\n") == 1
    with reading() as session:
        kinds = (EventType.HOLD_CREATED, EventType.HOLD_RELEASED)
        assert session.scalars(select(Event.id).where(Event.kind.in_(kinds))).all() == []
