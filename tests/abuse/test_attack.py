"""A form under attack: its mails wait, a proof is asked for, staff decide, and a day ends it."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import delete, func, select, text, update

from signup.abuse import admission, challenge, flows
from signup.abuse.admission import Look
from signup.abuse.models import Flow
from signup.alarms import actions as alarms
from signup.alarms.models import AlarmKind
from signup.core.db import reading, transaction
from signup.core.errors import SecondLook
from signup.core.values import EmailAddress, utc_now
from signup.eventlog.kinds import EventType
from signup.forms import actions as forms
from signup.jobs import JobRow
from signup.mail import held
from signup.mail.models import Message, MessageState
from signup.subscriptions import attacks, presses, quarantine, requests
from tests.abuse.conftest import Post
from tests.abuse.solving import proof
from tests.conftest import Clock, elsewhere
from tests.guards.world import rows
from tests.support import log

Ask = Callable[..., None]


@pytest.fixture
def ask(app: Flask) -> Ask:
    """One person signs up from a network of their own, with a proof when told so."""
    count = 0

    def act(email: str, now: datetime, *, proven: int = 0, form: str = "demo-de") -> None:
        nonlocal count
        count += 1
        solved = challenge.Proof(f"{count:032d}", proven, now + challenge.VALID) if proven else None
        with transaction() as session:
            view = forms.in_force(session, form)
            request = presses.SignupRequest(
                EmailAddress.parse(email),
                ("product-news",),
                None,
                1,
                elsewhere(count),
                None,
                None,
                look=Look(proof=solved),
            )
            requests.request(session, view, request, now=now)

    return act


def flood(ask: Ask, clock: Clock) -> None:
    """Fifty sign-ups in fifty seconds: as many as are ordinary. No hour ends meanwhile."""
    clock.time = clock.time.replace(minute=0, second=0)
    for number in range(50):
        ask(f"a{number}@b{number}.example", clock.forward(seconds=1))


def states() -> dict[MessageState, int]:
    with reading() as session:
        found = list(session.scalars(select(Message.state)))
    return {state: found.count(state) for state in found}


@pytest.mark.req("A4")
def test_mails_wait_and_a_proof_is_asked_for_when_a_form_is_flooded(
    ask: Ask, clock: Clock, client: FlaskClient
) -> None:
    flood(ask, clock)
    now = clock.forward(seconds=1)
    with pytest.raises(SecondLook) as doubt:
        ask("late@beispiel.de", now)
    assert doubt.value.reasons == ("form",)
    assert 0 < doubt.value.retry_after_seconds <= 3600
    with pytest.raises(SecondLook):
        ask("late@beispiel.de", now, proven=challenge.COST)
    ask("late@beispiel.de", now, proven=challenge.ATTACK_COST)
    ask("other@beispiel.de", now, form="demo-en")
    assert states() == {MessageState.QUEUED: 51, MessageState.HELD: 1}
    assert log.count(JobRow) == 51
    contact = rows("contact", email="late@beispiel.de")[0].id
    assert log.facts(contact)[0].fields["reason"] == "form under attack"
    assert client.get("/f/demo-de/challenge").json["parameters"]["cost"] == challenge.ATTACK_COST
    assert client.get("/f/demo-en/challenge").json["parameters"]["cost"] == challenge.COST
    with reading() as session:
        assert [item.reason for item in held.newest(session)] == ["form under attack"]
        found = [finding for finding in alarms.measure(session, now=now) if finding.kind is AlarmKind.FORM_ATTACKED]
    assert [(finding.subject, finding.facts) for finding in found] == [
        (rows("form", slug="demo-de")[0].id, {"form": "demo-de", "held": 1})
    ]


@pytest.mark.req("A4")
def test_each_person_gets_one_mail_when_staff_release_what_waited(ask: Ask, clock: Clock, app: Flask) -> None:
    flood(ask, clock)
    for _ in range(2):
        ask("late@beispiel.de", clock.forward(minutes=11), proven=challenge.ATTACK_COST)
        ask("more@beispiel.de", clock(), proven=challenge.ATTACK_COST)
    assert states()[MessageState.HELD] == 2, "the second question replaced the first"
    answer = app.test_cli_runner().invoke(args=["abuse", "release", "demo-de"])
    assert (answer.exit_code, answer.output) == (0, "2 released\n")
    assert states() == {MessageState.QUEUED: 52, MessageState.CANCELLED: 2}
    assert log.count(JobRow) == 52
    assert len(rows("event", kind=EventType.MAILS_RELEASED)) == 1
    assert app.test_cli_runner().invoke(args=["abuse", "release", "demo-de"]).output == "0 released\n"


@pytest.mark.req("A4")
def test_nothing_goes_out_when_staff_discard_what_waited(ask: Ask, clock: Clock, app: Flask) -> None:
    flood(ask, clock)
    ask("late@beispiel.de", clock.forward(seconds=1), proven=challenge.ATTACK_COST)
    answer = app.test_cli_runner().invoke(args=["abuse", "discard", "demo-de"])
    assert (answer.exit_code, answer.output) == (0, "1 discarded\n")
    assert states() == {MessageState.QUEUED: 50, MessageState.CANCELLED: 1}
    assert [row.sealed for row in rows("message", state=MessageState.CANCELLED)] == [None]
    assert app.test_cli_runner().invoke(args=["abuse", "discard", "unknown"]).exit_code == 2


@pytest.mark.req("A4")
def test_what_nobody_released_is_discarded_when_a_day_has_passed(ask: Ask, clock: Clock) -> None:
    flood(ask, clock)
    ask("late@beispiel.de", clock.forward(seconds=1), proven=challenge.ATTACK_COST)
    quarantine.run([], lambda: clock() + timedelta(hours=23))
    assert states()[MessageState.HELD] == 1
    quarantine.run([], lambda: clock() + timedelta(hours=24))
    assert states() == {MessageState.QUEUED: 50, MessageState.CANCELLED: 1}
    assert len(rows("event", kind=EventType.MAILS_DISCARDED)) == 1


@pytest.mark.req("A4")
@pytest.mark.parametrize("command", ["release", "discard"])
@pytest.mark.parametrize("backend", [pytest.param("postgres", marks=pytest.mark.postgres)], indirect=True)
def test_all_of_it_is_seen_to_when_an_attack_was_larger_than_a_statement(
    ask: Ask, clock: Clock, app: Flask, command: str
) -> None:
    flood(ask, clock)
    ask("late@beispiel.de", clock.forward(seconds=1), proven=challenge.ATTACK_COST)
    with transaction() as session:
        columns = [column.name for column in Message.__table__.columns if column.name not in ("id", "message_id")]
        session.execute(
            text(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 70000) INSERT INTO message "
                f"(id, message_id, {', '.join(columns)}) SELECT 'mail_' || i, 'copy ' || i, {', '.join(columns)} "
                "FROM message, n WHERE state = 'held'"
            )
        )
    answer = app.test_cli_runner().invoke(args=["abuse", command, "demo-de"])
    assert (answer.exit_code, answer.exception) == (0, None)
    with reading() as session:
        by_state = dict(session.execute(select(Message.state, func.count()).group_by(Message.state)).all())
    assert MessageState.HELD not in by_state
    assert by_state[MessageState.CANCELLED] >= 70_000


def test_the_attack_is_over_when_the_hour_has_passed(ask: Ask, clock: Clock) -> None:
    flood(ask, clock)
    with pytest.raises(SecondLook):
        ask("late@beispiel.de", clock.forward(seconds=1))
    ask("late@beispiel.de", clock.forward(hours=2))
    assert MessageState.HELD not in states()


def test_a_busy_form_learns_its_usual_hour_when_the_worker_watches(ask: Ask, clock: Clock) -> None:
    clock.time = clock.time.replace(minute=30)
    ask("a@b.example", clock())
    ask("c@d.example", clock.forward(seconds=2))
    with transaction() as session:
        stream = flows.form_stream(forms.in_force(session, "demo-de").id, session.config.form_per_hour)
        key, hour = flows.key_of(session, stream), flows.hour_of(clock())
        for back, count in ((1, 30), (2, 40), (3, 1000)):
            row = {
                "key": key,
                "hour": hour - back,
                "count": count,
                "usual": 0,
                "expires_at": clock() + timedelta(days=9),
            }
            session.put(Flow, row)
    quarantine.run([], clock)
    assert {(row.hour - hour, row.usual) for row in rows("flow", key=key) if row.hour >= hour} == {(0, 40), (1, 40)}
    with reading() as session:
        assert not flows.is_over_for_all(session, stream, now=clock())
    with transaction() as session:
        session.execute(update(Flow).where(Flow.key == key, Flow.hour == hour).values(count=201))
    with reading() as session:
        assert flows.is_over_for_all(session, stream, now=clock())
        assert admission.cost(session, stream.name.partition("|")[2], now=clock()) == challenge.ATTACK_COST


def test_a_source_has_a_link_when_the_command_is_asked(app: Flask, post: Post, client: FlaskClient) -> None:
    answer = app.test_cli_runner().invoke(args=["form", "source", "demo-de", "fachpack-2026"])
    assert answer.exit_code == 0
    url, _, value = answer.output.strip().partition("?src=")
    assert url.endswith("/f/demo-de")
    assert all(post(f"a{number}@b{number}.example", src=value).status_code == 303 for number in range(8))
    assert app.test_cli_runner().invoke(args=["form", "source", "demo-de", "Ä"]).exit_code == 2
    assert post("z@b.example", altcha=proof(client)).status_code == 303


def attacked() -> list[tuple[EventType, dict[str, int]]]:
    """What the log says of attacks, in order."""
    kinds = (EventType.FORM_ATTACKED, EventType.FORM_ATTACK_OVER)
    told = []
    for event in sorted((row for kind in kinds for row in rows("event", kind=kind)), key=lambda row: row.id):
        lines = [line for row in rows("disclosure", event_id=event.id) for line in row.data.split(b"\n")]
        said = {name: value for _salt, name, value in map(json.loads, lines)}
        assert said["form"] == "demo-de"
        told.append((event.kind, said["counts"]))
    return told


def alarm(clock: Clock) -> list[dict[str, object]]:
    with reading() as session:
        return [found.facts for found in alarms.measure(session, now=clock()) if found.kind is AlarmKind.FORM_ATTACKED]


@pytest.mark.req("A4")
def test_start_and_end_of_an_attack_are_on_record_when_the_worker_watches(ask: Ask, clock: Clock, app: Flask) -> None:
    flood(ask, clock)
    attacks.run([], clock)
    assert (attacked(), alarm(clock)) == ([], []), "fifty an hour are ordinary"
    ask("late@beispiel.de", clock.forward(seconds=1), proven=challenge.ATTACK_COST)
    attacks.run([], clock)
    assert attacked() == [(EventType.FORM_ATTACKED, {"sign_ups": 51, "ordinary": 50})]
    assert alarm(clock) == [{"form": "demo-de", "held": 1}]
    shown = app.test_cli_runner().invoke(args=["abuse", "list"])
    assert shown.output.startswith("demo-de\tunder attack since 20")
    assert shown.output.endswith("\t1 mails wait\n")
    for minutes in (1, 1):
        clock.forward(minutes=minutes)
        attacks.run([], clock)
    assert len(attacked()) == 1, "one attack, told once"
    clock.forward(hours=2)
    attacks.run([], clock)
    assert attacked()[1:] == [(EventType.FORM_ATTACK_OVER, {"minutes": 2, "held": 1})]
    assert app.test_cli_runner().invoke(args=["abuse", "list"]).output == "demo-de\tover\t1 mails wait\n"
    assert alarm(clock) == [{"form": "demo-de", "held": 1}], "somebody has yet to look at what waits"
    attacks.run([], clock)
    assert len(attacked()) == 2
    app.test_cli_runner().invoke(args=["abuse", "discard", "demo-de"])
    assert alarm(clock) == []


@pytest.mark.req("A4")
def test_an_attack_is_told_when_all_of_it_is_refused(
    post: Post, app: Flask, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As if each press came a second after the one before.
    monkeypatch.setattr(flows, "SYNC_SECONDS", 0.0)
    answers = [post(f"a{number}@b{number}.example", ip=elsewhere(number).ip).status_code for number in range(60)]
    assert answers == [303] * 50 + [429] * 10
    # Another process, which knows only what the database says.
    del app.extensions["signup.flows"]
    clock.time = utc_now()
    attacks.run([], clock)
    assert attacked() == [(EventType.FORM_ATTACKED, {"sign_ups": 60, "ordinary": 50})]
    assert alarm(clock) == [{"form": "demo-de", "held": 0}]
    others = [post(f"c{number}@d.example", ip=elsewhere(90 + number).ip).status_code for number in range(3)]
    assert others == [303, 303, 429], "what it has counted itself tells it what all others have"


def test_a_busy_form_is_not_under_attack_when_it_is_as_busy_as_usual(ask: Ask, clock: Clock) -> None:
    flood(ask, clock)
    ask("late@beispiel.de", clock.forward(seconds=1), proven=challenge.ATTACK_COST)
    with transaction() as session:
        session.execute(update(Flow).values(usual=40))
    attacks.run([], clock)
    assert attacked() == []


def test_the_hour_before_counts_in_part_when_an_hour_has_just_begun(ask: Ask, clock: Clock) -> None:
    flood(ask, clock)
    with transaction() as session:
        stream = flows.form_stream(forms.in_force(session, "demo-de").id, 50)
        for hour, count in ((flows.hour_of(clock()), 45), (flows.hour_of(clock()) - 1, 10)):
            key = flows.key_of(session, stream)
            session.execute(delete(Flow).where(Flow.key == key, Flow.hour == hour))
            row = {"key": key, "hour": hour, "count": count, "usual": 0, "expires_at": flows.expiry(hour, learns=True)}
            session.put(Flow, row)
    attacks.run([], clock)
    assert [counts for _, counts in attacked()] == [{"sign_ups": 55, "ordinary": 50}]
