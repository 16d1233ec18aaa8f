"""No answer, page, export, log line or row shows what would let a reader confirm, sign in or write in our name."""

from __future__ import annotations

import logging

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.guards.world import World, read, readable_paths, snapshot


def _stored() -> str:
    return repr(snapshot())


@pytest.mark.req("E14")
def test_no_route_shows_a_live_confirm_token_when_all_are_read_with_every_scope(
    app: Flask, client: FlaskClient, world: World
) -> None:
    total = 0
    for endpoint, path in readable_paths(app, world):
        if any(world.tokens[purpose] in path for purpose in ("confirm", "not-me", "code")):
            continue
        _status, text = read(client, path, world.owner)
        total += len(text)
        for purpose in ("confirm", "not-me"):
            assert world.tokens[purpose] not in text, endpoint
            assert world.tokens[purpose].partition(".")[0] not in text, endpoint
    assert total > 20_000


def test_no_row_holds_a_live_secret_when_the_database_is_read(world: World) -> None:
    stored = _stored()
    assert world.email in stored
    for purpose in ("confirm", "not-me"):
        assert world.tokens[purpose] not in stored, purpose
    assert world.owner not in stored
    assert world.owner.removeprefix("sk_") not in stored


def test_no_log_line_holds_an_address_or_token_when_every_route_is_read(
    app: Flask, client: FlaskClient, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    headers = {"Authorization": f"Bearer {world.owner}"}
    for _endpoint, path in readable_paths(app, world):
        read(client, path, world.owner)
    client.post("/f/demo-de", data={"email": "dora@kunde.example", "purpose": "invitations"})
    client.get("/api/v1/contacts", query_string={"email": world.email}, headers=headers)
    lines = [repr(vars(record)) for record in caplog.records if record.name.startswith("signup")]
    assert len(lines) > 30
    hidden = {*world.tokens.values(), world.owner, world.email, world.waiting_email, "dora@kunde.example"}
    assert [(line, word) for line in lines for word in hidden if word in line] == []
