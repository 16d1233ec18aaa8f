"""Two acts at one time, and rows that cannot be opened: nobody is stuck and nothing fails in silence."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import select, text, update

from signup.core.db import Session, reading, transaction
from signup.core.errors import Conflict, NotFound
from signup.core.values import utc_now
from signup.eventlog.models import Publication
from signup.eventlog.record import publish
from signup.webhooks import deliveries, endpoints
from signup.webhooks.models import DeliveryState, Endpoint, EndpointState
from signup.webhooks.types import PAUSED_TYPE
from tests.support.locks import wait_for_a_lock

# On SQLite writers queue, so there is nothing that could happen in between.
only_postgres = pytest.mark.parametrize(
    "backend", [pytest.param("postgres", marks=pytest.mark.postgres)], indirect=True
)


class Act(threading.Thread):
    """`act` in a transaction of its own; `between` runs after it, before the commit."""

    def __init__(self, app: Flask, act: Callable[[Session], Any], between: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self.app, self.act, self.between = app, act, between
        self.result: Any = None
        self.start()

    def run(self) -> None:
        try:
            with self.app.app_context(), transaction() as session:
                self.result = self.act(session)
                self.between()
        except Exception as error:
            self.result = error

    def end(self) -> Any:
        self.join(20)
        assert not self.is_alive()
        return self.result


def later(app: Flask, first: Callable[[Session], Any], second: Callable[[Session], Any]) -> tuple[Any, Any]:
    """`second` starts when `first` has done everything but its commit, and has to wait for it."""
    done = threading.Event()
    go = threading.Event()

    def hold() -> None:
        done.set()
        go.wait(20)

    one = Act(app, first, hold)
    assert done.wait(20)
    two = Act(app, second)
    try:
        wait_for_a_lock()
    finally:
        go.set()
    return one.end(), two.end()


def together(app: Flask, monkeypatch: pytest.MonkeyPatch, name: str, *acts: Callable[[Session], Any]) -> list[Any]:
    """All `acts` at once; each waits before `endpoints.<name>` for the others, if they get that far."""
    gate = threading.Barrier(len(acts))
    real = getattr(endpoints, name)

    def meet(*given: Any, **named: Any) -> Any:
        # Whoever holds what the others need comes alone.
        with suppress(threading.BrokenBarrierError):
            gate.wait(1)
        return real(*given, **named)

    monkeypatch.setattr(endpoints, name, meet)
    threads = [Act(app, act) for act in acts]
    return [thread.end() for thread in threads]


# --- locks


@only_postgres
def test_both_are_paused_when_two_endpoints_of_one_controller_are_paused_at_once(app, desk, receiver, monkeypatch):
    made = [desk.endpoint(f"{receiver.url}/{number}") for number in range(2)]

    def pausing(ident: str) -> Callable[[Session], Any]:
        return lambda session: endpoints.update(session, desk.controller_id, ident, now=utc_now(), state="paused")

    found = together(app, monkeypatch, "_hold", *(pausing(item.id) for item in made))
    assert [getattr(view, "state", view) for view in found] == [EndpointState.PAUSED] * 2


@only_postgres
def test_both_are_disabled_when_one_is_gone_while_the_other_is_paused(app, desk, receiver, monkeypatch):
    first, second = (desk.endpoint(f"{receiver.url}/{number}") for number in range(2))

    def disable(session: Session) -> None:
        endpoints.disable(session, desk.controller_id, second.id, status=410, reason="gone", now=utc_now())

    def pause(session: Session) -> None:
        endpoints.update(session, desk.controller_id, first.id, now=utc_now(), state="paused")

    assert together(app, monkeypatch, "_hold", disable, pause) == [None, None]


@only_postgres
@pytest.mark.parametrize("change", ["pause", "delete"])
def test_nobody_waits_for_ever_when_one_commit_publishes_to_two_endpoints_in_turn(app, desk, receiver, change):
    """The commit reaches the later endpoint first; the pause locks in the order of ids."""
    first = desk.endpoint(f"{receiver.url}/1", ["consent.withdrawn", PAUSED_TYPE])
    second = desk.endpoint(f"{receiver.url}/2", ["contact.updated", PAUSED_TYPE])
    reached, go = threading.Event(), threading.Event()

    def publish_both(session: Session) -> None:
        publish(session, desk.controller_id, "contact.updated", {}, now=utc_now())
        session.write_queued()
        reached.set()
        go.wait(20)
        publish(session, desk.controller_id, "consent.withdrawn", {}, now=utc_now())

    def act(session: Session) -> None:
        if change == "delete":
            endpoints.delete(session, desk.controller_id, second.id, now=utc_now())
        else:
            endpoints.update(session, desk.controller_id, second.id, now=utc_now(), state="paused")

    one = Act(app, publish_both)
    assert reached.wait(20)
    two = Act(app, act)
    try:
        wait_for_a_lock()
    finally:
        go.set()
    assert (one.end(), two.end()) == (None, None)
    left = [item for item in desk.deliveries(second.id) if item.state is DeliveryState.DUE]
    assert left == []
    assert "consent.withdrawn" in {item.type for item in desk.deliveries(first.id)}


@only_postgres
def test_a_test_finds_no_endpoint_when_it_is_deleted_at_that_moment(app, desk, endpoint):
    _, found = later(
        app,
        lambda session: endpoints.delete(session, desk.controller_id, endpoint.id, now=utc_now()),
        lambda session: endpoints.test(session, desk.controller_id, endpoint.id, now=utc_now()),
    )
    assert isinstance(found, NotFound)


@only_postgres
def test_a_deletion_takes_the_test_along_when_that_came_first(app, desk, endpoint):
    ident, found = later(
        app,
        lambda session: endpoints.test(session, desk.controller_id, endpoint.id, now=utc_now()),
        lambda session: endpoints.delete(session, desk.controller_id, endpoint.id, now=utc_now()),
    )
    assert ident.startswith("dlv_")
    assert found is None
    assert desk.deliveries() == []


@only_postgres
@pytest.mark.parametrize(("change", "expected"), [("pause", Conflict), ("delete", NotFound)])
def test_a_resend_is_refused_when_the_endpoint_is_changed_at_that_moment(app, desk, endpoint, change, expected):
    desk.publish()
    desk.run()
    delivery = desk.only()

    def act(session: Session) -> None:
        if change == "delete":
            endpoints.delete(session, desk.controller_id, endpoint.id, now=utc_now())
        else:
            endpoints.update(session, desk.controller_id, endpoint.id, now=utc_now(), state="paused")

    _, found = later(
        app, act, lambda session: deliveries.resend(session, desk.controller_id, delivery.id, now=utc_now())
    )
    assert isinstance(found, expected)
    assert [item for item in desk.deliveries() if item.state is DeliveryState.DUE] == []


# --- what cannot be opened


def test_one_delivery_is_dead_and_says_why_when_its_payload_cannot_be_opened(
    desk, endpoint, receiver, signup_and_confirm
):
    signup_and_confirm("anna@example.net")
    signup_and_confirm("bert@example.net")
    broken, whole = desk.deliveries()
    with transaction() as session:
        damaged = update(Publication).where(Publication.id == broken.publication_id).values(payload=b"\0" * 60)
        session.execute(damaged)
    desk.run()
    assert [request.headers["webhook-id"] for request in receiver.requests] == [whole.publication_id]
    dead, delivered = desk.deliveries()
    assert (dead.state, delivered.state) == (DeliveryState.DEAD, DeliveryState.DELIVERED)
    [attempt] = dead.attempts
    assert (attempt.error or "").startswith("unreadable: the payload")


def test_one_delivery_is_dead_when_the_data_key_of_its_person_cannot_be_opened(
    desk, endpoint, receiver, signup_and_confirm
):
    anna = signup_and_confirm("anna@example.net")
    signup_and_confirm("bert@example.net")
    with transaction() as session:
        damaged = text("UPDATE data_key SET wrapped = :zeros WHERE contact_id = :ident")
        session.execute(damaged, {"zeros": b"\0" * 60, "ident": anna.contact_id})
    desk.run()
    dead, delivered = desk.deliveries()
    assert (dead.state, delivered.state) == (DeliveryState.DEAD, DeliveryState.DELIVERED)
    assert (dead.attempts[0].error or "").startswith("unreadable: the payload")


def test_the_other_endpoint_is_served_when_the_secret_of_one_cannot_be_opened(desk, receiver):
    broken, whole = (desk.endpoint(f"{receiver.url}/{number}") for number in range(2))
    with transaction() as session:
        session.execute(update(Endpoint).where(Endpoint.id == broken.id).values(sealed_secret=b"\0" * 60))
    desk.publish()
    desk.run()
    assert [request.path for request in receiver.requests] == ["/1"]
    [dead] = desk.deliveries(broken.id)
    assert dead.state is DeliveryState.DEAD
    assert (dead.attempts[0].error or "").startswith("unreadable: the signing secret")
    [delivered] = desk.deliveries(whole.id)
    assert delivered.state is DeliveryState.DELIVERED


def test_a_mended_secret_serves_again_when_the_dead_delivery_is_resent(desk, endpoint, receiver):
    with reading() as session:
        kept = session.scalar(select(Endpoint.sealed_secret))
    with transaction() as session:
        session.execute(update(Endpoint).values(sealed_secret=b"\0" * 60))
    desk.publish()
    desk.run()
    with transaction() as session:
        session.execute(update(Endpoint).values(sealed_secret=kept))
    desk.resend(desk.only().id)
    desk.run()
    assert desk.only().state is DeliveryState.DELIVERED
    assert len(receiver.requests) == 1
