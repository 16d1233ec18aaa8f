"""Guard 7: the migrated database is the one that the models describe, and every migration can be taken back."""

from __future__ import annotations

from typing import Any

from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from flask import Flask, current_app
from flask_migrate import downgrade, upgrade
from sqlalchemy import inspect, text

import signup.models  # noqa: F401 - the metadata is whole only with all of them
from signup.core.db import Base, database
from tests.guards.house import ROOT


def differences() -> list[Any]:
    """What autogenerate would write into the next migration."""
    with database().engine.connect() as connection:
        options = {"compare_type": True, "compare_server_default": True, "include_object": _is_ours}
        found = compare_metadata(MigrationContext.configure(connection, opts=options), Base.metadata)
        connection.rollback()
    return list(found)


def _is_ours(_object: object, name: str | None, kind: str, *_rest: object) -> bool:
    return not (kind == "table" and name == "alembic_version")


def _tables() -> set[str]:
    return set(inspect(database().engine).get_table_names()) - {"alembic_version"}


def test_schema_is_what_the_models_say_when_migrated(app: Flask) -> None:
    assert differences() == []
    assert _tables() == set(Base.metadata.tables)


def test_guard_speaks_when_the_schema_differs(app: Flask) -> None:
    with database().engine.begin() as connection:
        connection.execute(text("CREATE TABLE forgotten (id INTEGER PRIMARY KEY)"))
        connection.execute(text("ALTER TABLE contact ADD COLUMN shoe_size INTEGER"))
        connection.execute(text("DROP INDEX ix_job_due"))
    kinds = {found[0] for found in differences()}
    assert kinds == {"remove_table", "remove_column", "add_index"}


def test_each_migration_goes_back_and_forth_when_asked(app: Flask) -> None:
    steps = len(_numbers())
    before = _shape()
    for _step in range(steps):
        downgrade(revision="-1")
    assert _tables() == set()
    upgrade()
    assert _shape() == before
    assert differences() == []


def test_migrations_are_one_numbered_line_when_listed(app: Flask) -> None:
    folder = current_app.extensions["migrate"].directory
    scripts = ScriptDirectory(str(folder))
    assert len(scripts.get_heads()) == 1
    assert _numbers() == [f"{number:04d}" for number in range(1, len(_numbers()) + 1)]


def test_no_migration_imports_the_program_when_read() -> None:
    for path in (ROOT / "migrations" / "versions").glob("*.py"):
        source = path.read_text(encoding="utf-8")
        assert "import signup" not in source, f"{path.name}: the models of today are not those of that day"
        assert "from signup" not in source, f"{path.name}: the models of today are not those of that day"


def _numbers() -> list[str]:
    return sorted(path.name.partition("_")[0] for path in (ROOT / "migrations" / "versions").glob("*.py"))


def _shape() -> dict[str, list[tuple[str, str]]]:
    found = inspect(database().engine)
    return {name: [(c["name"], str(c["type"])) for c in found.get_columns(name)] for name in sorted(_tables())}
