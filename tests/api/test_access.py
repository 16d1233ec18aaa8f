"""Keys and scopes: default deny, and only hashes at rest."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from types import SimpleNamespace

import pytest
from flask import Flask
from sqlalchemy import select

from signup.core.db import reading, transaction
from signup.core.values import utc_now
from signup.eventlog.models import Disclosure, Event
from signup.staff import access
from signup.staff.models import ApiKey
from signup.web import api as web_api
from signup.web import guard
from signup.web.api import OPERATIONS
from tests.api.conftest import Api


def _concrete(path: str) -> str:
    return "/".join("x" if part.startswith("<") else part for part in path.removeprefix("/api/v1").split("/"))


def test_every_operation_refuses_when_there_is_no_key(app: Flask) -> None:
    assert len(OPERATIONS) >= 20
    for operation in OPERATIONS:
        answer = Api(app, None)(operation.method, _concrete(operation.path))
        assert answer.status_code == 401, operation.path
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert answer.content_type == "application/problem+json"


def test_every_operation_names_its_scope_when_the_key_has_another(key_with: Callable[..., Api]) -> None:
    for operation in OPERATIONS:
        other = "export" if operation.scope != "export" else "forms.read"
        answer = key_with(other)(operation.method, _concrete(operation.path))
        assert answer.status_code == 403, operation.path
        assert answer.json is not None
        assert (answer.json["code"], answer.json["scope"]) == ("missing-scope", operation.scope)


def test_every_view_under_the_api_says_who_may_call_when_routes_are_listed(app: Flask) -> None:
    views = {
        rule.endpoint: app.view_functions[rule.endpoint]
        for rule in app.url_map.iter_rules()
        if rule.rule.startswith("/api/")
    }
    scopes = {name: guard.scope_of(view) for name, view in views.items()}
    assert {name for name, scope in scopes.items() if scope == guard.PUBLIC} == {"api.openapi", "api.docs"}
    assert all(scope == guard.PUBLIC or scope in access.SCOPES for scope in scopes.values()), scopes
    for name in views:
        hooks = app.before_request_funcs.get(name.partition(".")[0], [])
        assert guard.refuse_strangers in hooks, name


def test_a_view_is_refused_to_everybody_when_it_forgot_its_scope(app: Flask, api: Api) -> None:
    group = web_api.blueprint("odd")
    group.add_url_rule("/odd", "odd", lambda: "secret")
    app.register_blueprint(group)
    answer = api.get("/odd")
    assert answer.status_code == 403
    assert b"secret" not in answer.get_data()


def test_a_scope_cannot_be_named_when_it_does_not_exist() -> None:
    with pytest.raises(ValueError, match="no scope"):
        guard.needs("everything")


@pytest.mark.parametrize("header", ["", "Bearer", "Bearer ", "Basic abc", "Bearer sk_wrong", "Bearer ä", "sk_x"])
def test_call_is_refused_when_the_header_is_not_a_working_key(app: Flask, header: str) -> None:
    answer = app.test_client().get("/api/v1/forms", headers={"Authorization": header})
    assert answer.status_code == 401


def test_call_is_refused_when_the_key_was_revoked(app: Flask, demo: SimpleNamespace) -> None:
    with transaction() as session:
        made = access.create_key(session, demo.controller.id, "old", ["forms.read"], now=utc_now())
    assert Api(app, made.secret).get("/forms").status_code == 200
    with transaction() as session:
        assert access.revoke(session, demo.controller.id, made.id, now=utc_now())
        assert not access.revoke(session, demo.controller.id, made.id, now=utc_now())
    assert Api(app, made.secret).get("/forms").status_code == 401


def test_only_the_hash_is_stored_and_an_event_recorded_when_a_key_is_made(demo: SimpleNamespace) -> None:
    with transaction() as session:
        made = access.create_key(session, demo.controller.id, "crm", ["forms.read"], now=utc_now())
    assert made.secret.startswith("sk_")
    assert len(made.secret) >= 3 + 43
    with reading() as session:
        row = session.scalars(select(ApiKey).where(ApiKey.id == made.id)).one()
        assert row.key_hash == hashlib.sha256(made.secret.encode()).digest()
        assert made.secret not in repr(vars(row))
        events = select(Disclosure.data).join(Event, Event.id == Disclosure.event_id)
        told = [data for data in session.scalars(events) if made.id.encode() in data]
        assert told
        assert not [data for data in session.scalars(select(Disclosure.data)) if made.secret.encode() in data]
    assert made.secret not in repr(made)


def test_hashing_holds_when_the_key_is_odd_unicode(app: Flask) -> None:
    answer = app.test_client().get("/api/v1/forms", headers={"Authorization": "Bearer sk_ü" + "x" * 50})
    assert answer.status_code == 401
