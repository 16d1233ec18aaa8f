"""The snippets of docs/receivers.md verify what we really sign, and refuse everything else."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from signup.webhooks import rules
from tests.guards.house import ROOT
from tests.support.needs import missing

PAGE = ROOT / "docs" / "receivers.md"
BODY = '{"id":"msg_1","type":"subscription.confirmed","data":{"name":"Jürgen"}}'.encode()
Receive = Callable[[str, dict[str, str], bytes], Any]


def snippet(language: str) -> str:
    found = re.findall(rf"^```{language}\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert len(found) == 1
    return str(found[0])


def _python() -> Receive:
    names: dict[str, Any] = {}
    exec(snippet("python"), names)
    receive: Receive = names["receive"]
    return receive


def _node(tmp_path: Path) -> Receive:
    node = shutil.which("node") or missing("node is not installed")
    script = tmp_path / "receive.js"
    call = "const [secret, headers, body] = JSON.parse(require('fs').readFileSync(0, 'utf8'));"
    script.write_text(f"{snippet('js')}\n{call}\nconsole.log(JSON.stringify(receive(secret, headers, body)));\n")

    def receive(secret: str, headers: dict[str, str], body: bytes) -> Any:
        given = json.dumps([secret, headers, body.decode()])
        done = subprocess.run([node, str(script)], input=given, capture_output=True, text=True, check=True)
        return json.loads(done.stdout)

    return receive


@pytest.fixture(params=["python", "js"])
def receive(request: pytest.FixtureRequest, tmp_path: Path) -> Receive:
    return _python() if request.param == "python" else _node(tmp_path)


def test_snippet_returns_the_event_when_the_signature_is_ours(receive: Receive) -> None:
    secret = rules.new_secret()
    headers = rules.sign(secret, "msg_1", datetime.now(UTC), BODY)
    assert receive(secret, headers, BODY) == json.loads(BODY)
    rotated = rules.sign([rules.new_secret(), secret], "msg_1", datetime.now(UTC), BODY)
    assert receive(secret, rotated, BODY) == json.loads(BODY)


def test_snippet_returns_nothing_when_anything_is_wrong(receive: Receive) -> None:
    secret, now = rules.new_secret(), datetime.now(UTC)
    headers = rules.sign(secret, "msg_1", now, BODY)
    assert receive(rules.new_secret(), headers, BODY) is None
    assert receive(secret, headers, BODY.replace(b"confirmed", b"withdrawn")) is None
    assert receive(secret, {**headers, "webhook-id": "msg_2"}, BODY) is None
    assert receive(secret, rules.sign(secret, "msg_1", now - timedelta(hours=1), BODY), BODY) is None


def test_retries_are_told_as_they_are_when_compared_with_the_schedule() -> None:
    text = PAGE.read_text(encoding="utf-8")
    steps = re.search(r"tried again: after ([^|]+) \|", text)
    assert steps
    units = {"s": 1, "min": 60, "h": 3600}
    told = [int(number) * units[unit] for number, unit in re.findall(r"(\d+) (s|min|h)\b", steps[1])]
    assert tuple(told) == rules.SCHEDULE_SECONDS[1:]
