"""Guard 12: the wall clock is read at the edge and handed on as `now`."""

from __future__ import annotations

import ast
from pathlib import Path

from tests.guards.house import HTTP_MODULES, SOURCE, Module, modules, write

EDGE_NAMES = ("public", "api", "console")
EDGE_ROOMS = ("web", "cli", "worker", "devserver", "app")
# The catcher is a mail server of its own: what it stamps is when it got a mail.
EDGE_MODULES = (*HTTP_MODULES, "signup.mail.catcher")
CLOCKS = {
    "datetime.now",
    "datetime.utcnow",
    "datetime.today",
    "date.today",
    "time.time",
    "time.time_ns",
    "time.localtime",
    "time.gmtime",
    "utc_now",
    "values.utc_now",
}
# `utc_now` itself has to read it somewhere.
DEFINITION = ("signup.core.values", "utc_now")


def _is_edge(module: Module) -> bool:
    last = module.name.rpartition(".")[2]
    return last in EDGE_NAMES or module.room in EDGE_ROOMS or module.name in EDGE_MODULES


def _reads(tree: ast.AST, aliases: dict[str, str]) -> list[ast.AST]:
    """Calls of a clock, and clocks used as a default or handed on as a function."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Name) and isinstance(node.ctx, ast.Load):
            head, _, tail = ast.unparse(node).partition(".")
            name = aliases.get(head, head) + ("." + tail if tail else "")
            if any(name == clock or name.endswith("." + clock) for clock in CLOCKS):
                found.append(node)
    return found


def _aliases(tree: ast.AST) -> dict[str, str]:
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            found.update({alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names})
        elif isinstance(node, ast.Import):
            found.update({alias.asname: alias.name for alias in node.names if alias.asname})
    return found


def violations(source: Path) -> list[str]:
    found = []
    for module in modules(source).values():
        if _is_edge(module):
            continue
        allowed: set[ast.AST] = set()
        for node in ast.walk(module.tree):
            if isinstance(node, ast.FunctionDef) and (module.name, node.name) == DEFINITION:
                allowed.update(ast.walk(node))
        lines = {
            node.lineno  # type: ignore[attr-defined]
            for node in _reads(module.tree, _aliases(module.tree))
            if node not in allowed
        }
        found += [f"{module.name}:{line} reads the wall clock" for line in sorted(lines)]
    return found


def test_only_the_edge_reads_the_clock_when_all_calls_are_walked() -> None:
    assert violations(SOURCE) == []


def test_guard_speaks_when_the_sample_reads_the_clock(tmp_path: Path) -> None:
    samples = {
        "mail/a.py": "from datetime import UTC, datetime\nx = datetime.now(UTC)\n",
        "mail/b.py": "import time\nx = time.time()\n",
        "mail/c.py": "from time import time as tick\nx = tick()\n",
        "mail/d.py": "from signup.core.values import utc_now as now\ndef f(clock=now): ...\n",
        "mail/e.py": "import datetime as dt\nx = dt.datetime.utcnow()\n",
        "mail/f.py": "from signup.core import values\nx = values.utc_now()\n",
        "mail/good.py": "import time\nx = time.monotonic()\n",
        "mail/public.py": "from signup.core.values import utc_now\nx = utc_now()\n",
        "core/values.py": "from datetime import datetime\ndef utc_now():\n    return datetime.now()\n",
    }
    found = violations(write(tmp_path, samples))
    assert [problem.partition(":")[0] for problem in found] == [f"signup.mail.{name}" for name in "abcdef"]
