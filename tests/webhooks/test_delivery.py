"""From the commit to the receiver: bytes, signatures, retries, leases."""

from __future__ import annotations

import json
import threading
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select, text
from standardwebhooks import Webhook, WebhookVerificationError

from signup.core.db import database, reading, transaction
from signup.core.values import utc_now
from signup.eventlog.models import Publication
from signup.webhooks import endpoints, queue
from signup.webhooks.models import DeliveryState, EndpointState
from signup.webhooks.rules import SCHEDULE_SECONDS
from signup.worker import Worker, run_until_idle
from tests.support.node import run_node
from tests.support.receiver import Answer, Request, redirect, retry_after, running_receiver
from tests.support.waiting import wait_for

HARD_DATA = {"name": "Zoë Größe 🦊", "quote": 'a "quoted" \\ line\nand more', "long": "ä🦊x" * 3000}


def verify_in_node(secret: str, request: Request) -> Any:
    script = """
        const { Webhook } = require("standardwebhooks");
        console.log(JSON.stringify(new Webhook(input.secret).verify(input.body, input.headers)));
    """
    return run_node(script, secret=secret, body=request.body.decode(), headers=dict(request.headers))


# --- bytes and signatures


@pytest.mark.req("W1")
@pytest.mark.req("W2")
def test_the_python_verifier_accepts_a_delivery_when_it_holds_umlauts_emoji_and_20_kb(desk, endpoint, receiver):
    publication_id = desk.publish(HARD_DATA)
    desk.run()
    [request] = receiver.requests
    assert len(request.body) > 20_000
    assert Webhook(endpoint.secret).verify(request.body, dict(request.headers))["data"] == HARD_DATA
    assert request.headers["webhook-id"] == publication_id
    assert request.headers["content-type"] == "application/json"
    with reading() as session:
        assert session.scalar(select(Publication.payload).where(Publication.id == publication_id)) == request.body
    with pytest.raises(WebhookVerificationError):
        Webhook(endpoint.secret).verify(request.body + b" ", dict(request.headers))


@pytest.mark.req("W1")
def test_the_javascript_verifier_accepts_a_delivery_when_it_holds_umlauts_emoji_and_20_kb(desk, endpoint, receiver):
    desk.publish(HARD_DATA)
    desk.run()
    assert verify_in_node(endpoint.secret, receiver.requests[0])["data"] == HARD_DATA


@pytest.mark.req("W2")
def test_id_and_bytes_stay_and_the_timestamp_moves_when_a_delivery_is_retried(desk, clock, receiver):
    desk.endpoint(receiver.url)
    receiver.answers.append(Answer(500))
    desk.publish(HARD_DATA, now=clock())
    desk.run(clock)
    clock.forward(seconds=5)
    desk.run(clock)
    first, second = receiver.requests
    assert first.body == second.body
    assert first.headers["webhook-id"] == second.headers["webhook-id"]
    assert int(second.headers["webhook-timestamp"]) - int(first.headers["webhook-timestamp"]) == 5


@pytest.mark.req("W1")
def test_a_persons_sealed_payload_arrives_verified_when_they_confirm(desk, endpoint, receiver, signup_and_confirm):
    person = signup_and_confirm("zoë@example.net".replace("ë", "e"))
    desk.run()
    bodies = [Webhook(endpoint.secret).verify(item.body, dict(item.headers)) for item in receiver.requests]
    [confirmed] = [body for body in bodies if body["type"] == "subscription.confirmed"]
    assert confirmed["data"]["contact"]["email"] == person.email
    assert "subscription.requested" not in [body["type"] for body in bodies]
    with reading() as session:
        stored = session.scalar(select(Publication.payload).where(Publication.id == confirmed["id"]))
    assert stored
    assert person.email.encode() not in stored


# --- retries


@pytest.mark.req("W15")
def test_a_delivery_is_tried_at_every_step_and_then_dead_when_nothing_helps(desk, clock, receiver):
    desk.endpoint(receiver.url, now=clock())
    receiver.default = Answer(503)
    start = clock()
    desk.publish(now=clock())
    courier = desk.courier(jitter=lambda: 0.0)
    for number, wait in enumerate(SCHEDULE_SECONDS, start=1):
        if wait:
            clock.forward(seconds=wait, milliseconds=-1)
            desk.run(clock, courier)
            assert len(receiver.requests) == number - 1, "tried too early"
            clock.forward(milliseconds=1)
        desk.run(clock, courier)
        assert len(receiver.requests) == number
    found = desk.only()
    assert found.state is DeliveryState.DEAD
    assert found.finished_at == clock()
    assert clock() - start >= timedelta(hours=72)
    assert [item.number for item in found.attempts] == list(range(1, 11))
    assert {item.status for item in found.attempts} == {503}
    assert found.attempts[-1].next_at is None
    clock.forward(days=30)
    desk.run(clock, courier)
    assert len(receiver.requests) == 10


