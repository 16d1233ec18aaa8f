"""Guard 4: a controller reaches nothing of another one, by any call with any id."""

from __future__ import annotations

from http import HTTPStatus

from flask.testing import FlaskClient

from tests.guards.world import World, call, filled, lost, operations, snapshot


def test_a_stranger_reads_nothing_when_asking_every_call_for_every_id(client: FlaskClient, world: World) -> None:
    calls = 0
    for operation in operations():
        for path in filled(operation.path, sorted(world.ids | world.slugs)):
            answer = call(client, operation, path, world.stranger)
            calls += 1
            assert answer.status_code < 500, (operation.method, path, answer.text)
            if "<" in operation.path:
                assert answer.status_code == HTTPStatus.NOT_FOUND, (operation.method, path, answer.text)
            leaked = [word for word in world.words | world.ids if word.encode() in answer.data]
            assert leaked == [], (operation.method, path, leaked)
    assert calls > 100


def test_a_stranger_changes_nothing_when_making_every_call_with_every_id(client: FlaskClient, world: World) -> None:
    before = snapshot()
    for operation in operations("POST", "PATCH", "PUT", "DELETE"):
        for path in filled(operation.path, sorted(world.ids | world.slugs)):
            call(client, operation, path, world.stranger)
    assert lost(before, snapshot()) == set()


def test_a_stranger_finds_nobody_when_searching_by_address(client: FlaskClient, world: World) -> None:
    found = 0
    for operation in operations("GET"):
        if operation.query is None or "email" not in operation.query.__struct_fields__:
            continue
        for key, expected in ((world.owner, 1), (world.stranger, 0)):
            headers = {"Authorization": f"Bearer {key}"}
            answer = client.get(operation.path, query_string={"email": world.email}, headers=headers)
            assert len(answer.get_json()["items"]) == expected, operation.path
            found += 1
    assert found >= 4


def test_the_same_calls_reach_everything_when_the_owner_makes_them(client: FlaskClient, world: World) -> None:
    before = snapshot()
    reached: set[str] = set()
    read = b""
    # What removes things comes last, so that there is something to reach.
    for operation in sorted(operations(), key=lambda one: (one.method == "DELETE", one.path.endswith("/end"))):
        for path in filled(operation.path, sorted(world.ids | world.slugs)):
            answer = call(client, operation, path, world.owner)
            if answer.status_code < HTTPStatus.BAD_REQUEST:
                reached.add(operation.endpoint)
                read += answer.data
    assert {operation.endpoint for operation in operations()} - reached == set()
    assert world.email.encode() in read
    assert {"subscription", "endpoint"} <= lost(before, snapshot())
