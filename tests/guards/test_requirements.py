"""docs/requirements.md and the marks of the tests say the same."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from tests.guards.house import ROOT

PAGE = ROOT / "docs" / "requirements.md"
LINE = re.compile(r"^\| (?P<number>[A-Z]\d{1,2}[a-z]?) \| (?P<words>.+?) \| `(?P<test>[^`]+)` \|$", re.MULTILINE)


def marks(folder: Path, root: Path) -> dict[str, set[str]]:
    """Requirement to the tests that show it, as `path::name`."""
    found: dict[str, set[str]] = {}
    for path in sorted(folder.rglob("test_*.py")):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        name = path.relative_to(root).as_posix()
        for node in tree.body:
            members = node.body if isinstance(node, ast.ClassDef) else [node]
            for member in members:
                if isinstance(member, ast.FunctionDef) and member.name.startswith("test_"):
                    for number in _numbers(member.decorator_list):
                        found.setdefault(number, set()).add(f"{name}::{member.name}")
    return found


def _numbers(decorators: list[ast.expr]) -> list[str]:
    found = []
    for decorator in decorators:
        for node in ast.walk(decorator):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.req":
                found += [str(ast.literal_eval(argument)) for argument in node.args]
    return found


def lines(page: str) -> list[tuple[str, str, str]]:
    return [(match["number"], match["words"], match["test"]) for match in LINE.finditer(page)]


def problems(page: str, marked: dict[str, set[str]]) -> list[str]:
    listed = lines(page)
    numbers = [number for number, _, _ in listed]
    rows = [line for line in page.splitlines() if line.startswith("| ") and not line.startswith("| Number")]
    found = [
        f"{number} is shown by {sorted(marked[number])[0]} and not listed" for number in marked if number not in numbers
    ]
    found += [f"{number} is listed twice" for number in sorted(set(numbers)) if numbers.count(number) > 1]
    found += [
        f"{number} is said to be shown by {test}, which has no such mark"
        for number, _, test in listed
        if test not in marked.get(number, set())
    ]
    found += [f"{number} has too few words" for number, words, _ in listed if len(words.split()) < 4]
    if len(rows) != len(listed):
        found.append(f"{len(rows) - len(listed)} rows cannot be read")
    return found


def test_page_and_marks_agree_when_compared() -> None:
    marked = marks(ROOT / "tests", ROOT)
    assert problems(PAGE.read_text(encoding="utf-8"), marked) == []


def test_a_mark_is_a_requirement_when_it_carries_a_number() -> None:
    assert [number for number in marks(ROOT / "tests", ROOT) if not re.fullmatch(r"[A-Z]\d{1,2}[a-z]?", number)] == []


@pytest.mark.parametrize(
    ("row", "word"),
    [
        ("", "not listed"),
        ("| E1 | one two three four | `test_a.py::test_other` |", "no such mark"),
        ("| E2 | one two three four | `test_a.py::test_x` |", "no such mark"),
        ("| E1 | one | `test_a.py::test_x` |", "too few words"),
        ("| E1 | one two three four | test_a.py::test_x |", "cannot be read"),
        ("| E1 | a b c d | `test_a.py::test_x` |\n| E1 | a b c d | `test_a.py::test_x` |", "twice"),
    ],
)
def test_guard_speaks_when_page_and_marks_differ(row: str, word: str, tmp_path: Path) -> None:
    (tmp_path / "test_a.py").write_text('@pytest.mark.req("E1")\ndef test_x(): ...\n', encoding="utf-8")
    marked = marks(tmp_path, tmp_path)
    assert problems("| E1 | one two three four | `test_a.py::test_x` |\n", marked) == []
    assert word in " ".join(problems(row, marked))