@pytest.mark.req("W15")
def test_the_next_attempt_is_at_its_earliest_and_latest_when_jitter_is_drawn_so(desk, clock, receiver):
    desk.endpoint(receiver.url, now=clock())
    receiver.default = Answer(500)
    for jitter, seconds in ((-1.0, 4), (1.0, 6)):
        ident = desk.publish(now=clock())
        desk.run(clock, desk.courier(jitter=lambda drawn=jitter: drawn))
        [found] = [item for item in desk.deliveries() if item.publication_id == ident]
        assert found.next_at == clock() + timedelta(seconds=seconds)


@pytest.mark.req("W16")
def test_a_redirect_is_a_failure_and_not_followed_when_the_receiver_sends_one(desk, endpoint, receiver):
    receiver.answers.append(redirect(receiver.url + "/elsewhere"))
    desk.publish()
    desk.run()
    assert [item.path for item in receiver.requests] == ["/"]
    assert desk.only().attempts[0].status == 302
    assert desk.only().state is DeliveryState.DUE


@pytest.mark.req("W16")
def test_a_delivery_is_done_when_the_answer_is_2xx(desk, endpoint, receiver):
    statuses = [200, 201, 202, 204, 299]
    receiver.answers.extend(Answer(status) for status in statuses)
    for number in range(len(statuses)):
        desk.publish({"n": number})
    desk.run()
    assert sorted(item.attempts[0].status or 0 for item in desk.deliveries()) == statuses
    assert {item.state for item in desk.deliveries()} == {DeliveryState.DELIVERED}


@pytest.mark.req("W16")
@pytest.mark.parametrize("status", [429, 503])
def test_the_next_attempt_waits_as_long_as_asked_when_the_receiver_says_retry_after(desk, clock, receiver, status):
    desk.endpoint(receiver.url, now=clock())
    receiver.answers.append(retry_after("3600", status))
    desk.publish(now=clock())
    desk.run(clock)
    assert desk.only().next_at == clock() + timedelta(hours=1)
    clock.forward(minutes=59)
    desk.run(clock)
    assert len(receiver.requests) == 1
    clock.forward(minutes=1)
    desk.run(clock)
    assert desk.only().state is DeliveryState.DELIVERED


@pytest.mark.req("W16")
def test_the_endpoint_is_disabled_and_keeps_what_it_is_owed_when_it_answers_410(desk, endpoint, receiver):
    receiver.answers.append(Answer(410))
    desk.publish()
    desk.run()
    with reading() as session:
        view = endpoints.get(session, desk.controller_id, endpoint.id)
        kinds = session.scalars(text("SELECT kind FROM event WHERE kind LIKE 'endpoint.%' ORDER BY occurred_at, id"))
        assert kinds.all()[-1] == "endpoint.disabled"
    assert view.state is EndpointState.DISABLED
    assert "410" in (view.state_reason or "")
    desk.publish({"n": 2})
    desk.run()
    assert len(receiver.requests) == 1
    assert {item.state for item in desk.deliveries()} == {DeliveryState.HELD}
    desk.update(endpoint.id, state="active")
    desk.run()
    ids = {item.publication_id for item in desk.deliveries()}
    assert {item.headers["webhook-id"] for item in receiver.requests} == ids
    assert {item.state for item in desk.deliveries()} == {DeliveryState.DELIVERED}


@pytest.mark.req("W17")
@pytest.mark.parametrize(
    "answer",
    [Answer(200, body=b"x" * 100, drip_seconds=0.2), Answer(200, drip_headers_seconds=0.2), Answer(hang=True)],
    ids=["dripping body", "dripping headers", "no answer"],
)
def test_an_attempt_ends_as_timed_out_when_the_receiver_is_endlessly_slow(desk, endpoint, receiver, answer):
    receiver.answers.append(answer)
    desk.publish()
    desk.run(courier=desk.courier(total_seconds=0.6, jitter=lambda: 0.0))
    [attempt] = desk.only().attempts
    assert (attempt.error or "").startswith("timeout")
    assert attempt.status is None
    assert desk.only().state is DeliveryState.DUE


@pytest.mark.req("W17")
@pytest.mark.req("W25")
def test_only_16_kb_of_the_answer_are_kept_when_it_never_ends(desk, endpoint, receiver):
    receiver.answers.append(Answer(200, endless=True))
    desk.publish()
    desk.run()
    [attempt] = desk.only().attempts
    assert len(attempt.response_body or b"") == 16_384
    assert desk.only().state is DeliveryState.DELIVERED
    assert receiver.sent_bytes < 50_000_000


