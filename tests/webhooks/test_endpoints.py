"""Endpoints: who hears of what, secrets and their rotation, pausing, resending, forbidden targets."""

from __future__ import annotations

import base64
import json
from datetime import timedelta

import pytest
from sqlalchemy import select, text
from standardwebhooks import Webhook, WebhookVerificationError

from signup.core.config import Config, ConfigError
from signup.core.db import reading, transaction
from signup.core.errors import Conflict, Invalid, NotFound
from signup.core.outbound import OutboundRefused
from signup.core.values import utc_now
from signup.eventlog.models import Publication
from signup.eventlog.record import Published, forget_person, publish
from signup.purposes import actions as purposes
from signup.purposes.actions import NewController
from signup.webhooks import actions, deliveries, endpoints
from signup.webhooks.models import DeliveryState, Endpoint
from signup.webhooks.types import DEFAULT_TYPES, TYPES
from tests.conftest import environment, in_threads
from tests.support.receiver import Answer, Request


def count(query: str) -> int:
    with reading() as session:
        return session.scalar(text(query)) or 0


def verifies(secret: str, request: Request) -> bool:
    try:
        Webhook(secret).verify(request.body, dict(request.headers))
    except WebhookVerificationError:
        return False
    return True


def rotate(desk, endpoint_id, **options) -> str:
    with transaction() as session:
        return endpoints.rotate(session, desk.controller_id, endpoint_id, now=utc_now(), **options)[1]


# --- fan-out


@pytest.mark.req("W23")
def test_each_endpoint_that_asked_gets_its_own_delivery_when_something_is_published(desk, receiver):
    wanted = [desk.endpoint(f"{receiver.url}/{number}", ["consent.withdrawn"]) for number in range(3)]
    desk.endpoint(f"{receiver.url}/other", ["contact.erased"])
    receiver.answers.append(Answer(500))
    desk.publish(type_="consent.withdrawn")
    desk.run()
    assert sorted(item.path for item in receiver.requests) == ["/0", "/1", "/2"]
    assert {item.endpoint_id for item in desk.deliveries()} == {item.id for item in wanted}
    states = sorted(item.state.value for item in desk.deliveries())
    assert states == ["delivered", "delivered", "due"], "one failing must not touch the others"


@pytest.mark.req("W23")
def test_an_endpoint_hears_of_all_but_unconfirmed_requests_when_it_names_no_types(desk, receiver):
    made = desk.endpoint(receiver.url)
    assert made.view.types == DEFAULT_TYPES
    assert set(TYPES) - set(DEFAULT_TYPES) == {"subscription.requested"}
    assert desk.publish(type_="subscription.requested")
    assert desk.deliveries() == []


def test_nothing_is_owed_when_the_publication_belongs_to_another_controller(desk, receiver):
    new = NewController("other", "Other Ltd", "1 Road", "a@example.org", "https://o.example/i", "https://o.example/p")
    with transaction() as session:
        other = purposes.create_controller(session, new, now=utc_now()).id
    made = desk.endpoint(receiver.url)
    with transaction() as session:
        endpoints.create(session, other, f"{receiver.url}/other", now=utc_now())
    desk.publish()
    desk.run()
    assert [item.path for item in receiver.requests] == ["/"]
    owed = desk.only()
    with reading() as session:
        assert deliveries.page(session, other) == []
        with pytest.raises(NotFound):
            endpoints.get(session, other, made.id)
        with pytest.raises(NotFound):
            deliveries.get(session, other, owed.id)


@pytest.mark.req("W24")
def test_one_delivery_is_owed_when_the_same_publication_is_fanned_out_twice(desk, endpoint):
    ident, now = desk.publish(), utc_now()
    with transaction() as session:
        actions.fan_out(session, Published(ident, desk.controller_id, "subscription.confirmed", now))
    assert len(desk.deliveries()) == 1


