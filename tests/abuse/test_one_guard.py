"""One guard for every way to cause a mail: whoever queues one is on this list, with what bounds it."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.guards.house import SOURCE, modules

# Who queues mails, and why no stranger can make them do it past the guard.
QUEUES = {
    "signup.subscriptions.questions": "asked by requests and resending only, which go through the guard",
    "signup.subscriptions.welcoming": "after a click in the person's own mailbox, once a confirmation",
    "signup.subscriptions.addresses": "asked by a program with a key; draws on the caps of both addresses",
    "signup.subscriptions.newlinks": "asked on a page that goes through the guard; to who is signed up, within caps",
    "signup.subscriptions.notices": "a digest to addresses that staff entered",
    "signup.forms.mailing": "a command of staff, to the address they name",
}
GUARD = {"limits", "admission"}


def callers(*names: str, source: Path = SOURCE) -> set[str]:
    """Modules that call one of these functions by a module's name, such as `compose.queue(...)`."""
    found = set()
    for name, module in modules(source).items():
        for node in ast.walk(module.tree):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                base = node.func.value
                if isinstance(base, ast.Name) and f"{base.id}.{node.func.attr}" in names:
                    found.add(name)
    return found


def uses(name: str) -> set[str]:
    """The parts of the guard that a module calls."""
    tree = modules()[name].tree
    return {
        node.func.value.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and isinstance(node.func.value, ast.Name)
    } & GUARD


@pytest.mark.req("A1")
def test_every_way_to_ask_by_mail_goes_through_the_guard_when_the_source_is_read() -> None:
    asking = callers("questions.open_confirmation", "questions.queue_notice")
    assert asking >= {"signup.subscriptions.requests", "signup.subscriptions.resending"}
    assert {name: uses(name) for name in asking if uses(name) != GUARD} == {}
    assert "limits" in uses("signup.subscriptions.addresses")
    assert uses("signup.subscriptions.newlinks") == GUARD


def test_nobody_else_queues_a_mail_when_the_source_is_read() -> None:
    assert callers("compose.queue") == set(QUEUES)


def test_the_test_speaks_when_somebody_queues_a_mail_past_the_guard(tmp_path: Path) -> None:
    (tmp_path / "forms").mkdir()
    (tmp_path / "forms" / "actions.py").write_text("compose.queue(session, draft, now=now)\n")
    assert len(callers("compose.queue", source=tmp_path)) == 1
