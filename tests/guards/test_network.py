"""Guard 9: nobody talks to the network while a transaction is open, and few files talk to it at all."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from signup.core import outbound
from signup.core.addresses import Allowance
from signup.core.db import reading, transaction
from signup.mail.postman import Postman
from tests.guards.house import SOURCE, imports, modules, write
from tests.support.receiver import Receiver
from tests.support.smtp import ScriptedSmtp

NETWORK = (
    "smtplib",
    "urllib3",
    "http",
    "socket",
    "socketserver",
    "requests",
    "urllib.request",
    "asyncio",
    "ftplib",
    "dns",
)
# Who may, and why. `send.py` is the name of the file that talks to the network in a feature.
TALKERS = {
    "signup.core.outbound": "the only way out by HTTP",
    "signup.mail.postman": "the only way out by SMTP",
    "signup.core.nameservers": "the only way to ask for names",
    "signup.mail.catcher": "the development mail server",
    "signup.intake.listener": "the mail server for what comes back",
    "signup.devserver": "asks its own children whether they are ready",
    "signup.core.addresses": "reads addresses; the names of its constants come from there",
    "signup.worker": "tells whoever started it that it is ready and lives",
    "signup.cli.webhooks": "the listener is a receiver of its own, for trying webhooks",
}


def talkers(source: Path) -> list[str]:
    known = modules(source)
    found = []
    for name, module in known.items():
        talks = any(used == part or used.startswith(part + ".") for used in imports(module, known) for part in NETWORK)
        if talks and name not in TALKERS and not name.endswith(".send"):
            found.append(name)
    return found


@pytest.fixture
def settings(smtp_server: ScriptedSmtp) -> dict[str, str]:
    return {"MAIL_SERVER": smtp_server.host, "MAIL_PORT": str(smtp_server.port)}


@pytest.mark.parametrize("opened", [transaction, reading])
def test_a_mail_is_refused_when_a_transaction_is_open(
    app: Flask, smtp_server: ScriptedSmtp, opened: Callable[[], AbstractContextManager[Any]]
) -> None:
    raw = b"Subject: x\r\n\r\nx\r\n"
    postman = Postman()
    with opened(), pytest.raises(RuntimeError, match="inside a database transaction"):
        postman.hand_over("post@beispiel.example", "anna@kunde.example", raw)
    assert smtp_server.connections == 0
    # The same call is fine a line later, so it was the transaction that stood in its way.
    assert postman.hand_over("post@beispiel.example", "anna@kunde.example", raw).accepted
    postman.close()


@pytest.mark.parametrize("opened", [transaction, reading])
def test_a_request_is_refused_when_a_transaction_is_open(
    app: Flask, receiver: Receiver, opened: Callable[[], AbstractContextManager[Any]]
) -> None:
    def post() -> outbound.Reply:
        return outbound.post(receiver.url, body=b"{}", headers={}, allowance=Allowance.parse(["127.0.0.0/8"]))

    with opened(), pytest.raises(RuntimeError, match="inside a database transaction"):
        post()
    assert receiver.requests == []
    assert post().status < 500
    assert len(receiver.requests) == 1


def test_few_files_know_the_network_when_imports_are_read() -> None:
    assert talkers(SOURCE) == []
    assert sorted(TALKERS.keys() - modules().keys()) == []


def test_guard_speaks_when_another_file_knows_the_network(tmp_path: Path) -> None:
    samples = {
        "mail/send.py": "import smtplib\n",
        "mail/actions.py": "import smtplib\n",
        "forms/rules.py": "def f():\n    from urllib.request import urlopen\n",
        "forms/good.py": "from urllib.parse import urlsplit\n",
    }
    assert talkers(write(tmp_path, samples)) == ["signup.forms.rules", "signup.mail.actions"]
