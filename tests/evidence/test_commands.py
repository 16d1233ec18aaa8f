"""flask evidence, as an operator types it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

from flask import Flask

from tests.conftest import Clock, SignedUp
from tests.evidence.conftest import EMAIL, seal_all
from tests.support import log

Prove = Callable[..., SignedUp]


def test_files_of_the_usual_kinds_are_written_when_exported(
    app: Flask, demo: SimpleNamespace, prove: Prove, tmp_path: Path
) -> None:
    person = prove()
    out = tmp_path / "proof"
    done = app.test_cli_runner().invoke(args=["evidence", "export", EMAIL, "--out", str(out)])
    assert done.exit_code == 0, done.output
    names = sorted(path.name for path in out.iterdir())
    assert {"bundle.json", "confirmation.eml", "form.html"} < set(names)
    assert [name for name in names if name.endswith(".tlog-proof")] == [
        "0001-subscription.requested.tlog-proof",
        "0002-mail.accepted.tlog-proof",
        "0003-subscription.confirmed.tlog-proof",
    ]
    assert all(path.stat().st_mode & 0o777 == 0o600 for path in out.iterdir())
    made = json.loads((out / "bundle.json").read_bytes())
    assert (out / "0001-subscription.requested.leaf").read_text() == made["events"][0]["leaf"]
    assert b"/confirm/***" in (out / "confirmation.eml").read_bytes().replace(b"=\r\n", b"")
    assert "3 events" in done.stdout
    assert "blanked" in done.stdout
    last = log.facts(person.contact_id)[-1]
    assert (last.kind, last.fields["actor"]) == ("evidence.read", "operator")


def test_what_waits_is_sealed_first_when_exported(
    app: Flask, demo: SimpleNamespace, prove: Prove, tmp_path: Path
) -> None:
    prove()
    for number in (1, 2):
        out = tmp_path / str(number)
        assert app.test_cli_runner().invoke(args=["evidence", "export", EMAIL, "--out", str(out)]).exit_code == 0
    events = json.loads((tmp_path / "2" / "bundle.json").read_bytes())["events"]
    assert len(events) == 4
    assert None not in [event["tlog_proof"] for event in events]


def test_nothing_is_written_when_nobody_is_found_or_the_folder_is_full(
    app: Flask, demo: SimpleNamespace, prove: Prove, tmp_path: Path
) -> None:
    run = app.test_cli_runner().invoke
    done = run(args=["evidence", "export", "nobody@kunde.example", "--out", str(tmp_path / "none")])
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert not (tmp_path / "none").exists()
    person = prove()
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("kept")
    done = run(args=["evidence", "export", EMAIL, "--out", str(tmp_path / "full")])
    assert (done.exit_code, done.stderr.count("\n")) == (2, 1)
    assert [path.name for path in (tmp_path / "full").iterdir()] == ["mine.txt"]
    assert "evidence.read" not in [fact.kind for fact in log.facts(person.contact_id)]


def test_size_and_root_are_printed_when_sealed(app: Flask, demo: SimpleNamespace, clock: Clock) -> None:
    done = app.test_cli_runner().invoke(args=["evidence", "seal"])
    assert done.exit_code == 0, done.output
    size = seal_all(clock())
    assert done.stdout.startswith("sealed ")
    assert f", size {size}, root " in done.stdout
    again = app.test_cli_runner().invoke(args=["evidence", "seal"])
    assert again.stdout.startswith("sealed 0, ")
