"""Guard 1: import only from a lower floor, an earlier feature, or your own folder, and never in a circle."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.guards.house import CORE, FEATURE, HTTP, SOURCE, TOP, Module, imports, modules, rank, write


def _own(module: Module, known: dict[str, Module]) -> list[Module]:
    return [known[name] for name in sorted(imports(module, known)) if name in known and name != module.name]


def _upward(module: Module, target: Module) -> str | None:
    here, there = rank(module), rank(target)
    if here is None or there is None:
        unplanned = module if here is None else target
        return f"{unplanned.name} stands in a room that nobody planned"
    if there[0] == HTTP and module.name != "signup.app":
        return f"{module.name} imports the HTTP file {target.name}; only signup.app may"
    if there > here and there[0] != CORE:
        return f"{module.name} imports {target.name}, which stands above it"
    return None


def _circles(known: dict[str, Module]) -> list[list[str]]:
    graph = {name: [target.name for target in _own(module, known)] for name, module in known.items()}
    done: set[str] = set()
    found: list[list[str]] = []

    def walk(name: str, path: list[str]) -> None:
        if name in path:
            found.append([*path[path.index(name) :], name])
            return
        if name in done:
            return
        for target in graph[name]:
            walk(target, [*path, name])
        done.add(name)

    for name in graph:
        walk(name, [])
    return found


def _foreign(module: Module, known: dict[str, Module]) -> list[str]:
    """Packages of others, and tables, that have no business on this floor."""
    here = rank(module)
    names = sorted(imports(module, known))
    packages = {name.partition(".")[0] for name in names}
    if here and here[0] == HTTP:
        tables = [name for name in names if name.endswith(".models")] + sorted(
            packages & {"sqlalchemy", "flask_sqlalchemy"}
        )
        return [f"{module.name} is an HTTP file and imports {name}" for name in tables]
    # The database hangs on the application; nothing else this low knows of requests.
    if here and here[0] < FEATURE and "flask" in packages and module.name != "signup.core.db":
        return [f"{module.name} imports flask, though it stands below the features"]
    return []


def violations(source: Path) -> list[str]:
    known = modules(source)
    found = []
    for module in known.values():
        for target in _own(module, known):
            found += [problem for problem in [_upward(module, target)] if problem]
        found += _foreign(module, known)
    return found + [" -> ".join(circle) for circle in _circles(known)]


def test_nobody_looks_up_when_all_imports_are_walked() -> None:
    assert len(modules()) > 60
    assert violations(SOURCE) == []


def test_every_room_has_a_floor_when_listed() -> None:
    assert [name for name, module in modules().items() if rank(module) is None] == []
    assert max(found for module in modules().values() if (found := rank(module))) == (TOP, 0)


BAD = {
    "upward feature": (
        {"contacts/actions.py": "from signup.webhooks import rules\n", "webhooks/rules.py": ""},
        "above",
    ),
    "upward floor": ({"core/db.py": "import signup.jobs\n", "jobs.py": ""}, "above"),
    "lazy": ({"jobs.py": "def f():\n    from signup.web import guard\n", "web/guard.py": ""}, "above"),
    "relative": ({"consents/actions.py": "from ..subscriptions import rules\n", "subscriptions/rules.py": ""}, "above"),
    "http by another": (
        {"cli/setup.py": "from signup.forms import public\n", "forms/public.py": ""},
        "only signup.app",
    ),
    "http with tables": (
        {"forms/public.py": "from signup.forms.models import Form\n", "forms/models.py": ""},
        "HTTP file",
    ),
    "http with sql": ({"staff/api.py": "from sqlalchemy import select\n"}, "HTTP file"),
    "circle": ({"mail/a.py": "from signup.mail import b\n", "mail/b.py": "import signup.mail.a\n"}, "->"),
    "unplanned": ({"utils/text.py": "", "mail/a.py": "from signup.utils import text\n"}, "nobody planned"),
    "request below": ({"core/values.py": "from flask import request\n"}, "below the features"),
}


@pytest.mark.parametrize("sample", BAD)
def test_guard_speaks_when_the_sample_is_bad(sample: str, tmp_path: Path) -> None:
    files, word = BAD[sample]
    found = violations(write(tmp_path, files))
    assert any(word in problem for problem in found), found


def test_guard_is_silent_when_the_sample_is_good(tmp_path: Path) -> None:
    files = {
        "core/db.py": "import sqlalchemy\n",
        "jobs.py": "from signup.core import db\n",
        "forms/models.py": "from signup.core import db\n",
        "forms/actions.py": "from signup.forms.models import Form\nfrom signup import jobs\n",
        "consents/actions.py": "from signup.forms import actions\n",
        "forms/public.py": "from signup.forms import actions\nfrom signup.web import guard\n",
        "web/guard.py": "from signup.forms import actions\nimport flask\n",
        "app.py": "from signup.forms import public\n",
    }
    assert violations(write(tmp_path, files)) == []
