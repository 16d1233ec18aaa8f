"""A live confirmation token is in the mail and nowhere else: not in the API, not in files, not in what runs print."""

from __future__ import annotations

import json
import re
from base64 import b64encode, urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
from flask import Flask

from signup.web.api import OPERATIONS
from tests.conftest import Place
from tests.journeys.world import PATIENCE_SECONDS, Api, Mail, call, ident_in, tables
from tests.support.receiver import Receiver
from tests.support.servers import Service
from tests.support.smtp import ScriptedSmtp
from tests.support.waiting import wait_for

ADDRESS = "anna@beispiel.example"
BASE64_RUN = re.compile(rb"[A-Za-z0-9+/_-]{20,}")
# Bodies of calls that need one. A new operation gets its line here, or the test says which one is missing.
USE = {"campaign": "spring", "sender": "crm", "channel": "email"}
BODIES = {
    "/api/v1/contacts": {
        "email": "neu@beispiel.example",
        "origin": {"type": "fair", "detail": "Hannover", "collected_by": "Ada"},
        "legal_basis": "gdpr-6-1-b",
    },
    "/api/v1/contacts/<contact_id>": {"locale": "en"},
    "/api/v1/subscriptions": {
        "email": ADDRESS,
        "form": "demo-de",
        "origin": {"type": "fair", "detail": "Hannover", "collected_by": "Ada"},
        "legal_basis": "gdpr-6-1-a",
    },
    "/api/v1/webhook-endpoints/<endpoint_id>": {"state": "active"},
    "/api/v1/contacts/<contact_id>/uses": USE,
    "/api/v1/consents/<consent_id>/uses": USE,
}


@dataclass(frozen=True)
class Secret:
    """One live token in every spelling in which it could be found."""

    raw: bytes
    spellings: tuple[bytes, ...]

    @classmethod
    def of(cls, mail: Mail, kind: str) -> Secret:
        url = mail.url(kind)
        raw = ident_in(kind, url)
        written = (urlsafe_b64encode(raw).rstrip(b"="), b64encode(raw).rstrip(b"="), raw.hex().encode(), raw)
        return cls(raw, (url.rpartition("/")[2].encode(), url.encode(), *written))

    def is_in(self, content: bytes) -> bool:
        """Also when it is wrapped in base64 once more."""
        if any(spelling in content for spelling in self.spellings):
            return True
        runs = (run.translate(bytes.maketrans(b"-_", b"+/")) for run in BASE64_RUN.findall(content))
        return any(self.raw in _decoded(run) for run in runs)


