import runpy
from pathlib import Path
from typing import Any

import pytest

from tests.support.servers import ROOT

POSTGRES = "postgresql://app@db.example/signup"


def _settings(monkeypatch: pytest.MonkeyPatch, **environ: str) -> dict[str, Any]:
    for name in ("HOST", "PORT", "DATABASE_URL", "DATABASE_URL_FILE", "WEB_CONCURRENCY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    return runpy.run_path(str(ROOT / "gunicorn.conf.py"))


@pytest.mark.parametrize(
    ("environ", "workers"),
    [
        ({}, 1),
        ({"DATABASE_URL": "sqlite:////var/lib/signup.db", "WEB_CONCURRENCY": "4"}, 1),
        ({"DATABASE_URL": POSTGRES}, 2),
        ({"DATABASE_URL": POSTGRES, "WEB_CONCURRENCY": "4"}, 4),
    ],
)
def test_processes_fit_the_database_when_started(
    monkeypatch: pytest.MonkeyPatch, environ: dict[str, str], workers: int
) -> None:
    settings = _settings(monkeypatch, **environ)
    assert (settings["workers"], settings["threads"]) == (workers, 8)


def test_the_database_is_read_from_its_file_when_named_so(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "url").write_text(POSTGRES + "\n")
    assert _settings(monkeypatch, DATABASE_URL_FILE=str(tmp_path / "url"))["workers"] == 2


@pytest.mark.parametrize(("host", "bind"), [("0.0.0.0", "0.0.0.0:81"), ("::1", "[::1]:81")])
def test_host_and_port_are_bound_when_set(monkeypatch: pytest.MonkeyPatch, host: str, bind: str) -> None:
    assert _settings(monkeypatch, HOST=host, PORT="81")["bind"] == bind
