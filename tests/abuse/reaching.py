"""Which functions of the program can come to call which: read from the source, rather too many than too few."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.guards.house import SOURCE, Module, modules

Place = tuple[str, str]  # module, and what stands in it by this name


def names_in(module: Module, known: dict[str, Module]) -> dict[str, tuple[str, str | None]]:
    """What each imported name of a module means: a module of ours, or something in one."""
    found: dict[str, tuple[str, str | None]] = {}
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                inner, name = f"{node.module}.{alias.name}", alias.asname or alias.name
                if inner in known:
                    found[name] = inner, None
                elif node.module in known:
                    found[name] = node.module, alias.name
    return found


def _named(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _mentioned(node: ast.stmt, module: Module, imported: dict[str, tuple[str, str | None]]) -> Iterator[Place]:
    """Whatever a piece of a module names: a function that is handed on may be called as well."""
    for inner in ast.walk(node):
        if isinstance(inner, ast.Name):
            where, name = imported.get(inner.id, (module.name, inner.id))
            if name is not None:
                yield where, name
        elif isinstance(inner, ast.Attribute) and isinstance(inner.value, ast.Name) and inner.value.id in imported:
            where, name = imported[inner.value.id]
            yield (where, inner.attr) if name is None else (where, name)


def graph(source: Path = SOURCE) -> dict[Place, set[Place]]:
    known = modules(source)
    found: dict[Place, set[Place]] = {}
    for module in known.values():
        imported = names_in(module, known)
        for node in module.tree.body:
            for name in _named(node):
                found.setdefault((module.name, name), set()).update(_mentioned(node, module, imported))
    return found


def reaching(target: Place, edges: dict[Place, set[Place]]) -> set[Place]:
    """Everything from which `target` can be reached, itself included."""
    callers: dict[Place, set[Place]] = {}
    for place, mentioned in edges.items():
        for other in mentioned:
            callers.setdefault(other, set()).add(place)
    found, left = {target}, [target]
    while left:
        for place in callers.get(left.pop(), set()) - found:
            found.add(place)
            left.append(place)
    return found


def place_of(view: Callable[..., Any]) -> Place:
    """Where the function stands that Flask calls in the end, below what is wrapped around it."""
    inner = inspect.unwrap(view)
    return inner.__module__, inner.__qualname__