@pytest.mark.req("W25")
def test_an_attempt_shows_all_but_the_signature_when_it_is_read(desk, endpoint, receiver):
    receiver.answers.append(Answer(500, body=b"out of order"))
    desk.publish()
    desk.run()
    [attempt] = desk.only().attempts
    [request] = receiver.requests
    assert attempt.request_headers["webhook-id"] == request.headers["webhook-id"]
    assert attempt.request_headers["webhook-timestamp"] == request.headers["webhook-timestamp"]
    assert attempt.request_headers["webhook-signature"] == "v1,***"
    assert (attempt.number, attempt.trigger, attempt.status, attempt.ip) == (1, "event", 500, "127.0.0.1")
    assert attempt.response_body == b"out of order"
    assert attempt.next_at == desk.only().next_at


# --- leases


@pytest.mark.req("W10")
def test_the_later_result_stands_when_a_worker_outlives_its_lease(desk, clock, receiver):
    desk.endpoint(receiver.url, now=clock())
    desk.publish(now=clock())
    with reading() as session:
        picked = queue.pick(session, now=clock(), free=8, at_once={})
    with transaction() as session:
        [slow] = queue.lease(session, picked, now=clock())
    clock.forward(seconds=queue.LEASE_SECONDS + 1)
    desk.run(clock)
    assert desk.only().state is DeliveryState.DELIVERED
    late = queue.Result(slow, clock(), clock(), {}, status=500)
    with transaction() as session:
        queue.settle(session, [late], jitter=0.0, now=clock())
    found = desk.only()
    assert found.state is DeliveryState.DELIVERED
    assert found.next_at is None
    assert [(item.number, item.status) for item in found.attempts] == [(1, 200), (2, 500)]


@pytest.mark.req("W10")
def test_nobody_else_gets_a_delivery_when_it_is_leased(desk, clock, receiver):
    desk.endpoint(receiver.url, now=clock())
    desk.publish(now=clock())
    with reading() as session:
        picked = queue.pick(session, now=clock(), free=8, at_once={})
    with transaction() as session:
        assert len(queue.lease(session, picked, now=clock())) == 1
    with transaction() as session:
        assert queue.lease(session, picked, now=clock()) == []
    with reading() as session:
        assert queue.pick(session, now=clock(), free=8, at_once={}) == []
    clock.forward(seconds=queue.LEASE_SECONDS)
    with reading() as session:
        assert [item.id for item in queue.pick(session, now=clock(), free=8, at_once={})] == [picked[0].id]


def test_results_are_written_when_the_courier_is_closed_in_the_middle(desk, endpoint, receiver):
    desk.publish()
    courier = desk.courier()
    courier(utc_now)
    courier.close(utc_now)
    assert desk.only().state is DeliveryState.DELIVERED


def test_no_transaction_is_open_when_a_post_is_under_way(desk, endpoint, receiver, backend):
    receiver.default = Answer(hang=True)
    desk.publish()
    courier = desk.courier(total_seconds=8)
    courier(utc_now)
    receiver.wait(1)
    if backend == "postgres":
        with database().engine.connect() as connection:
            open_ones = text(
                "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
                "AND state LIKE 'idle in transaction%'"
            )
            assert connection.scalar(open_ones) == 0
    # Would wait for the writers' lock, or for the row, if anything held them.
    with transaction(wait_seconds=0.5) as session:
        session.execute(text("UPDATE delivery SET attempt = attempt"))
    assert desk.only().state is DeliveryState.DUE
    receiver.stopping.set()


@pytest.mark.req("W18")
def test_other_endpoints_are_served_when_one_hangs_with_a_backlog(desk, receiver):
    with running_receiver() as dead:
        dead.default = Answer(hang=True)
        desk.endpoint(dead.url)
        for number in range(60):
            desk.publish({"n": number})
        desk.endpoint(receiver.url)
        courier = desk.courier(total_seconds=20)
        ident = desk.publish({"n": "new"})

        def turn() -> bool:
            courier(utc_now)
            return any(item.headers["webhook-id"] == ident for item in receiver.requests)

        wait_for(turn, seconds=10, describe="the delivery to the living endpoint")
        assert len(dead.wait(1)) <= queue.PER_ENDPOINT
        dead.stopping.set()
        courier.close(utc_now)


@pytest.mark.req("W14")
def test_a_running_worker_posts_by_itself_when_something_is_published(desk, endpoint, receiver, app):
    worker = Worker(app)
    thread = threading.Thread(target=worker._loop, args=("courier", desk.courier))
    thread.start()
    try:
        ident = desk.publish()
        [request] = receiver.wait(1)
        assert request.headers["webhook-id"] == ident
        wait_for(lambda: desk.only().state is DeliveryState.DELIVERED, describe="the written result")
    finally:
        worker.stopping.set()
        thread.join()


def test_a_confirmation_ends_in_one_delivery_when_the_whole_worker_runs(desk, endpoint, receiver, signup_and_confirm):
    signup_and_confirm("anna@example.net")
    run_until_idle()
    types = [json.loads(item.body)["type"] for item in receiver.requests]
    assert types == ["subscription.confirmed"]
