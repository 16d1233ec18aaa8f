"""Guard 3: what says something about a person is marked as such, and goes with the person."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from flask import Flask
from sqlalchemy import Column, LargeBinary, MetaData, String, Table

from signup.core.db import Base
from signup.privacy import retention
from tests.conftest import CLIENT, Clock, SignedUp
from tests.guards.world import Snapshot, rows, snapshot

# Long enough for the longest link to expire, and for what is held after that.
LONG = timedelta(days=32)


def marked(metadata: MetaData = Base.metadata) -> set[tuple[str, str]]:
    return {
        (table.name, column.name)
        for table in metadata.tables.values()
        for column in table.columns
        if "personal" in column.info
    }


def telling(found: Snapshot, words: set[str], metadata: MetaData = Base.metadata) -> set[tuple[str, str]]:
    """Columns in which one of the words can be read."""
    return {
        (name, column.name)
        for name, lines in found.items()
        for line in lines
        for column, value in zip(metadata.tables[name].columns, line, strict=True)
        if any(word in _text(value) for word in words)
    }


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def test_what_can_be_read_about_a_person_is_marked_when_everything_is_searched(
    app: Flask, signup_and_confirm: Callable[..., SignedUp]
) -> None:
    person = signup_and_confirm("anna@kunde.example")
    words = {person.email, CLIENT.ip, CLIENT.user_agent}
    found = telling(snapshot(), words)
    assert ("contact", "email") in found
    assert found - marked() == set()


def test_nothing_of_a_person_is_left_when_nobody_confirmed(
    app: Flask, clock: Clock, sign_up: Callable[..., SignedUp]
) -> None:
    person = sign_up("bert@kunde.example")
    holders = _holders(person.contact_id)
    assert {"contact", "subscription", "consent", "message", "event"} <= holders
    clock.forward(days=LONG.days)
    retention.run_now(clock)
    retention.run_now(clock)
    assert _holders(person.contact_id) == set()
    assert telling(snapshot(), {person.email, person.contact_id}) == set()
    sealed = {name for name in ("message", "publication") for row in rows(name) if _sealed(row)}
    assert sealed == set(), "bytes of a person whose key is gone"


def _sealed(row: Any) -> bool:
    return bool(getattr(row, "payload", None) or getattr(row, "sealed", None) not in (None, False, True))


def _holders(contact_id: str) -> set[str]:
    """Tables with a row of this person."""
    found = {
        table.name
        for table in Base.metadata.tables.values()
        if "contact_id" in table.columns and rows(table.name, contact_id=contact_id)
    }
    return found | ({"contact"} if rows("contact", id=contact_id) else set())


def test_each_mark_says_what_the_column_tells_when_listed() -> None:
    assert len(marked()) >= 8
    for table, column in marked():
        assert len(str(Base.metadata.tables[table].columns[column].info["personal"]).split()) >= 2


def test_guard_speaks_when_a_column_is_not_marked() -> None:
    metadata = MetaData()
    Table("note", metadata, Column("text", String), Column("raw", LargeBinary), Column("kind", String))
    found: Snapshot = {"note": [("call anna@kunde.example", b"anna@kunde.example", "call")]}
    assert telling(found, {"anna@kunde.example"}, metadata) == {("note", "text"), ("note", "raw")}
    assert marked(metadata) == set()
