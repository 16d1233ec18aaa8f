"""A disputed mail is answered for, though the address it went to is gone."""

from __future__ import annotations

import base64
from email import message_from_bytes, policy
from email.message import EmailMessage

import pytest

from signup.core.db import reading, transaction
from signup.eventlog import sealing
from signup.evidence import residue
from signup.privacy import retention
from signup.purposes.actions import create_controller
from signup.worker import run_until_idle
from tests.guards.conftest import STRANGER
from tests.support import log


@pytest.fixture
def settings(smtp_server):
    return {"MAIL_SERVER": smtp_server.host, "MAIL_PORT": str(smtp_server.port)}


@pytest.fixture
def disputed(sign_up, clock, demo, smtp_server):
    """A confirmation mail that was really sent, asked, never answered; its recipient is erased, all is sealed."""
    person = sign_up("canary@beispiel.de", at=clock())
    run_until_idle(clock)
    raw = log.raw(log.messages(person.contact_id)[0])
    clock.forward(days=8)
    retention.run_now(clock)
    clock.forward(days=400)
    sealing.run([], clock)
    return raw


def find(demo, raw: bytes) -> list[residue.Residue]:
    with reading() as session:
        return residue.find(session, demo.controller.id, raw)


def without(raw: bytes, header: str) -> bytes:
    mail = message_from_bytes(raw, policy=policy.default)
    del mail[header]
    return mail.as_bytes()


def forwarded(raw: bytes) -> bytes:
    """As a colleague's mail program sends it on: attached, and in base64."""
    outer = EmailMessage()
    outer["Subject"] = "Fwd: What is this?"
    outer.set_content("Please explain.")
    outer.add_attachment(raw, maintype="application", subtype="octet-stream", filename="mail.eml")
    return outer.as_bytes()


@pytest.mark.req("E24")
def test_time_form_outcome_and_seal_are_found_when_only_the_mail_is_left(disputed, demo):
    (found,) = find(demo, disputed)
    assert found.matched == ("message-id", "token")
    assert found.contact_id is None
    assert (found.form, found.form_version, found.outcome) == ("demo-de", 1, "expired")
    assert found.mail_state == "accepted"
    assert found.message_id is not None
    assert found.message_id.encode() in disputed
    kinds = [trace.type for trace in found.traces]
    assert kinds == ["subscription.requested", "mail.accepted", "subscription.expired"]
    asked = found.traces[0]
    assert asked.occurred_at == found.asked_at
    assert (asked.fields["form"], asked.fields["form_sha256"]) == ("demo-de", found.form_sha256)
    for trace in found.traces:
        assert trace.leaf_index is not None
        assert (trace.sealed_by or 0) > trace.leaf_index
        assert trace.sealed_at is not None
    assert "canary" not in repr(found)


@pytest.mark.parametrize(
    ("bring", "by"),
    [
        (lambda raw: without(raw, "Message-ID"), ("token",)),
        (
            lambda raw: b"\r\n".join(
                line for line in raw.split(b"\r\n") if b"/confirm/" not in line and b"/not-me/" not in line
            ),
            ("message-id",),
        ),
        (forwarded, ("message-id", "token")),
        (lambda raw: b"> " + raw.replace(b"\r\n", b"\r\n> "), ("message-id", "token")),
        (lambda raw: base64.b64encode(b"x") + b"\r\n\r\n" + without(raw, "Date"), ("message-id", "token")),
    ],
    ids=["no-id", "no-link", "attached", "quoted", "headless"],
)
def test_it_is_found_however_it_comes_back(disputed, demo, bring, by):
    (found,) = find(demo, bring(disputed))
    assert found.matched == by
    assert [trace.type for trace in found.traces][:2] == ["subscription.requested", "mail.accepted"]
    assert found.mail_sha256


def test_a_stranger_finds_nothing_of_it(disputed, demo, clock):
    with transaction() as session:
        stranger = create_controller(session, STRANGER, now=clock())
    with reading() as session:
        assert residue.find(session, stranger.id, disputed) == []


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"Message-ID: <someone@else.example>\r\n\r\nhello",
        b"\xff\x00" * 1000,
        b"Content-Type: multipart/mixed; boundary=a\r\n" * 40 + b"\r\n--a\r\n",
        b"http://127.0.0.1:8000/confirm/" + b"A" * 22 + b"." + b"B" * 43,
    ],
    ids=["empty", "foreign", "binary", "nested", "forged"],
)
def test_nothing_is_found_in_what_is_not_ours(disputed, demo, raw):
    assert find(demo, raw) == []


def test_a_person_who_is_still_here_is_named_by_id_only(signup_and_confirm, demo):
    person = signup_and_confirm("anna@beispiel.de")
    (found,) = find(demo, log.raw(log.messages(person.contact_id)[0]))
    assert (found.contact_id, found.outcome) == (person.contact_id, "confirmed")
    assert "subscription.confirmed" in [trace.type for trace in found.traces]
    assert "anna@" not in repr(found)


@pytest.mark.req("E24")
def test_command_and_call_tell_the_same_and_are_on_record(app, client, disputed, demo, tmp_path):
    file = tmp_path / "disputed.eml"
    file.write_bytes(disputed)
    told = app.test_cli_runner().invoke(args=["evidence", "find", str(file)])
    assert told.exit_code == 0, told.output
    assert "outcome: expired" in told.output
    headers = {"Authorization": f"Bearer {demo.api_key}", "Content-Type": "message/rfc822"}
    answer = client.post("/api/v1/evidence/search", data=disputed, headers=headers)
    assert answer.status_code == 200, answer.text
    (item,) = answer.get_json()["items"]
    assert f"mail: {item['message_id']}" in told.output
    assert len(item["traces"]) == told.output.count("event: ") == 3
    from signup.eventlog.kinds import EventType
    from tests.guards.world import rows

    assert len([row for row in rows("event") if row.kind is EventType.EVIDENCE_READ]) == 2
    file.write_bytes(b"nothing")
    assert app.test_cli_runner().invoke(args=["evidence", "find", str(file)]).exit_code == 1
    headers["Content-Type"] = "text/plain"
    assert client.post("/api/v1/evidence/search", data=b"x", headers=headers).status_code == 415
