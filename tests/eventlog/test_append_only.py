"""Nobody edits or deletes what is in the log: no line of the program, no route, no command, no permission."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from flask import Flask
from sqlalchemy import select

from signup.core.db import reading, transaction
from signup.eventlog.models import Checkpoint, Event, LogKey, LogTile, LogTimestamp
from signup.privacy import retention
from signup.staff.access import SCOPES
from tests.guards.house import SOURCE, modules, write

TABLES = ("Event", "Disclosure", "LogTile", "Checkpoint", "LogKey", "LogTimestamp")
ACTS = ("delete", "update", "insert", "upsert", "put", "put_select", "change", "remove", "merge")
# Everything that touches the log, and what it does to it.
ALLOWED = {
    ("signup.eventlog.record", "record", "put", "Event"): "the fact is written",
    ("signup.eventlog.record", "_disclose", "put", "Disclosure"): "with its fields",
    ("signup.eventlog.record", "redact", "delete", "Disclosure"): "fields go by class, the leaf stays",
    ("signup.eventlog.record", "strip", "change", "Disclosure"): "fields go by name, the leaf stays",
    ("signup.eventlog.record", "strip", "remove", "Disclosure"): "the last of them goes with its row",
    ("signup.eventlog.record", "forget_person", "delete", "Disclosure"): "fields about a person go",
    ("signup.eventlog.record", "forget_person", "update", "Event"): "whom it was about goes",
    ("signup.eventlog.sealing", "seal", "change", "Event"): "it gets its place, once",
    ("signup.eventlog.sealing", "seal", "put", "LogTile"): "hashes are added",
    ("signup.eventlog.sealing", "seal", "put", "Checkpoint"): "a checkpoint is added",
    ("signup.eventlog.sealing", "_note_key", "put", "LogKey"): "a key is added",
    ("signup.eventlog.sealing", "_link", "update", "LogTimestamp"): "it is named by a leaf, once",
    ("signup.eventlog.stamping", "keep", "put", "LogTimestamp"): "a time stamp is added",
}


def touches(source: Path) -> set[tuple[str, str, str, str]]:
    """Module, function, act and table of each place that writes to the log."""
    found = set()
    for name, module in modules(source).items():
        for function in ast.walk(module.tree):
            if isinstance(function, ast.FunctionDef):
                found |= {(name, function.name, *touch) for touch in _touches(function)}
    return found


def _touches(function: ast.FunctionDef) -> Iterator[tuple[str, str]]:
    for node in ast.walk(function):
        if isinstance(node, ast.Call):
            act = ast.unparse(node.func).rpartition(".")[2]
            for argument in node.args:
                table = ast.unparse(argument).rpartition(".")[2]
                if act in ACTS and table in TABLES:
                    yield act, table


def spelled(source: Path) -> list[str]:
    """Places that name the log's tables in SQL of their own."""
    words = [f"{act} {table}" for act in ("UPDATE", "DELETE FROM", "INSERT INTO") for table in _names()]
    return [
        f"{path.name}: {word}"
        for path in sorted(source.rglob("*.py"))
        for word in words
        if f"{word} " in path.read_text(encoding="utf-8")
    ]


def _names() -> list[str]:
    return ["event", "disclosure", *(model.__tablename__ for model in (LogTile, Checkpoint, LogKey, LogTimestamp))]


@pytest.mark.req("E44")
def test_only_known_lines_write_to_the_log_when_the_source_is_read() -> None:
    assert touches(SOURCE) == set(ALLOWED)
    assert spelled(SOURCE) == []


def test_guard_speaks_when_a_line_would_delete_events(tmp_path: Path) -> None:
    samples = {
        "privacy/a.py": "def f(s):\n    s.execute(delete(Event).where(Event.id == 1))\n",
        "privacy/b.py": "def f(s):\n    s.change(models.Event, {}, {'leaf': b''})\n",
        "privacy/c.py": "def f(s):\n    s.execute(text('DELETE FROM event WHERE id = 1'))\n",
    }
    source = write(tmp_path, samples)
    assert touches(source) == {
        ("signup.privacy.a", "f", "delete", "Event"),
        ("signup.privacy.b", "f", "change", "Event"),
    }
    assert spelled(source) == ["c.py: DELETE FROM event"]


@pytest.mark.req("E44")
def test_no_route_command_or_permission_is_for_changing_events(app: Flask) -> None:
    words = ("event", "evidence", "checkpoint", "disclosure")
    reading_only = {"GET", "HEAD", "OPTIONS"}
    rules = [rule for rule in app.url_map.iter_rules() if any(word in rule.rule for word in words)]
    assert len(rules) >= 2
    # A disputed mail is too long for a query, so it is looked up by its body.
    posted = [rule.rule for rule in rules if (rule.methods or set()) - reading_only]
    assert set(posted) <= {"/api/v1/evidence/search"}
    group = app.cli.commands["evidence"]
    assert isinstance(group, click.Group)
    forbidden = ("edit", "delete", "drop", "remove", "change", "set", "purge")
    assert [name for name in group.commands if any(word in name.split("-") for word in forbidden)] == []
    about = [scope for scope in SCOPES if any(word in scope for word in words)]
    assert about
    assert [scope for scope in about if not scope.endswith(".read")] == []


@pytest.mark.req("E44")
def test_every_event_keeps_its_leaf_when_a_person_is_erased(
    app: Flask, signup_and_confirm: Callable[..., Any], demo: Any, now: Any
) -> None:
    person = signup_and_confirm("anna@beispiel.de")
    before = _kept()
    assert len(before) >= 3
    with transaction() as session:
        retention.forget(session, [person.contact_id], "erased", now=now)
    after = _kept()
    assert before <= after


def _kept() -> set[tuple[Any, ...]]:
    with reading() as session:
        rows = session.execute(select(Event.id, Event.kind, Event.occurred_at, Event.controller_id, Event.leaf))
        return {tuple(row) for row in rows}
