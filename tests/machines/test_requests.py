"""A visitor, a program or the operator never notices which machine answers."""

from __future__ import annotations

from collections import Counter
from types import SimpleNamespace
from typing import Any

from sqlalchemy import select

from signup.core.db import reading, transaction
from signup.core.values import utc_now
from signup.eventlog.kinds import EventType
from signup.eventlog.models import Event
from signup.forms.models import FormVersion
from signup.mail.models import Message, MessageState
from signup.staff import access
from signup.subscriptions.models import Confirmation, Subscription
from tests.conftest import in_threads
from tests.faults.crowd import token_in
from tests.faults.rig import PATIENCE_SECONDS
from tests.forms.test_public import republish
from tests.journeys.world import Answer, Api, call, count_rows
from tests.machines.fleet import Fleet, Machine, hidden

EMAIL = "anna@beispiel.example"
# To each machine; together enough to overlap.
AT_ONCE = 6


def alternately(fleet: Fleet, count: int, act: Any) -> list[Answer]:
    """`act(machine)` so often on each machine, all at once."""
    machines = fleet.machines * count
    answers = in_threads(len(machines), lambda number: act(machines[number]))
    failed = [answer for answer in answers if not isinstance(answer, Answer)]
    assert failed == []
    return answers


def statuses(answers: list[Answer]) -> Counter[int]:
    return Counter(answer.status for answer in answers)


def press(email: str = EMAIL, **more: str) -> dict[str, str]:
    return {"email": email, "purpose": "product-news", **more}


def mailed_token(fleet: Fleet) -> str:
    (mail,) = fleet.rig.smtp.wait(seconds=PATIENCE_SECONDS)
    return token_in(mail.content)


def events(kind: EventType) -> int:
    return count_rows(Event, Event.kind == kind)


def test_one_press_counts_once_when_its_page_is_of_one_machine_and_it_arrives_at_both(fleet: Fleet) -> None:
    first, second = fleet.machines
    page = call("GET", f"{first.url}/f/demo-de")
    fields = press(**hidden(page.text))
    assert fields["render_id"]
    assert fields["form_version"]
    fleet.known(EMAIL)
    answers = alternately(fleet, AT_ONCE, lambda machine: fleet.post(machine, "/f/demo-de", fields))
    assert statuses(answers) == {303: 2 * AT_ONCE}
    (pending,) = {answer.headers["location"] for answer in answers}
    assert {call("GET", machine.url + pending).status for machine in (first, second)} == {200}
    assert events(EventType.SUBSCRIPTION_REQUESTED) == 1
    fleet.rig.settle(jumps=False)


def test_one_confirmation_is_made_when_its_page_is_of_one_machine_and_both_are_told_at_once(fleet: Fleet) -> None:
    first, second = fleet.machines
    assert fleet.post(first, "/f/demo-de", press()).status == 303
    fleet.known(EMAIL, confirmed=True)
    path = f"/confirm/{mailed_token(fleet)}"
    nonce = hidden(call("GET", first.url + path).text)["nonce"]
    too_soon = fleet.post(second, path, {"nonce": nonce})
    assert too_soon.status == 422
    fleet.rig.clock.jump(2)
    answers = alternately(fleet, AT_ONCE, lambda machine: fleet.post(machine, path, {"nonce": nonce}))
    assert statuses(answers) == {303: 2 * AT_ONCE}
    assert events(EventType.SUBSCRIPTION_CONFIRMED) == 1
    fleet.rig.settle(jumps=False)
    assert len({(post.path, post.headers["webhook-id"]) for post in fleet.rig.receiver.requests}) == 4


def test_a_network_has_one_budget_when_it_asks_both_machines_at_once(fleet: Fleet) -> None:
    ip = fleet.network()
    people = iter(range(100))
    answers = alternately(
        fleet,
        15,
        lambda machine: fleet.post(machine, "/f/demo-de", press(f"p{next(people)}@beispiel.example"), ip=ip),
    )
    assert statuses(answers) == {303: 5, 429: 25}
    assert count_rows(Subscription) == 5
    for machine in fleet.machines:
        assert fleet.post(machine, "/f/demo-de", press("late@beispiel.example"), ip=ip).status == 429


def test_an_address_gets_one_mail_when_it_is_typed_on_both_machines(fleet: Fleet) -> None:
    for number, machine in enumerate(fleet.machines):
        assert fleet.post(machine, "/f/demo-de", press(render_id=f"page-{number}")).status == 303
    mailed_token(fleet)
    held = count_rows(Message, Message.state == MessageState.HELD)
    assert (count_rows(Message), held) == (2, 1)


def test_an_idempotency_key_is_known_to_both_machines_when_one_has_seen_it(
    fleet: Fleet, office: SimpleNamespace
) -> None:
    body = {"email": EMAIL, "form": "demo-de", "legal_basis": "gdpr-6-1-a"}
    body["origin"] = {"type": "fair", "detail": "Hall 3", "collected_by": "Kim"}  # type: ignore[assignment]

    def ask(machine: Machine, content: Any = None) -> Answer:
        return Api(machine.url, office.api_key)("POST", "/subscriptions", content or body, **{"Idempotency-Key": "one"})

    at_once = alternately(fleet, 3, ask)
    # Who comes while the first is under way is told so.
    assert set(statuses(at_once)) <= {202, 409}
    later = [ask(machine) for machine in fleet.machines]
    answered = [answer.body for answer in [*at_once, *later] if answer.status == 202]
    assert statuses(later) == {202: 2}
    assert len(set(answered)) == 1
    assert {ask(machine, {**body, "email": "ben@beispiel.example"}).status for machine in fleet.machines} == {422}
    assert count_rows(Subscription) == 1


def test_a_form_is_closed_on_every_machine_when_it_was_closed_on_one(fleet: Fleet) -> None:
    first, second = fleet.machines
    # Now the other machine remembers it open.
    assert fleet.post(second, "/f/demo-de", press()).status == 303
    first.flask("form", "close", "demo-de")
    assert fleet.post(second, "/f/demo-de", press("ben@beispiel.example")).status == 410
    assert call("GET", f"{second.url}/f/demo-de").status == 410
    assert count_rows(Subscription) == 1


def test_the_new_version_is_asked_when_another_machine_remembers_the_one_before(
    fleet: Fleet, office: SimpleNamespace
) -> None:
    _, second = fleet.machines
    assert fleet.post(second, "/f/demo-de", press()).status == 303
    page = hidden(call("GET", f"{second.url}/f/demo-de").text)
    republish(office)
    assert fleet.post(second, "/f/demo-de", press("ben@beispiel.example")).status == 303
    assert fleet.post(second, "/f/demo-de", press("cem@beispiel.example", **page)).status == 303
    with reading() as session:
        numbers = session.scalars(
            select(FormVersion.number)
            .join(Confirmation, Confirmation.form_version_id == FormVersion.id)
            .order_by(Confirmation.created_at, Confirmation.id)
        ).all()
    # The one who had the old page open agreed to its words, and the proof says so.
    old = int(page["form_version"])
    assert numbers == [old, old + 1, old]


def test_a_key_is_refused_everywhere_when_it_was_revoked(fleet: Fleet, office: SimpleNamespace) -> None:
    calls = [Api(machine.url, office.api_key) for machine in fleet.machines]
    assert [ask("GET", "/forms").status for ask in calls] == [200, 200]
    with transaction() as session:
        access.revoke(session, office.controller.id, office.key_id, now=utc_now())
    assert [ask("GET", "/forms").status for ask in calls] == [401, 401]
