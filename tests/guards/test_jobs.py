"""Guard 6: each kind of job has somebody who does it and a rule for when that fails."""

from __future__ import annotations

import ast
import dataclasses
import importlib
from collections.abc import Callable, Iterable
from datetime import datetime
from types import ModuleType
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import select

from signup import jobs, wiring
from signup.core.db import reading, transaction
from signup.worker import JobTurn
from tests.guards.house import modules


def _kinds_in(tree: ast.AST, module: ModuleType) -> Iterable[str]:
    """The kinds that this file enqueues: the second argument of `enqueue` and `every`, and each JOB_ constant."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("jobs.enqueue", "jobs.every", "enqueue"):
            yield str(eval(ast.unparse(node.args[1]), dict(vars(module))))
        if (
            isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Name)
            and node.targets[0].id.startswith("JOB_")
        ):
            yield str(getattr(module, node.targets[0].id))


def enqueued() -> dict[str, str]:
    """Kind of job to the file that makes such jobs."""
    found = {}
    for name, module in modules().items():
        # The table itself hands kinds on, and so does the worker that starts the timed ones.
        if name not in ("signup.jobs", "signup.worker"):
            found.update(dict.fromkeys(_kinds_in(module.tree, importlib.import_module(name)), name))
    return found


def problems(kinds: Iterable[wiring.Kind], made: Iterable[str]) -> list[str]:
    """What is wrong between the jobs that are made and the jobs that are wired."""
    names = [kind.name for kind in kinds]
    found = [f"{name} is made and nobody does it" for name in made if name not in names]
    found += [f"{name} is wired and nobody makes it" for name in names if name not in set(made)]
    found += [f"{name} is wired twice" for name in set(names) if names.count(name) > 1]
    for kind in kinds:
        if not callable(kind.make) or not callable(kind.make()):
            found.append(f"{kind.name} has no handler")
        if len(kind.retry.split()) < 4:
            found.append(f"{kind.name} has no rule for failing")
        if kind.lease_seconds <= 0 or kind.batch < 1:
            found.append(f"{kind.name} could never be leased")
    return found


def test_each_job_is_done_by_somebody_when_listed(app: Flask) -> None:
    made = enqueued()
    assert len(made) >= 2
    assert problems(wiring.JOBS, made) == []


def test_guard_speaks_when_a_job_is_not_wired_well(app: Flask) -> None:
    good = wiring.JOBS[0]
    assert problems([good], [good.name]) == []
    assert "nobody does it" in str(problems([good], [good.name, "lost"]))
    assert "nobody makes it" in str(problems([good], []))
    assert "twice" in str(problems([good, good], [good.name]))
    assert "no rule" in str(problems([dataclasses.replace(good, retry="")], [good.name]))
    assert "no handler" in str(problems([dataclasses.replace(good, make=lambda: None)], [good.name]))  # type: ignore[arg-type, return-value]


@pytest.mark.parametrize("kind", wiring.JOBS, ids=lambda kind: kind.name)
def test_a_job_falls_due_again_when_its_handler_breaks(app: Flask, kind: wiring.Kind, clock: Any) -> None:
    def broken() -> Callable[..., None]:
        def run(_leased: object, _clock: object) -> None:
            raise OSError("power cut")

        return run

    with transaction() as session:
        ident = jobs.enqueue(session, kind.name, {}, now=clock())
    turn = JobTurn(dataclasses.replace(kind, make=broken))
    with pytest.raises(OSError, match="power cut"):
        turn(clock)
    assert _due(ident, clock()) is False
    assert _due(ident, clock.forward(seconds=kind.lease_seconds + 1)) is True


def _due(ident: str, now: datetime) -> bool:
    with reading() as session:
        row = session.execute(select(jobs.JobRow.state, jobs.JobRow.next_at).where(jobs.JobRow.id == ident)).one()
    return bool(row.state == jobs.DUE and row.next_at <= now)
