"""Guard 10: reading changes nothing, whoever reads: mail scanners, link previews, browsers that load ahead."""

from __future__ import annotations

import pytest
from flask import Flask
from flask.testing import FlaskClient

from tests.guards.world import World, changed, read, readable_paths, snapshot

# That a link was opened or a person's history read is a fact for the log. The log is no state, and neither is a number
# that says how often a page was seen.
LOG = frozenset({"event", "disclosure", "link_hits", "form_views"})
# Who took all data out is told to the controller's endpoints as well.
TOLD = {"export_api.export_csv": {"publication", "delivery"}, "export_api.export_jsonl": {"publication", "delivery"}}


@pytest.mark.req("A16")
@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_nothing_but_the_log_changes_when_every_route_is_read(
    app: Flask, client: FlaskClient, world: World, method: str
) -> None:
    statuses: dict[str, set[int]] = {}
    before = snapshot(without=LOG)
    for endpoint, path in readable_paths(app, world):
        status, _text = read(client, path, world.owner, method)
        statuses.setdefault(endpoint, set()).add(status)
    after = snapshot(without=LOG)
    allowed = set().union(*TOLD.values()) if method != "OPTIONS" else set()
    assert changed(before, after) <= allowed
    if method == "GET":
        silent = {endpoint for endpoint, found in statuses.items() if 200 not in found}
        assert silent <= {"mailbox.show_mail", "mailbox.show_html"}, "these were never really read"


def test_only_an_export_tells_endpoints_when_every_route_is_read(app: Flask, client: FlaskClient, world: World) -> None:
    before = snapshot(without=LOG)
    for endpoint, path in readable_paths(app, world):
        if endpoint not in TOLD:
            read(client, path, world.owner)
    assert changed(before, snapshot(without=LOG)) == set()


def test_guard_speaks_when_something_changed(client: FlaskClient, world: World) -> None:
    before = snapshot(without=LOG)
    client.post(f"/unsubscribe/{world.tokens['unsubscribe']}", data={"List-Unsubscribe": "One-Click"})
    assert {"subscription", "consent"} <= changed(before, snapshot(without=LOG))
