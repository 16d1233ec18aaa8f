"""Signatures: another program verifies them, and notices every change."""

from __future__ import annotations

import hashlib
import re
import sys
from base64 import b64decode
from collections.abc import Callable
from datetime import datetime
from types import ModuleType
from typing import Any

import dkim as oracle
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from flask import Flask
from hypothesis import given, settings
from hypothesis import strategies as some

from signup.backup import rewrapping
from signup.core.db import transaction
from signup.mail import dkim, signing
from signup.mail.models import DkimKey
from signup.purposes import actions as purposes
from tests.conftest import SignedUp
from tests.support import log

MAIL = (
    b"To: anna@beispiel.de\r\nDate: Mon, 23 Nov 2026 09:14:02 +0000\r\nMessage-ID: <m@beispiel.example>\r\n"
    b"From: Beispiel GmbH <post@beispiel.example>\r\nReply-To: post@beispiel.example\r\n"
    b"Subject: =?utf-8?q?Bitte_best=C3=A4tigen_Sie_Ihre?=\r\n =?utf-8?q?_Anmeldung?=\r\nMIME-Version: 1.0\r\n"
    b"Auto-Submitted: auto-generated\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b"List-Unsubscribe: <https://a.example/unsubscribe/x>\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"
    b"\r\nGuten Tag  \r\n\r\n  ein   Satz \r\n\r\n\r\n"
)
KEYS = {name: dkim.generate("beispiel.example", "s2026", name) for name in dkim.ALGORITHMS}


@pytest.fixture(autouse=True)
def ed25519_for_the_oracle(monkeypatch: pytest.MonkeyPatch) -> None:
    """The oracle knows everything but the curve itself, for which it asks a library that is not here."""

    class VerifyKey:
        def __init__(self, text: bytes, encoder: Any) -> None:
            self.key = Ed25519PublicKey.from_public_bytes(b64decode(text))

        def verify(self, content: bytes, signature: bytes) -> bytes:
            try:
                self.key.verify(signature, content)
            except InvalidSignature:
                raise nacl.exceptions.BadSignatureError from None
            return content

    nacl: Any = ModuleType("nacl")
    for name in ("signing", "encoding", "exceptions"):
        setattr(nacl, name, ModuleType(f"nacl.{name}"))
    nacl.signing.VerifyKey, nacl.encoding.Base64Encoder = VerifyKey, None
    nacl.exceptions.BadSignatureError = type("BadSignatureError", (Exception,), {})
    monkeypatch.setitem(sys.modules, "nacl", nacl)
    monkeypatch.setattr(oracle, "nacl", nacl, raising=False)


def verified(raw: bytes, key: dkim.SigningKey) -> bool:
    def dns(name: bytes | str, timeout: int = 5) -> bytes | None:
        asked = (name if isinstance(name, str) else name.decode()).rstrip(".")
        return dkim.record_text(key).encode() if asked == dkim.record_name(key) else None

    return bool(oracle.verify(raw, dnsfunc=dns))


@pytest.mark.req("E21")
@pytest.mark.parametrize("algorithm", dkim.ALGORITHMS)
def test_another_program_verifies_the_signature_when_both_headers_are_covered(algorithm: str, now: datetime) -> None:
    raw = dkim.signed(MAIL, KEYS[algorithm], now=now)
    assert raw.endswith(MAIL)
    assert verified(raw, KEYS[algorithm])
    covered = re.search(rb"h=([^;]+);", raw)
    assert covered
    names = re.sub(rb"\s", b"", covered[1]).lower().split(b":")
    assert {b"from", b"list-unsubscribe", b"list-unsubscribe-post"} <= set(names)
    assert names.count(b"from") == 2
    assert max(len(line) for line in raw.partition(b"\r\nTo: ")[0].split(b"\r\n")) <= 78


@pytest.mark.req("E21")
@pytest.mark.parametrize("algorithm", dkim.ALGORITHMS)
@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"unsubscribe/x", b"unsubscribe/y"),
        (b"=One-Click", b"=Two-Click"),
        (b"ein   Satz", b"kein   Satz"),
        (b"From: Beispiel", b"From: Boese"),
        (b"To: anna@", b"To: bert@"),
        (b"MIME-Version: 1.0\r\n", b"MIME-Version: 1.0\r\nSubject: another\r\n"),
    ],
)
def test_the_signature_breaks_when_anything_covered_is_changed(
    algorithm: str, before: bytes, after: bytes, now: datetime
) -> None:
    raw = dkim.signed(MAIL, KEYS[algorithm], now=now)
    assert raw.count(before) == 1
    assert not verified(raw.replace(before, after), KEYS[algorithm])


