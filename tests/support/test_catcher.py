import json
import re
import smtplib
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path

import pytest

from signup.mail.catcher import Catcher

MESSAGE = "Subject: Grüße\r\n\r\n.dot first\r\nhttp://127.0.0.1:8000/confirm/abc\r\n".encode()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "instance" / "mailbox"


@pytest.fixture
def catcher(folder: Path) -> Iterator[Catcher]:
    running = Catcher(folder)
    running.start()
    yield running
    running.stop()


def _send(catcher: Catcher, *to: str) -> str:
    with smtplib.SMTP(catcher.host, catcher.port, timeout=10) as client:
        client.ehlo()
        client.mail("bounces@example.org", ["BODY=8BITMIME"])
        for address in to:
            client.rcpt(address)
        code, text = client.data(MESSAGE)
    assert code == 250
    return text.decode()


def test_bytes_and_envelope_are_on_disk_when_the_reply_is_there(catcher: Catcher, folder: Path) -> None:
    reply = _send(catcher, "a@example.org", "b@example.org")
    found = re.fullmatch(r"2\.0\.0 queued as (\S+)", reply)
    assert found
    assert (folder / f"{found[1]}.eml").read_bytes() == MESSAGE
    facts = json.loads((folder / f"{found[1]}.json").read_text())
    assert facts["mail_from"] == "bounces@example.org"
    assert facts["rcpt_tos"] == ["a@example.org", "b@example.org"]
    assert datetime.fromisoformat(facts["received_at"]).utcoffset() is not None


def test_names_sort_by_arrival_when_several_messages_come(catcher: Catcher, folder: Path) -> None:
    for number in range(5):
        _send(catcher, f"a{number}@example.org")
    recipients = [json.loads(path.read_text())["rcpt_tos"] for path in sorted(folder.glob("*.json"))]
    assert recipients == [[f"a{number}@example.org"] for number in range(5)]


def test_every_message_is_kept_whole_when_many_come_at_once(catcher: Catcher, folder: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: _send(catcher, f"a{number}@example.org"), range(40)))
    messages = list(folder.glob("*.eml"))
    assert len(messages) == 40
    assert {path.read_bytes() for path in messages} == {MESSAGE}
    assert all(path.with_suffix(".json").exists() for path in messages)
    assert len(list(folder.iterdir())) == 80


def test_only_the_owner_may_read_when_a_message_is_written(catcher: Catcher, folder: Path) -> None:
    _send(catcher, "a@example.org")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


def test_nobody_listens_when_stopped(folder: Path) -> None:
    catcher = Catcher(folder)
    catcher.start()
    _send(catcher, "a@example.org")
    catcher.stop()
    with pytest.raises(ConnectionRefusedError):
        smtplib.SMTP(catcher.host, catcher.port, timeout=5)


def test_stopping_does_not_wait_when_a_client_is_still_connected(folder: Path) -> None:
    catcher = Catcher(folder)
    catcher.start()
    with smtplib.SMTP(catcher.host, catcher.port, timeout=5) as client:
        client.ehlo()
        catcher.stop()
        with pytest.raises((smtplib.SMTPServerDisconnected, ConnectionError)):
            client.noop()
        client.close()
