"""Guard 11: nothing is longer than can be read at once. Docstrings do not count."""

from __future__ import annotations

from pathlib import Path

from tests.guards.house import HTTP, SOURCE, functions, is_view, length, modules, rank, write

MAX_FILE, MAX_FUNCTION, MAX_VIEW = 400, 40, 20

# What is longer, and why that is better than cutting it. The only place for such reasons.
ALLOWED: dict[str, str] = {}


def violations(source: Path, allowed: dict[str, str]) -> list[str]:
    found = []
    for module in modules(source).values():
        lines = len(module.path.read_text(encoding="utf-8").splitlines())
        if lines > MAX_FILE and module.name not in allowed:
            found.append(f"{module.name}: {lines} lines, at most {MAX_FILE}")
        here = rank(module)
        for function in functions(module.tree):
            name = f"{module.name}.{function.name}"
            most = MAX_VIEW if here and here[0] == HTTP and is_view(function) else MAX_FUNCTION
            if length(function) > most and name not in allowed:
                found.append(f"{name}: {length(function)} lines, at most {most}")
    return found


def test_nothing_is_too_long_when_measured() -> None:
    assert violations(SOURCE, ALLOWED) == []


def test_no_exception_is_kept_when_it_is_no_longer_needed() -> None:
    needed = {problem.partition(":")[0] for problem in violations(SOURCE, {})}
    assert sorted(ALLOWED.keys() - needed) == []
    assert all(len(reason.split()) >= 5 for reason in ALLOWED.values())


def test_guard_speaks_when_the_sample_is_too_long(tmp_path: Path) -> None:
    body = "    x = 1\n"
    view = '@blueprint.get("/")\ndef page():\n'
    source = write(
        tmp_path,
        {
            "core/long.py": "x = 1\n" * 401,
            "core/function.py": "def act():\n" + body * 40,
            "forms/public.py": view + body * 20,
            "forms/actions.py": "def act():\n" + body * 39,
            "mail/public.py": view + '    """Said.\n\n    More.\n    """\n' + body * 19,
        },
    )
    assert violations(source, {}) == [
        "signup.core.function.act: 41 lines, at most 40",
        "signup.core.long: 401 lines, at most 400",
        "signup.forms.public.page: 21 lines, at most 20",
    ]
