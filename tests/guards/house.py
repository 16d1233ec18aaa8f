"""What the guards know of the source: modules, what they import, how long things are.

Everything here takes a folder, so that each guard is also tried on a small bad sample.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "signup"

MECHANISMS = ("jobs", "eventlog")
# In this order: a feature rests on those before it and has never heard of those behind it.
FEATURES = (
    "purposes",
    "staff",
    "suppression",
    "contacts",
    "mail",
    "abuse",
    "forms",
    "consents",
    "subscriptions",
    "intake",
    "webhooks",
    "connectors",
    "transfer",
    "privacy",
    "alarms",
    "evidence",
    "reports",
    "backup",
)
ASSEMBLY = ("app", "wiring", "worker", "cli", "demo", "devserver", "models")
HTTP_NAMES = ("public", "api", "console")
# The development mailbox has an audience of its own; the visitor's pages of subscriptions are more than one file holds;
# what pages of other sites load is no page of ours.
HTTP_MODULES = (
    "signup.mail.mailbox",
    "signup.subscriptions.inbox",
    "signup.subscriptions.choices",
    "signup.subscriptions.lost",
    "signup.forms.embeds",
)

CORE, MECHANISM, FEATURE, GLUE, HTTP, TOP = range(6)


@dataclass(frozen=True)
class Module:
    """One file of the package."""

    name: str
    path: Path

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.path.read_text(encoding="utf-8"))

    @property
    def room(self) -> str:
        parts = self.name.split(".")
        return parts[1] if len(parts) > 1 else ""

    @property
    def package(self) -> str:
        return self.name if self.path.name == "__init__.py" else self.name.rpartition(".")[0]


def modules(source: Path = SOURCE) -> dict[str, Module]:
    """Every module under `source` by its dotted name, which begins with the folder's own."""
    found = {}
    for path in sorted(source.rglob("*.py")):
        parts = [source.name, *path.relative_to(source).with_suffix("").parts]
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = Module(name, path)
    return found


def imports(module: Module, known: dict[str, Module]) -> set[str]:
    """The dotted names that `module` imports, wherever in the file; of our own always the file that is meant."""
    found = set()
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(module, node)
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                found.add(inner if inner in known else base)
    return found


def _absolute(module: Module, node: ast.ImportFrom) -> str:
    if not node.level:
        return node.module or ""
    base = module.package.split(".")
    base = base[: len(base) - node.level + 1]
    return ".".join([*base, node.module] if node.module else base)


def rank(module: Module) -> tuple[int, int] | None:
    """The floor, and the place on it where the floor has an order; None for a room that nobody planned."""
    room = module.room
    last = module.name.rpartition(".")[2]
    if not room or room == "core":
        return CORE, 0
    if room in (*MECHANISMS, *FEATURES) and (last in HTTP_NAMES or module.name in HTTP_MODULES):
        return HTTP, 0
    if room in MECHANISMS:
        return MECHANISM, 0
    if room in FEATURES:
        return FEATURE, FEATURES.index(room)
    if room == "web":
        return GLUE, 0
    return (TOP, 0) if room in ASSEMBLY else None


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def length(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines of code from `def` to the end: a docstring or a blank line makes nothing harder to follow."""
    last = node.end_lineno or node.lineno
    first = node.body[0]
    documented = (
        isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str)
    )
    prose = (first.end_lineno or first.lineno) - first.lineno + 1 if documented else 0
    return last - node.lineno + 1 - prose


def is_view(node: ast.FunctionDef | ast.AsyncFunctionDef) -> bool:
    """Whether Flask calls this function for a route."""
    for decorator in node.decorator_list:
        call = decorator.func if isinstance(decorator, ast.Call) else decorator
        if isinstance(call, ast.Attribute) and call.attr in ("get", "post", "put", "patch", "delete", "route"):
            return True
        if ast.unparse(call).rpartition(".")[2] == "operation":
            return True
    return False


def write(folder: Path, files: dict[str, str]) -> Path:
    """A package called `signup` with these files, for trying a guard on a bad sample."""
    source = folder / "signup"
    for name, text in {"__init__.py": "", **files}.items():
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        for parent in path.relative_to(source).parents:
            (source / parent / "__init__.py").touch()
    return source