def test_the_delivery_id_holds_no_dot_and_both_ids_when_it_is_made(desk, endpoint):
    ident = desk.publish()
    assert desk.only().id == f"dlv_{ident.removeprefix('msg_')}_{endpoint.id.removeprefix('ep_')}"
    assert "." not in desk.only().id


def test_neither_publication_nor_delivery_exists_when_the_commit_fails(desk, endpoint):
    with pytest.raises(RuntimeError, match="rolled back"), transaction() as session:
        publish(session, desk.controller_id, "subscription.confirmed", {"n": 1}, now=utc_now())
        session.write_queued()
        raise RuntimeError("rolled back")
    assert count("SELECT count(*) FROM publication") == count("SELECT count(*) FROM delivery") == 0


@pytest.mark.req("W22")
def test_the_version_rises_by_one_when_a_subscription_changes(desk, receiver, signup_and_confirm, client):
    desk.endpoint(receiver.url, list(TYPES))
    person = signup_and_confirm("anna@example.net")
    client.post(person.unsubscribe_path, data={"List-Unsubscribe": "One-Click"})
    desk.run()
    told = {}
    for request in receiver.requests:
        body = json.loads(request.body)
        told[body["type"]] = body["data"]["subscription"]["version"]
    order = ["subscription.requested", "subscription.confirmed", "subscription.unsubscribed"]
    assert [told[name] for name in order] == [1, 2, 3]
    assert told["consent.withdrawn"] == 3


# --- secrets


@pytest.mark.req("W3")
def test_a_secret_has_32_bytes_of_its_own_and_is_sealed_when_an_endpoint_is_made(desk, receiver):
    made = [desk.endpoint(receiver.url) for _ in range(2)]
    assert made[0].secret != made[1].secret
    for item in made:
        assert len(base64.b64decode(item.secret.removeprefix("whsec_"))) == 32
    with reading() as session:
        rows = session.scalars(select(Endpoint.sealed_secret).order_by(Endpoint.id)).all()
        assert session.keys.unseal_own(rows[0]).decode() == made[0].secret
        shown = repr(endpoints.page(session, desk.controller_id))
    for row in rows:
        assert all(item.secret.encode() not in row for item in made)
    assert "whsec_" not in shown


@pytest.mark.req("W3")
def test_an_imported_secret_is_refused_when_its_size_is_wrong(desk, receiver):
    for size in (0, 5, 23, 65):
        secret = "whsec_" + base64.b64encode(b"k" * size).decode()
        with pytest.raises(Invalid) as caught, transaction() as session:
            endpoints.create(session, desk.controller_id, receiver.url, now=utc_now(), secret=secret)
        assert caught.value.errors[0]["field"] == "secret"
    assert count("SELECT count(*) FROM endpoint") == 0


@pytest.mark.req("W3")
def test_a_secret_is_taken_over_when_an_endpoint_moves_here_with_its_own(desk, receiver):
    secret = "whsec_" + base64.b64encode(bytes(range(24))).decode()
    with transaction() as session:
        endpoints.create(session, desk.controller_id, receiver.url, now=utc_now(), secret=secret)
    desk.publish()
    desk.run()
    assert verifies(secret, receiver.requests[0])


@pytest.mark.req("W4")
def test_old_and_new_receivers_verify_when_a_rotation_is_in_its_grace(desk, endpoint, receiver):
    receiver.answers.append(Answer(500))
    queued = desk.publish({"n": "before"})
    desk.run()
    fresh = rotate(desk, endpoint.id)
    desk.resend(desk.only().id)
    desk.publish({"n": "after"})
    desk.run()
    first, *later = receiver.requests
    assert first.headers["webhook-id"] == queued
    assert not verifies(fresh, first)
    assert len(later) == 2
    for request in later:
        assert verifies(endpoint.secret, request)
        assert verifies(fresh, request)


