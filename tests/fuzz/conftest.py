"""Inputs that nobody thought of, the same ones in every run: hypothesis is seeded by each test's own source.

FUZZ_FACTOR multiplies how many are tried, and with FUZZ_RANDOM=1 they differ from run to run.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from hypothesis import HealthCheck, settings

from signup.app import create_app
from signup.core.config import Config
from signup.core.db import database
from tests.conftest import environment

FACTOR = float(os.environ.get("FUZZ_FACTOR") or 1)
RANDOM = os.environ.get("FUZZ_RANDOM") == "1"
# A generated input is slow to make at times, and a shared database is what these tests want.
CALM = [
    HealthCheck.too_slow,
    HealthCheck.function_scoped_fixture,
    HealthCheck.filter_too_much,
    HealthCheck.data_too_large,
]


def tried(examples: int, **more: int) -> settings:
    """Settings for this many inputs, more when asked for from outside; no clock decides anything."""
    return settings(
        max_examples=max(1, int(examples * FACTOR)),
        derandomize=not RANDOM,
        database=None,
        deadline=None,
        suppress_health_check=CALM,
        print_blob=RANDOM,
        **more,
    )


@pytest.fixture(scope="module")
def shared_app(sqlite_template: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Flask]:
    """The seeded demo on a SQLite file that all tests of one module share, with an app context pushed."""
    folder = tmp_path_factory.mktemp("fuzz")
    shutil.copy(sqlite_template, folder / "signup.db")
    app = create_app(Config.from_env(environment(folder)))
    with app.app_context():
        yield app
        database().engine.dispose()
