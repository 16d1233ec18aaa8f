"""A second, empty installation beside the one of the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result
from flask import Flask
from werkzeug.test import TestResponse

from signup.app import create_app
from signup.core.config import Config
from signup.core.db import database
from tests.conftest import environment
from tests.guards.world import Snapshot, snapshot


@dataclass
class Elsewhere:
    """Another machine with the same secrets and an empty database."""

    app: Flask
    folder: Path
    environ: dict[str, str]
    api_key: str

    def flask(self, *arguments: str) -> Result:
        return run(self.app, *arguments)

    def restore(self, data: Path, keys: Path) -> dict[str, int]:
        """What `flask restore` printed, by name."""
        done = self.flask("restore", str(data), "--keys", str(keys))
        assert done.exit_code == 0, done.output
        return {name: int(count) for name, count in (line.split("\t") for line in done.stdout.splitlines())}

    def get(self, path: str) -> TestResponse:
        return get(self.app, self.api_key, path)

    def post(self, path: str, data: dict[str, str]) -> TestResponse:
        with self.app.app_context():
            return self.app.test_client().post(path, data=data)

    def rows(self) -> Snapshot:
        with self.app.app_context():
            return snapshot()


def get(app: Flask, api_key: str, path: str) -> TestResponse:
    """An answer, read to its end."""
    with app.app_context():
        answer = app.test_client().get(path, headers={"Authorization": f"Bearer {api_key}"})
        answer.get_data()
        return answer


def run(app: Flask, *arguments: str) -> Result:
    # The test's own application is the current one otherwise, and commands take that.
    with app.app_context():
        return app.test_cli_runner().invoke(args=list(arguments))


def saved_in(app: Flask, folder: Path) -> tuple[Path, Path]:
    """The data file and the keys file of a fresh backup."""
    done = run(app, "backup", str(folder))
    assert done.exit_code == 0, done.output
    keys, data = (Path(line.split("\t")[0]) for line in done.stdout.splitlines())
    return data, keys


def keys_in(app: Flask, folder: Path) -> Path:
    """A fresh keys file alone."""
    done = run(app, "backup", "--keys-only", str(folder))
    assert done.exit_code == 0, done.output
    (line,) = done.stdout.splitlines()
    return Path(line.split("\t")[0])


def said(done: Result) -> str:
    """The one line of a command that refused."""
    assert done.exit_code == 2, done.output
    assert done.stdout == ""
    line = done.stderr.splitlines()[-1]
    assert line.startswith("Error: ")
    return line


@pytest.fixture
def target(backend: str, request: pytest.FixtureRequest) -> str:
    """The kind of database that is restored into: the same, unless the test says otherwise."""
    return str(getattr(request, "param", backend))


@pytest.fixture
def settle_elsewhere(
    target: str, settings: dict[str, str], request: pytest.FixtureRequest, tmp_path: Path
) -> Iterator[Callable[..., Elsewhere]]:
    """Make an empty installation, with other settings if wished."""
    made: list[tuple[Flask, str | None]] = []

    def make(**more: str) -> Elsewhere:
        folder = tmp_path / f"elsewhere{len(made)}"
        url = request.getfixturevalue("postgres_server").create_database() if target == "postgres" else None
        environ: dict[str, Any] = environment(folder, url, **{**settings, **more})
        app = create_app(Config.from_env(environ))
        made.append((app, url))
        return Elsewhere(app, folder, environ, request.getfixturevalue("place").api_key)

    yield make
    for app, url in made:
        with app.app_context():
            database().engine.dispose()
        if url:
            request.getfixturevalue("postgres_server").drop_database(url)


@pytest.fixture
def elsewhere(settle_elsewhere: Callable[..., Elsewhere]) -> Elsewhere:
    return settle_elsewhere()


@pytest.fixture
def backups(tmp_path: Path) -> Path:
    return tmp_path / "backups"