@pytest.mark.req("W4")
def test_only_the_new_secret_signs_when_the_grace_is_ended_or_over(desk, endpoint, receiver, clock):
    fresh = rotate(desk, endpoint.id)
    with transaction() as session:
        view = endpoints.end_grace(session, desk.controller_id, endpoint.id, now=utc_now())
    assert view.old_secret_until is None
    desk.publish()
    desk.run()
    assert verifies(fresh, receiver.requests[-1])
    assert not verifies(endpoint.secret, receiver.requests[-1])

    rotate(desk, endpoint.id, grace=timedelta(hours=1))
    clock.forward(minutes=59)
    desk.publish(now=clock())
    desk.run(clock)
    assert len(receiver.requests[-1].headers["webhook-signature"].split()) == 2
    clock.forward(minutes=1, seconds=5)
    desk.publish(now=clock())
    desk.run(clock)
    assert len(receiver.requests[-1].headers["webhook-signature"].split()) == 1


@pytest.mark.req("W4")
@pytest.mark.parametrize("grace", [timedelta(seconds=-1), timedelta(days=7, seconds=1)])
def test_a_rotation_is_refused_when_its_grace_is_out_of_range(desk, endpoint, grace):
    with pytest.raises(Invalid):
        rotate(desk, endpoint.id, grace=grace)


@pytest.mark.req("W4")
def test_a_second_rotation_is_refused_when_it_would_cut_off_the_oldest_secret(desk, endpoint, receiver):
    rotate(desk, endpoint.id)
    with pytest.raises(Conflict):
        rotate(desk, endpoint.id)
    leaked = rotate(desk, endpoint.id, grace=timedelta())
    desk.publish()
    desk.run()
    assert verifies(leaked, receiver.requests[0])
    assert not verifies(endpoint.secret, receiver.requests[0])


# --- pausing, changing, deleting


@pytest.mark.req("W20")
def test_events_are_held_and_sent_when_the_endpoint_is_paused_and_resumed(desk, endpoint, receiver):
    before = desk.publish({"n": 1})
    desk.update(endpoint.id, state="paused")
    after = desk.publish({"n": 2})
    desk.run()
    assert receiver.requests == []
    owed = {item.publication_id: item.state for item in desk.deliveries()}
    assert owed[before] is owed[after] is DeliveryState.HELD
    desk.update(endpoint.id, state="active")
    desk.run()
    assert {item.state for item in desk.deliveries()} == {DeliveryState.DELIVERED}
    assert {before, after} <= {item.headers["webhook-id"] for item in receiver.requests}


@pytest.mark.req("W20")
def test_a_retry_waits_too_when_the_endpoint_is_paused_during_the_attempt(desk, endpoint, receiver):
    receiver.answers.append(Answer(hang=True))
    desk.publish()
    courier = desk.courier(total_seconds=0.5, jitter=lambda: 0.0)
    courier(utc_now)
    receiver.wait(1)
    desk.update(endpoint.id, state="paused")
    desk.run(courier=courier)
    states = {item.state for item in desk.deliveries()}
    assert states == {DeliveryState.HELD}
    desk.update(endpoint.id, state="active")
    desk.run()
    assert {item.state for item in desk.deliveries()} == {DeliveryState.DELIVERED}


@pytest.mark.req("W20")
def test_nothing_stays_due_when_an_endpoint_is_paused_while_others_publish(app, desk, endpoint):
    def act(number: int) -> None:
        with app.app_context():
            if number == 7:
                desk.update(endpoint.id, state="paused")
            else:
                desk.publish({"n": number})

    results = in_threads(16, act)
    assert [item for item in results if item] == []
    mine = [item for item in desk.deliveries() if item.type != "endpoint.paused"]
    assert len(mine) == 15
    assert {item.state for item in mine} == {DeliveryState.HELD}