@pytest.mark.parametrize("algorithm", dkim.ALGORITHMS)
def test_the_signature_holds_when_relays_touch_only_blanks(algorithm: str, now: datetime) -> None:
    raw = dkim.signed(MAIL, KEYS[algorithm], now=now)
    assert verified(raw.replace(b"ein   Satz ", b"ein Satz").replace(b"To: anna", b"To:   anna"), KEYS[algorithm])


@settings(max_examples=60, deadline=None)
@given(
    body=some.text(some.sampled_from("ab \tä\r\n."), max_size=60),
    subject=some.text(some.sampled_from("ab \tc"), max_size=40),
)
def test_another_program_verifies_it_when_body_and_subject_are_anything(body: str, subject: str) -> None:
    lines = "\r\n".join(body.replace("\r", "\n").split("\n"))
    raw = f"From: a@beispiel.example\r\nSubject: {subject}\r\n\r\n{lines}\r\n".encode()
    signed = dkim.signed(raw, KEYS["rsa"], now=datetime.fromisoformat("2026-11-23T09:14:02+00:00"))
    assert verified(signed, KEYS["rsa"])


@pytest.mark.parametrize("algorithm", dkim.ALGORITHMS)
def test_a_key_is_the_same_when_saved_and_loaded(algorithm: str) -> None:
    key = KEYS[algorithm]
    again = dkim.loaded(key.domain, key.selector, dkim.saved(key))
    assert dkim.record_text(again) == dkim.record_text(key)
    assert "".join(dkim.record_strings(dkim.record_text(key))) == dkim.record_text(key)


@pytest.mark.req("E21")
def test_the_signed_bytes_are_those_on_record_when_a_controller_has_a_key(
    app: Flask, sign_up: Callable[..., SignedUp]
) -> None:
    unsigned = sign_up("vorher@kunde.example")
    runner = app.test_cli_runner()
    made = runner.invoke(args=["mail", "dkim-key", "beispiel", "--selector", "s2026"])
    assert made.exit_code == 0, made.output
    name, _, rest = made.output.partition(". IN TXT ")
    assert name == "s2026._domainkey.beispiel.example"
    record = "".join(re.findall(r'"([^"]+)"', rest.splitlines()[0]))
    not_yet = sign_up("noch-nicht@kunde.example")
    used = runner.invoke(args=["mail", "dkim-key", "beispiel", "--selector", "s2026", "--use"])
    assert used.exit_code == 0, used.output
    person = sign_up("danach@kunde.example")
    raws = {one.email: _raw(one) for one in (unsigned, not_yet, person)}
    assert [raw.startswith(b"DKIM-Signature: ") for raw in raws.values()] == [False, False, True]
    assert oracle.verify(raws[person.email], dnsfunc=lambda *_a, **_k: record.encode())
    (message,) = log.messages(person.contact_id)
    assert hashlib.sha256(raws[person.email]).hexdigest() == message.sha256
    assert runner.invoke(args=["mail", "dkim-key", "beispiel", "--stop"]).exit_code == 0
    assert not _raw(sign_up("zuletzt@kunde.example")).startswith(b"DKIM-Signature")


def _raw(person: SignedUp) -> bytes:
    (message,) = log.messages(person.contact_id)
    return log.raw(message)


def test_the_private_key_is_sealed_and_survives_a_new_data_key_when_stored(app: Flask, now: datetime) -> None:
    assert (DkimKey.id, DkimKey.sealed) in rewrapping.HOLDERS
    with transaction() as session:
        controller = purposes.find_controller(session, "beispiel")
        made = signing.make(session, controller, "s1", "ed25519", now=now)
        row = session.get(DkimKey, made.id)
        assert row is not None
        plain = session.keys.unseal_own(row.sealed)
        assert plain not in row.sealed
        assert dkim.record_text(dkim.loaded("beispiel.example", "s1", plain)) == made.text


def test_a_wrong_call_is_one_line_when_a_key_is_asked_for(app: Flask) -> None:
    runner = app.test_cli_runner()
    for arguments, told in (
        ([], "Missing option '--selector'"),
        (["--selector", "Not.Good"], "selector"),
        (["--selector", "none", "--use"], "no key 'none'"),
        (["--selector", "x", "--use", "--stop"], "one of"),
    ):
        refused = runner.invoke(args=["mail", "dkim-key", "beispiel", *arguments])
        assert refused.exit_code == 2, arguments
        assert told in refused.output
        assert refused.output.count("\n") == 1
    assert log.count(DkimKey) == 0