def _decoded(run: bytes) -> bytes:
    return urlsafe_b64decode(run.translate(bytes.maketrans(b"+/", b"-_"))[: len(run) // 4 * 4])


@pytest.fixture
def waiting(service: Service, inside: Flask, api: Api, receiver: Receiver, smtp_server: ScriptedSmtp) -> Secret:
    """Somebody who has the mail and has not answered; whoever listens was told of the request."""
    made = api("POST", "/webhook-endpoints", {"url": receiver.url, "types": ["subscription.requested"]})
    assert made.status == 201, made.text
    pressed = call("POST", f"{service.url}/f/demo-de", {"email": ADDRESS, "purpose": "product-news"})
    assert pressed.status == 303
    secret = Secret.of(Mail.of(smtp_server.wait(seconds=PATIENCE_SECONDS)[0]), "confirm")
    receiver.wait(seconds=PATIENCE_SECONDS)
    return secret


def api_answers(api: Api) -> Iterator[tuple[str, bytes]]:
    """What every operation of the API says about everything there is."""
    ids = _ids()
    for operation in sorted(OPERATIONS, key=lambda item: (item.method == "DELETE", item.method != "GET", item.path)):
        path = operation.path
        for name in re.findall(r"<(\w+)>", path):
            path = path.replace(f"<{name}>", ids[name])
        if operation.path in ("/api/v1/contacts", "/api/v1/subscriptions") and operation.method == "GET":
            path += f"?email={ADDRESS}"
        body = BODIES.get(operation.path, {}) if operation.body is not None else None
        if operation.path == "/api/v1/webhook-endpoints" and operation.method == "POST":
            body = {"url": "http://127.0.0.1:8099/"}
        answer = api(operation.method, path.removeprefix("/api/v1"), body)
        label = f"{operation.method} {operation.path}"
        assert answer.status < 300, f"{label} {answer.status} {answer.text}"
        yield label, answer.body + repr(answer.headers).encode()


def _ids() -> dict[str, str]:
    found = tables()
    return {
        "contact_id": str(found["contact"][0][0]),
        "subscription_id": str(found["subscription"][0][0]),
        "endpoint_id": str(found["endpoint"][0][0]),
        "delivery_id": str(found["delivery"][0][0]),
        "slug": "demo-de",
        "consent_id": str(found["consent"][0][0]),
    }


@pytest.mark.req("E14")
def test_no_answer_of_the_api_shows_a_token_when_somebody_has_yet_to_confirm(waiting: Secret, api: Api) -> None:
    answers = dict(api_answers(api))
    assert len(answers) == len(OPERATIONS)
    assert ADDRESS.encode() in answers["GET /api/v1/contacts/<contact_id>/evidence"]
    assert [label for label, content in answers.items() if waiting.is_in(content)] == []


@pytest.mark.req("E14")
@pytest.mark.req("A15")
def test_nothing_at_rest_shows_a_token_when_somebody_has_yet_to_confirm(
    waiting: Secret, place: Place, smtp_server: ScriptedSmtp
) -> None:
    # It would be found if it were there.
    assert waiting.is_in(Mail.of(smtp_server.received[0]).part("plain").encode())
    assert waiting.is_in(b64encode(waiting.raw + b"more"))
    rows = [(name, repr(row).encode() + _bytes_of(row)) for name, every in tables().items() for row in every]
    assert len(rows) > 30
    assert [name for name, content in rows if waiting.is_in(content)] == []
    files = [path for path in place.folder.rglob("*") if path.is_file()]
    assert [path.name for path in files if waiting.is_in(path.read_bytes())] == []


def _bytes_of(row: tuple[object, ...]) -> bytes:
    return b"\n".join(bytes(value) for value in row if isinstance(value, bytes | memoryview))


@pytest.mark.req("E14")
def test_nothing_printed_or_sent_shows_a_token_when_every_link_is_used(
    waiting: Secret, service: Service, receiver: Receiver, smtp_server: ScriptedSmtp
) -> None:
    mail = Mail.of(smtp_server.received[0])
    for kind in ("confirm", "not-me"):
        for method, body in (("GET", None), ("HEAD", None), ("POST", {"nonce": "x"}), ("PUT", None)):
            assert call(method, mail.url(kind) + "?from=mail", body).status in (200, 405, 422)
    foreign = call("POST", mail.url("confirm"), {"nonce": "x"}, {"Origin": "https://evil.example"})
    assert foreign.status == 403
    assert not waiting.is_in(foreign.body)
    printed = [
        service.flask(*arguments)
        for arguments in (["export"], ["check-config"], ["webhook", "list"], ["form", "list"], ["retention", "run"])
    ]
    assert [done.args for done in printed if done.returncode != 0] == []
    spoken = [(done.stdout + done.stderr).encode() for done in printed]
    open_paths = ("/metrics", "/readyz", "/healthz", "/f/demo-de", "/api/v1/docs", "/api/v1/openapi.json")
    spoken += [call("GET", service.url + path).body for path in open_paths]
    spoken += [request.body for request in receiver.requests]
    wait_for(
        lambda: service.logs().count("/confirm/[token]") >= 4,
        seconds=PATIENCE_SECONDS,
        describe="the log of the requests",
    )
    spoken.append(service.logs().encode())
    assert [content[:200] for content in spoken if waiting.is_in(content)] == []
    assert ADDRESS not in service.logs()
    assert json.loads(receiver.requests[0].body)["data"]["contact"]["email"] is None