def test_every_change_is_in_the_event_log_without_the_path_when_an_endpoint_lives_and_goes(desk, receiver):
    made = desk.endpoint(f"{receiver.url}/secret-path")
    desk.update(made.id, types=["contact.erased"], url=f"{receiver.url}/other-path")
    rotate(desk, made.id)
    with transaction() as session:
        endpoints.delete(session, desk.controller_id, made.id, now=utc_now())
    with reading() as session:
        kinds = session.scalars(text("SELECT kind FROM event WHERE kind LIKE 'endpoint.%' ORDER BY occurred_at, id"))
        assert sorted(kinds) == ["endpoint.changed", "endpoint.changed", "endpoint.created", "endpoint.deleted"]
        data = session.scalars(text("SELECT data FROM disclosure")).all()
    assert not [item for item in data if b"-path" in bytes(item)]


def test_all_rows_go_when_an_endpoint_with_attempts_is_deleted(desk, endpoint, receiver):
    receiver.answers.append(Answer(500))
    desk.publish()
    desk.run()
    with transaction() as session:
        endpoints.delete(session, desk.controller_id, endpoint.id, now=utc_now())
    for table in ("attempt", "delivery", "endpoint_type", "endpoint"):
        assert count(f"SELECT count(*) FROM {table}") == 0, table
    with pytest.raises(NotFound), transaction() as session:
        endpoints.delete(session, desk.controller_id, endpoint.id, now=utc_now())


def test_the_result_is_dropped_calmly_when_the_endpoint_is_deleted_during_the_attempt(desk, endpoint, receiver):
    receiver.answers.append(Answer(200, body=b"late", drip_seconds=0.1))
    desk.publish()
    courier = desk.courier()
    courier(utc_now)
    receiver.wait(1)
    with transaction() as session:
        endpoints.delete(session, desk.controller_id, endpoint.id, now=utc_now())
    desk.run(courier=courier)
    assert count("SELECT count(*) FROM attempt") == 0


@pytest.mark.parametrize(
    ("parts", "field"),
    [({"types": ["no.such"]}, "types"), ({"types": []}, "types"), ({"state": "disabled"}, "state")],
)
def test_a_change_is_refused_and_nothing_written_when_a_value_is_unknown(desk, endpoint, parts, field):
    with pytest.raises(Invalid) as caught:
        desk.update(endpoint.id, **parts)
    assert caught.value.errors[0]["field"] == field
    with reading() as session:
        assert endpoints.get(session, desk.controller_id, endpoint.id) == endpoint.view


# --- tests and repeats by hand


@pytest.mark.req("W26")
def test_only_the_tested_endpoint_gets_the_test_when_others_exist(desk, endpoint, receiver):
    desk.endpoint(f"{receiver.url}/other")
    assert receiver.requests == []
    with transaction() as session:
        ident = endpoints.test(session, desk.controller_id, endpoint.id, now=utc_now())
    desk.run()
    [request] = receiver.requests
    assert request.path == "/"
    body = Webhook(endpoint.secret).verify(request.body, dict(request.headers))
    assert (body["type"], body["data"]["test"]) == ("endpoint.test", True)
    with reading() as session:
        found = deliveries.get(session, desk.controller_id, ident)
    assert (found.state, found.trigger, found.attempts[0].status) == (DeliveryState.DELIVERED, "test", 200)


@pytest.mark.req("W26")
def test_a_test_is_not_tried_again_when_it_fails(desk, endpoint, receiver):
    receiver.answers.append(Answer(500))
    with transaction() as session:
        endpoints.test(session, desk.controller_id, endpoint.id, now=utc_now())
    desk.run()
    assert desk.only().state is DeliveryState.DEAD


@pytest.mark.req("W27")
@pytest.mark.parametrize("first", [200, 500])
def test_the_same_id_and_bytes_arrive_again_when_one_is_resent(desk, endpoint, receiver, first):
    receiver.answers.append(Answer(first))
    desk.publish()
    desk.run()
    again = desk.resend(desk.only().id)
    assert (again.state, again.trigger) == (DeliveryState.DUE, "resend")
    desk.run()
    one, two = receiver.requests
    assert one.body == two.body
    assert one.headers["webhook-id"] == two.headers["webhook-id"]
    found = desk.only()
    assert found.state is DeliveryState.DELIVERED
    assert [(item.number, item.trigger) for item in found.attempts] == [(1, "event"), (2, "resend")]


