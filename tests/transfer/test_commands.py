"""flask export and flask api-key, as an operator types them."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask

from signup.cli import transfer
from tests.api.conftest import Api


def test_file_is_whole_and_private_when_exported(
    app: Flask, demo: SimpleNamespace, many: Callable[[int], None], tmp_path: Path
) -> None:
    many(5)
    target = tmp_path / "all.csv"
    done = app.test_cli_runner().invoke(args=["export", "--output", str(target)])
    assert done.exit_code == 0, done.output
    assert len(list(csv.DictReader(io.StringIO(target.read_text(), newline="")))) == 5
    assert target.stat().st_mode & 0o777 == 0o600
    assert done.stderr == "export: done, 5 rows\n"
    assert done.stdout == ""
    assert list(tmp_path.glob("*.part")) == []


def test_lines_go_to_standard_output_when_no_file_is_named(
    app: Flask, demo: SimpleNamespace, many: Callable[[int], None]
) -> None:
    many(3)
    done = app.test_cli_runner().invoke(args=["export", "--format", "jsonl", "--controller", "beispiel"])
    assert done.exit_code == 0
    assert done.stdout.count("\n") == 3


def test_a_key_and_a_sender_are_named_plainly_when_there_are_two_controllers(app: Flask, demo: SimpleNamespace) -> None:
    run = app.test_cli_runner().invoke
    words = ["--name", "Other", "--address", "Street 1", "--sender", "a@other.example"]
    words += ["--imprint", "https://other.example/i", "--privacy", "https://other.example/p"]
    assert run(args=["controller", "create", "other", *words]).exit_code == 0
    assert run(args=["api-key", "create", "till", "--controller", "other"]).exit_code == 0
    key_id = run(args=["api-key", "list", "--controller", "other"]).stdout.split("\t")[0]
    foreign = run(args=["api-key", "revoke", key_id, "--controller", "beispiel"])
    assert (foreign.exit_code, foreign.stderr) == (2, "Error: There is no such key.\n")
    assert run(args=["api-key", "revoke", key_id]).exit_code == 0
    assert "\trevoked\t" in run(args=["api-key", "list", "--controller", "other"]).stdout
    asked = run(args=["sender", "check"])
    assert asked.exit_code == 2
    assert "--controller" not in asked.stderr
    assert "flask sender check CONTROLLER" in asked.stderr


def test_nothing_stays_behind_when_the_export_fails(
    app: Flask, demo: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_given: Any, **_more: Any) -> Any:
        yield b"first"
        raise OSError("disk full")

    monkeypatch.setattr(transfer.exporting, "stream", broken)
    target = tmp_path / "all.csv"
    target.write_text("yesterday's")
    done = app.test_cli_runner().invoke(args=["export", "--output", str(target)])
    assert done.exit_code != 0
    assert target.read_text() == "yesterday's"
    assert [path.name for path in tmp_path.glob("all.*")] == ["all.csv"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["export", "--format", "xml"],
        ["export", "--controller", "nobody"],
        ["export", "--status", "lost"],
        ["export", "--output", "/nowhere/at/all.csv"],
        ["api-key", "create", "x", "--scope", "everything"],
        ["api-key", "create", "x", "--controller", "nobody"],
        ["api-key", "create", " "],
        ["api-key", "revoke", "key_0"],
    ],
)
def test_one_clear_line_and_exit_two_when_the_input_is_bad(
    app: Flask, demo: SimpleNamespace, arguments: list[str]
) -> None:
    done = app.test_cli_runner().invoke(args=arguments)
    assert done.exit_code == 2, done.output
    assert done.stdout == ""
    assert done.stderr.strip().splitlines()[-1].startswith("Error: ")


def test_key_works_until_revoked_when_made_by_command(app: Flask, demo: SimpleNamespace) -> None:
    runner = app.test_cli_runner()
    made = runner.invoke(args=["api-key", "create", "crm", "--scope", "forms.read", "--scope", "export"])
    assert made.exit_code == 0, made.output
    key = made.stdout.strip()
    assert Api(app, key).get("/forms").status_code == 200
    assert Api(app, key).get("/contacts").status_code == 403
    listed = runner.invoke(args=["api-key", "list"]).stdout
    assert key not in listed
    (line,) = [line for line in listed.splitlines() if "\tcrm\t" in line]
    assert line.split("\t")[2:] == ["works", "export forms.read"]
    assert runner.invoke(args=["api-key", "revoke", line.split("\t")[0]]).exit_code == 0
    assert Api(app, key).get("/forms").status_code == 401
