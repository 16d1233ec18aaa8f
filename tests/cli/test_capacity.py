"""check-config counts connections against what the database server grants."""

from __future__ import annotations

import re

import pytest
from flask import Flask

from signup.cli import capacity
from signup.cli.capacity import Processes, Server
from signup.cli.common import BadInput
from signup.core.db import POOL_SIZE, reading


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WEB_CONCURRENCY", "GUNICORN_CMD_ARGS", "DATABASE_URL", "DATABASE_URL_FILE"):
        monkeypatch.delenv(name, raising=False)


def test_processes_are_those_of_gunicorn_when_its_arguments_say_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    assert capacity.planned() == Processes(1, 8)
    monkeypatch.setenv("DATABASE_URL", "postgresql://app@db.example/signup")
    monkeypatch.setenv("WEB_CONCURRENCY", "4")
    assert capacity.planned() == Processes(4, 8)
    monkeypatch.setenv("GUNICORN_CMD_ARGS", "--workers=3 --threads 9 --bind 127.0.0.1:1")
    assert capacity.planned() == Processes(3, 9)


def test_the_shipped_settings_fit_the_pool_when_nothing_is_set() -> None:
    assert capacity.too_many_threads(capacity.planned()) is None
    assert "10 at most" in (capacity.too_many_threads(Processes(1, POOL_SIZE + 1)) or "")


@pytest.mark.parametrize(
    ("server", "words"),
    [
        (Server(100, 3, 0), ["35 = 10 x (2 web + 1 worker) + 5", "97 = 100", "room for           2 machines"]),
        (Server(100, 3, 62), ["room for           1 machines"]),
        (Server(100, 3, 63), ["warning", "max_connections to 101 at least", "WEB_CONCURRENCY to 1 at most"]),
        (Server(20, 3, 0), ["warning", "max_connections to 38 at least", "nothing on this machine"]),
        (Server(20, 3, 40), ["0 = 20 max_connections", "warning"]),
    ],
)
def test_a_warning_says_what_to_set_when_connections_run_out(server: Server, words: list[str]) -> None:
    text = "\n".join(capacity.connections(Processes(2, 8), server))
    assert [word for word in words if word not in text] == []
    assert ("warning" in words) == ("warning" in text)


@pytest.mark.postgres
@pytest.mark.parametrize("backend", ["postgres"], indirect=False)
def test_the_server_is_asked_when_it_is_postgresql(app: Flask, backend: str) -> None:
    with reading() as session:
        found = capacity.server(session)
    assert found.max_connections >= 20
    assert 1 <= found.reserved < found.max_connections
    assert 0 <= found.others < found.max_connections


def test_check_config_counts_when_asked(app: Flask, backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://" if backend == "postgres" else "")
    runner = app.test_cli_runner()
    told = runner.invoke(args=["check-config"])
    assert told.exit_code == 0, told.output
    assert re.search(r"^gunicorn +\d processes with 8 threads$", told.output, re.MULTILINE)
    assert ("max_connections" in told.output) == (backend == "postgres")
    monkeypatch.setenv("GUNICORN_CMD_ARGS", "--threads 64")
    refused = runner.invoke(args=["check-config"])
    assert refused.exit_code == BadInput.exit_code
    assert "64 threads" in refused.output