@pytest.mark.req("W27")
def test_a_resend_is_refused_when_the_endpoint_is_paused(desk, endpoint):
    desk.publish()
    desk.update(endpoint.id, state="paused")
    held = desk.deliveries()[0]
    with pytest.raises(Conflict):
        desk.resend(held.id)


@pytest.mark.req("W32")
def test_nothing_is_sent_when_the_person_was_erased_before_the_attempt(desk, endpoint, receiver, signup_and_confirm):
    receiver.default = Answer(500, body=b"no anna@example.net here")
    person = signup_and_confirm("anna@example.net")
    desk.run()
    assert len(receiver.requests) == 1
    with transaction() as session:
        assert deliveries.forget(session, [person.contact_id]) == 1
        forget_person(session, [person.contact_id])
        session.execute(text("UPDATE delivery SET next_at = created_at"))
    desk.run()
    assert len(receiver.requests) == 1
    found = desk.only()
    assert found.state is DeliveryState.DEAD
    assert (found.attempts[-1].error or "").startswith("erased")
    assert [item.response_body for item in found.attempts] == [None, None]
    with pytest.raises(Conflict):
        desk.resend(found.id)


def test_deliveries_come_page_by_page_when_there_are_many(desk, endpoint):
    idents = [desk.publish({"n": number}) for number in range(5)]
    desk.update(endpoint.id, state="paused")
    seen, after = [], ""
    with reading() as session:
        while views := deliveries.page(
            session, desk.controller_id, after=after, limit=2, endpoint_id=endpoint.id, state=DeliveryState.HELD
        ):
            seen += [item.publication_id for item in views if item.type != "endpoint.paused"]
            after = views[-1].id
        assert deliveries.page(session, desk.controller_id, state=DeliveryState.DEAD) == []
    assert sorted(seen) == sorted(idents)


# --- forbidden targets

FORBIDDEN = [
    "https://10.0.0.1/",
    "https://169.254.169.254/latest/meta-data",
    "https://100.64.0.1/",
    "https://192.168.1.1/",
    "https://[::1]/",
    "https://[::ffff:10.0.0.1]/",
    "https://[64:ff9b::a00:1]/",
    "https://[2002:a00:1::]/",
    "https://[fc00::1]/",
    "https://0x0a000001/",
    "https://167772161/",
    "https://10.1/",
    "https://0.0.0.0/",
    "https://224.0.0.1/",
    "ftp://127.0.0.1/",
    "https://user:pw@example.org/",
]


@pytest.mark.req("W34")
def test_an_endpoint_is_refused_when_its_url_points_inside(desk):
    for url in FORBIDDEN:
        with pytest.raises(OutboundRefused):
            desk.endpoint(url)
    assert count("SELECT count(*) FROM endpoint") == 0


@pytest.mark.req("W34")
def test_an_endpoint_keeps_its_url_when_the_new_one_points_inside(desk, endpoint):
    with pytest.raises(OutboundRefused):
        desk.update(endpoint.id, url="https://10.0.0.1/")
    with reading() as session:
        assert endpoints.get(session, desk.controller_id, endpoint.id).url == endpoint.url


