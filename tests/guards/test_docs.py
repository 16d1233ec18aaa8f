"""Guard 5: each event, setting, scope, webhook type, metric, command and room is in the docs, and no other."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from flask import Flask
from flask.testing import FlaskClient

from signup import wiring
from signup.core.config import SETTINGS
from signup.eventlog.kinds import EventType
from signup.staff.access import SCOPES
from signup.webhooks.types import OFF_BY_DEFAULT, TYPES
from tests.guards.house import ASSEMBLY, FEATURES, ROOT, SOURCE

DOCS = ROOT / "docs"
# What Flask and Flask-Migrate bring along, as far as nobody needs it.
FOREIGN_COMMANDS = ("run", "shell", "routes", "db")


def table(page: str, heading: str, column: str) -> dict[str, str]:
    """The rows of the first table below `heading` whose first column is `column`: name to what is said of it."""
    text = (DOCS / page).read_text(encoding="utf-8")
    assert f"\n## {heading}\n" in text, f"{page} has no part {heading}"
    part = text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]
    return rows(part, column)


def rows(part: str, column: str) -> dict[str, str]:
    inside = re.search(rf"^\| {re.escape(column)} \|.*\n\|[-|]+\n((?:\|.*\n)*)", part + "\n", re.MULTILINE)
    assert inside, f"no table of {column}"
    found = {}
    for line in inside[1].splitlines():
        name, *rest = (cell.strip() for cell in line.strip("|").split("|"))
        found[name.strip("`")] = rest[-1]
    return found


def unequal(told: dict[str, str], there: set[str]) -> list[str]:
    found = [f"{name} is not in the docs" for name in sorted(there - told.keys())]
    found += [f"{name} is in the docs and nowhere else" for name in sorted(told.keys() - there)]
    return found + [f"{name} has no explanation" for name, text in told.items() if len(text.split()) < 2]


def test_each_event_is_explained_when_listed() -> None:
    assert unequal(table("operations.md", "The event log", "Event"), {kind.value for kind in EventType}) == []


def test_each_setting_is_explained_when_listed() -> None:
    source = (SOURCE / "core" / "config.py").read_text(encoding="utf-8") + (ROOT / "gunicorn.conf.py").read_text()
    wanted = "HOST|PORT|SECRET_KEY|SECRET_KEY_FALLBACKS|DATABASE_URL|PUBLIC_URL|WEB_CONCURRENCY|MAIL_[A-Z_]+"
    read = set(re.findall(rf'"({wanted})"', source))
    assert len(read) > 12
    told = table("operations.md", "Settings", "Name")
    assert unequal(told, read | set(SETTINGS)) == []


def test_no_setting_is_read_past_the_list_when_the_source_is_searched() -> None:
    names = set()
    for path in SOURCE.rglob("*.py"):
        names |= set(re.findall(r'"(SIGNUP_[A-Z_]+[A-Z])"', path.read_text(encoding="utf-8")))
    assert names == set(SETTINGS)


def test_each_scope_is_explained_when_listed() -> None:
    assert unequal(table("operations.md", "API keys", "Scope"), set(SCOPES)) == []


def test_each_webhook_type_is_explained_when_listed() -> None:
    told = table("receivers.md", "Types", "Type")
    assert unequal(told, set(TYPES)) == []
    assert {name for name, text in told.items() if "off by default" in text} == OFF_BY_DEFAULT


def test_each_job_is_explained_when_listed() -> None:
    told = table("operations.md", "Work in the background", "Job")
    assert {kind.name for kind in wiring.JOBS} == told.keys() - {"webhook deliveries"}


def test_each_metric_is_explained_when_scraped(client: FlaskClient) -> None:
    families = set(re.findall(r"^# TYPE (\S+)", client.get("/metrics").text, re.MULTILINE))
    assert len(families) > 5
    assert unequal(table("operations.md", "Health, readiness, metrics", "Metric"), families) == []


def _commands(group: click.Group, before: str = "flask") -> Iterator[str]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from _commands(command, f"{before} {name}")
        else:
            yield f"{before} {name}"


def test_each_command_is_explained_when_listed(app: Flask) -> None:
    own = {name for name in _commands(app.cli) if name.split()[1] not in FOREIGN_COMMANDS} | {"flask db upgrade"}
    assert len(own) > 10
    assert unequal(table("operations.md", "Commands", "Command"), own) == []


def test_each_room_has_its_place_when_the_floors_are_read() -> None:
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    floors = text.partition("## Floors")[2].partition("\n## ")[0]
    told = set(re.findall(r"`([a-z]+)`", floors))
    there = {path.name for path in SOURCE.iterdir() if path.is_dir() and (path / "__init__.py").exists()}
    there |= {path.stem for path in SOURCE.glob("*.py")} - {"__init__"}
    assert there - told == set()
    assert set(FEATURES) & there <= told
    assert set(ASSEMBLY) <= told


def test_each_file_named_in_a_route_exists_when_followed() -> None:
    text = (DOCS / "architecture.md").read_text(encoding="utf-8")
    places = set(re.findall(r"`((?:[a-z_]+/)?[a-z_]+\.py)(?: ([a-z_A-Z]+))?", text))
    assert len(places) > 20
    for name, function in places:
        found = [
            path
            for path in [*SOURCE.rglob("*.py"), *(ROOT / "tests").rglob("*.py")]
            if path.as_posix().endswith("/" + name)
        ]
        assert found, name

        sources = [path.read_text(encoding="utf-8") for path in found]
        assert not function or any(re.search(rf"(?:def|class) {function}\b", text) for text in sources), function


def test_each_dependency_has_its_reason_when_listed() -> None:
    text = (DOCS / "why.md").read_text(encoding="utf-8").lower()
    for name in ("requirements.in", "requirements-dev.in"):
        for line in (ROOT / name).read_text(encoding="utf-8").splitlines():
            if found := re.match(r"[A-Za-z][\w.-]*", line):
                assert f"`{found[0].lower()}`" in text, f"{found[0]} of {name} has no line in docs/why.md"


def test_each_link_leads_somewhere_when_a_page_is_read() -> None:
    pages = [*DOCS.glob("*.md"), ROOT / "README.md", ROOT / "CHANGELOG.md"]
    assert len(pages) >= 9
    for page in pages:
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


@pytest.mark.parametrize(
    ("told", "there", "word"),
    [
        ({"a": "said well"}, {"a", "b"}, "b is not in the docs"),
        ({"a": "said well", "b": "said well"}, {"a"}, "b is in the docs and nowhere else"),
        ({"a": ""}, {"a"}, "a has no explanation"),
    ],
)
def test_guard_speaks_when_docs_and_program_differ(told: dict[str, str], there: set[str], word: str) -> None:
    assert unequal({"a": "said well"}, {"a"}) == []
    assert unequal(told, there) == [word]


def test_guard_reads_only_its_own_table_when_there_are_two() -> None:
    other = "\n| X | y |\n|---|---|\n| `no` | other thing |\n"
    part = other + "\n| Name | Default | Meaning |\n|---|---|---|\n| `A` | 1 | it is |\n"
    assert rows(part, "Name") == {"A": "it is"}
    with pytest.raises(AssertionError, match="no table of Z"):
        rows(part, "Z")


def test_screenshots_of_the_readme_exist_when_shown() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    shown = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", text)
    assert shown
    for name in shown:
        assert Path(ROOT / name).stat().st_size > 1000
