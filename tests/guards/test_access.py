"""Guard 2: every route is public on purpose or takes a scope; nothing is open because somebody forgot."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.routing import Rule

from signup.staff.access import SCOPES
from signup.web import guard
from tests.guards.world import operations

# Who needs no key, and what stands in for it.
PUBLIC: dict[str, str] = {
    "static": "files that every page needs",
    "forms.show": "the form itself",
    "forms.preflight": "browsers ask it before a sign-up from another site",
    "forms.submit": "the sign-up; budgets bound it",
    "abuse.issue": "a puzzle, made for whoever asks",
    "inbox.show_pending": "a random handle",
    "inbox.answer_pending": "a random handle, a page nonce, five tries and the caps of the address",
    "inbox.show_code": "a mailed token",
    "inbox.enter_code": "a mailed token, a page nonce and five tries",
    "embeds.channel": "the embed script, for pages of other sites",
    "embeds.script": "the embed script, for pages of other sites",
    "embeds.stylesheet": "the looks of plain HTML forms on other sites",
    "embeds.fragment": "the form itself",
    "embeds.frame": "the form itself; its policy says who may frame it",
    "embeds.qr_svg": "a picture of the form's own address",
    "embeds.qr_png": "a picture of the form's own address",
    "embeds.count_view": "one more in a number",
    "preferences.show": "a mailed token",
    "preferences.change": "a mailed token and a page nonce",
    "lost.show": "a page about nobody",
    "lost.puzzle": "a puzzle, made for whoever asks",
    "lost.ask": "the guard of every sign-up, caps of its own, and a link that goes to the mailbox only",
    "contacts.show_address": "a mailed token",
    "contacts.confirm_address": "a mailed token and a page nonce",
    "subscriptions.show_confirm": "a mailed token",
    "subscriptions.confirm": "a mailed token and a page nonce",
    "subscriptions.show_not_me": "a mailed token",
    "subscriptions.not_me": "a mailed token and a page nonce",
    "subscriptions.show_unsubscribe": "a mailed token",
    "subscriptions.unsubscribe": "a mailed token",
    "brand.theme": "a colour as a style sheet, for any colour",
    "brand.logo": "the picture on a controller's public pages",
    "evidence_public.show_anchors": "what everybody needs who checks a proof",
    "evidence_public.explain": "a page about nobody",
    "receipts.show_receipt": "a mailed token; shows what its owner said",
    "intake.notice": "a provider's signature or token",
    "reports.health": "says only that the process is up",
    "reports.ready": "says only whether the service can serve",
    "reports.metrics": "this machine, or the token of the operator",
    "mailbox.show": "in development only",
    "mailbox.show_mail": "in development only",
    "mailbox.show_html": "in development only",
    "api.openapi": "the description of the API",
    "api.docs": "the description of the API",
}


def problems(views: Mapping[str, Callable[..., Any]], hooks: Mapping[str, list[Any]]) -> list[str]:
    """Endpoints that nobody decided about, or whose decision nothing enforces."""
    found = []
    for endpoint, view in views.items():
        scope = guard.scope_of(view)
        guarded = guard.refuse_strangers in hooks.get(endpoint.rpartition(".")[0], [])
        if endpoint in PUBLIC:
            if scope not in (None, guard.PUBLIC):
                found.append(f"{endpoint} is called public and takes the scope {scope}")
        elif scope not in SCOPES:
            found.append(f"{endpoint} is neither public nor takes a scope")
        elif not guarded:
            found.append(f"{endpoint} names a scope and nothing checks it")
    return found


def _hooks(app: Flask) -> dict[str, list[Any]]:
    return {str(name): list(found) for name, found in app.before_request_funcs.items()}


def test_each_route_is_public_or_takes_a_scope_when_listed(app: Flask) -> None:
    assert len(app.view_functions) > 30
    assert problems(app.view_functions, _hooks(app)) == []


def test_no_route_is_called_public_when_it_is_gone(app: Flask) -> None:
    assert sorted(PUBLIC.keys() - app.view_functions.keys()) == []


def test_each_operation_is_a_route_with_its_scope_when_compared(app: Flask) -> None:
    rules: dict[str, Rule] = {rule.endpoint: rule for rule in app.url_map.iter_rules()}
    for operation in operations():
        assert rules[operation.endpoint].rule == operation.path
        assert guard.scope_of(app.view_functions[operation.endpoint]) == operation.scope
    scopes = {operation.scope for operation in operations()}
    assert scopes == SCOPES.keys(), "a scope that no call takes, or a call that takes no scope"


@pytest.mark.parametrize("header", [None, "Bearer sk_wrong", "Basic c2tfd3Jvbmc6", "Bearer "])
def test_no_operation_answers_when_the_key_is_wrong(app: Flask, client: FlaskClient, header: str | None) -> None:
    headers = {"Authorization": header} if header else {}
    for operation in operations():
        path = operation.path.replace("<", "").replace(">", "")
        answer = client.open(path, method=operation.method, json={}, headers=headers)
        assert answer.status_code == 401, (operation.method, path)
        assert answer.headers["WWW-Authenticate"] == "Bearer"


def test_guard_speaks_when_a_view_has_no_rule(app: Flask) -> None:
    def view() -> str:
        return ""

    scoped = guard.needs("export")(lambda: "")
    assert problems({"forms.secret": view}, {}) == ["forms.secret is neither public nor takes a scope"]
    assert problems({"new.list": scoped}, {}) == ["new.list names a scope and nothing checks it"]
    assert problems({"new.list": scoped}, {"new": [guard.refuse_strangers]}) == []
    assert "takes the scope" in problems({"forms.show": scoped}, {})[0]