class TestWithoutAllowance:
    """What the operator did not allow is refused at save, and at each connect."""

    @pytest.fixture
    def settings(self) -> dict[str, str]:
        return {"SIGNUP_OUTBOUND_ALLOW": ""}

    @pytest.mark.req("W34")
    def test_loopback_is_refused_at_save_when_nobody_allowed_it(self, desk, receiver):
        port = receiver.port
        for url in (receiver.url, f"https://127.0.0.1:{port}", f"https://localhost:{port}", "http://example.org/"):
            with pytest.raises(OutboundRefused):
                desk.endpoint(url)

    def owed(self, desk, url: str) -> None:
        desk.endpoint("https://crm.example.org/in")
        with transaction() as session:
            session.execute(text("UPDATE endpoint SET url = :url"), {"url": url})
        desk.publish()

    @pytest.mark.req("W34")
    def test_nothing_is_connected_when_a_saved_url_points_inside_at_send(self, desk, receiver):
        self.owed(desk, receiver.url)
        desk.run()
        assert receiver.requests == []
        [attempt] = desk.only().attempts
        assert attempt.error == "refused: address"
        assert desk.only().state is DeliveryState.DUE

    @pytest.mark.req("W35")
    def test_the_listener_is_never_reached_when_the_name_is_rebound_to_loopback(self, desk, receiver):
        asked = []

        def rebinding(host: str, port: int) -> list[str]:
            asked.append(host)
            return ["127.0.0.1"]

        self.owed(desk, f"https://crm.example.org:{receiver.port}/")
        desk.run(courier=desk.courier(resolver=rebinding, jitter=lambda: 0.0))
        assert asked == ["crm.example.org"]
        assert receiver.requests == []
        assert desk.only().attempts[0].error == "refused: address"

    @pytest.mark.req("W36")
    def test_a_name_is_refused_when_one_of_its_answers_is_private(self, desk, receiver):
        self.owed(desk, f"https://crm.example.org:{receiver.port}/")
        mixed = desk.courier(resolver=lambda host, port: ["93.184.215.14", "127.0.0.1"], jitter=lambda: 0.0)
        desk.run(courier=mixed)
        assert receiver.requests == []
        assert desk.only().attempts[0].error == "refused: address"


class TestWithAnAllowedHost:
    """The operator allows one host by name; that and nothing else is reached."""

    @pytest.fixture
    def settings(self) -> dict[str, str]:
        return {"SIGNUP_OUTBOUND_ALLOW": "crm.intern"}

    @pytest.mark.req("W36")
    def test_a_private_host_is_reached_by_http_when_the_operator_allows_its_name(self, desk, receiver):
        desk.endpoint(f"http://crm.intern:{receiver.port}/in")
        desk.publish()
        desk.run(courier=desk.courier(resolver=lambda host, port: ["127.0.0.1"]))
        assert [item.path for item in receiver.requests] == ["/in"]
        assert receiver.requests[0].headers["host"] == f"crm.intern:{receiver.port}"
        with pytest.raises(OutboundRefused):
            desk.endpoint(f"http://127.0.0.1:{receiver.port}/in")


# --- the feed


def test_publications_are_numbered_without_gaps_when_the_job_runs(desk):
    idents = [desk.publish({"n": number}) for number in range(5)]
    actions.Numbering()(utc_now)
    with reading() as session:
        rows = session.execute(select(Publication.id, Publication.seq)).all()
    numbers = {row.id: row.seq for row in rows}
    assert sorted(numbers.values()) == [1, 2, 3, 4, 5]
    assert set(numbers) == set(idents)
    late = desk.publish()
    actions.Numbering()(utc_now)
    with reading() as session:
        assert session.scalar(select(Publication.seq).where(Publication.id == late)) == 6


# --- the operator's allowance


@pytest.mark.req("W36")
def test_the_start_is_refused_and_names_each_entry_when_the_allowance_cannot_be_read(tmp_path):
    with pytest.raises(ConfigError) as caught:
        Config.from_env(environment(tmp_path, SIGNUP_OUTBOUND_ALLOW="10.0.0.0/99, crm.intern, two words"))
    named = [problem for problem in caught.value.problems if problem.startswith("SIGNUP_OUTBOUND_ALLOW")]
    assert len(named) == 2
    assert "10.0.0.0/99" in named[0]
    assert "two words" in named[1]
