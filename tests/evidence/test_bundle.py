"""What a bundle holds, and what it never shows, on both databases."""

from __future__ import annotations

import hashlib
import json
from base64 import b64decode
from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from flask.testing import FlaskClient

from signup.core.db import Session, database, reading, transaction
from signup.core.errors import NotFound
from signup.eventlog.kinds import EventType
from signup.eventlog.record import record
from signup.evidence import bundle
from signup.evidence.bundle import Bundle
from signup.evidence.seals import Seals
from signup.mail.blanking import blanked
from signup.subscriptions import endings
from signup.subscriptions.endings import Ending
from signup.subscriptions.states import EndReason
from tests.conftest import CLIENT, Clock, SignedUp
from tests.evidence.conftest import EMAIL, seal_all
from tests.support import log
from tests.support.smtp import ScriptedSmtp

Prove = Callable[..., SignedUp]


def of(demo: SimpleNamespace, person: SignedUp, clock: Clock) -> Bundle:
    with reading() as session:
        return bundle.of_contact(session, demo.controller.id, person.contact_id, now=clock())


def fields(event: bundle.SealedEvent) -> dict[str, Any]:
    return {name: value for _, name, value in map(json.loads, event.disclosures)}


def by_type(made: Bundle) -> dict[str, dict[str, Any]]:
    return {found["type"]: found for found in map(fields, made.events)}


def end(person: SignedUp, clock: Clock) -> None:
    with transaction() as session:
        order = endings.load(session, person.subscription_id)
        endings.end(session, order, Ending(EndReason.UNSUBSCRIBED, "page"), client=CLIENT, now=clock.forward(seconds=5))


def test_every_event_stands_with_its_proof_when_sealed(prove: Prove, demo: SimpleNamespace, clock: Clock) -> None:
    person = prove()
    made = of(demo, person, clock)
    assert list(by_type(made)) == ["subscription.requested", "mail.accepted", "subscription.confirmed"]
    for event in made.events:
        digests = json.loads(event.leaf)["sd"]
        assert len(digests) == len(event.disclosures)
        assert (event.tlog_proof or "").startswith("c2sp.org/tlog-proof@v1\nindex ")
        assert event.previous is not None
        assert event.previous.consistency
    assert made.complete


def test_event_waits_for_its_proof_when_not_sealed_yet(prove: Prove, demo: SimpleNamespace, clock: Clock) -> None:
    person = prove()
    end(person, clock)
    made = of(demo, person, clock)
    waiting = [fields(event)["type"] for event in made.events if event.tlog_proof is None]
    assert waiting == ["subscription.unsubscribed", "consent.withdrawn"]
    assert [event["state"] for event in made.record["events"]] == ["requested", "given", "withdrawn"]


def test_form_is_shown_as_its_hash_says_when_an_event_names_it(
    prove: Prove, demo: SimpleNamespace, clock: Clock
) -> None:
    made = of(demo, prove(), clock)
    sha256 = by_type(made)["subscription.requested"]["form_sha256"]
    content = b64decode(made.blobs[sha256])
    assert hashlib.sha256(content).hexdigest() == sha256
    assert '<input type="email"' in json.loads(content)["html"] or "email" in json.loads(content)["html"]


def test_record_says_what_was_asked_and_points_at_its_events(prove: Prove, demo: SimpleNamespace, clock: Clock) -> None:
    person = prove()
    made = of(demo, person, clock)
    assert made.record["subject"] == {"id": person.contact_id, "email": EMAIL}
    (purpose,) = made.record["purposes"]
    assert (purpose["code"], purpose["state"]) == ("product-news", "given")
    assert hashlib.sha256(purpose["text"].encode()).hexdigest() == purpose["text_sha256"]
    for claim in made.record["events"]:
        told = fields(made.events[claim["event"]])
        assert (told["type"], told["time"], told["consent"]) == (claim["type"], claim["time"], claim["consent"])


def tokens(smtp_server: ScriptedSmtp) -> list[bytes]:
    """What of the mails would act for whoever reads it, as their bytes spell it without line breaks."""
    sent = b"".join(mail.content.replace(b"=\r\n", b"") for mail in smtp_server.wait())
    return [
        part.split(b'"')[0].split(b"\r\n")[0] for path in (b"/confirm/", b"/not-me/") for part in sent.split(path)[1:]
    ]


def shown(made: Bundle) -> bytes:
    everything = [*map(b64decode, made.blobs.values()), bundle.encoded(made)]
    return b"".join(content.replace(b"=\r\n", b"") for content in everything)


@pytest.mark.parametrize("confirmed", [False, True])
def test_no_live_token_is_in_a_bundle_while_a_link_acts(
    ask: Prove, prove: Prove, demo: SimpleNamespace, clock: Clock, smtp_server: ScriptedSmtp, confirmed: bool
) -> None:
    made = of(demo, prove() if confirmed else ask(), clock)
    found = tokens(smtp_server)
    assert len(found) >= 4
    assert [token for token in found if token in shown(made)] == []
    (left,) = made.left_out
    assert left.why == ("link-acts" if confirmed else "question-open")
    blank = by_type(made)["mail.accepted"]["mail_blanked_sha256"]
    assert left.shown_as == (blank if confirmed else None)
    if confirmed:
        content = b64decode(made.blobs[blank])
        (sent,) = smtp_server.wait()
        assert hashlib.sha256(content).hexdigest() == blank
        assert content == blanked(sent.content)
        assert len(content) == len(sent.content)


def test_exact_bytes_of_the_mail_are_shown_when_no_link_acts_any_more(
    prove: Prove, demo: SimpleNamespace, clock: Clock, smtp_server: ScriptedSmtp
) -> None:
    person = prove()
    end(person, clock)
    made = of(demo, person, clock)
    (sent,) = smtp_server.wait()
    assert b64decode(made.blobs[by_type(made)["mail.accepted"]["mail_sha256"]]) == sent.content
    assert made.left_out == []


def test_mail_is_not_spoken_of_when_it_was_not_handed_over_yet(
    sign_up: Prove, demo: SimpleNamespace, clock: Clock
) -> None:
    made = of(demo, sign_up("wartet@kunde.example", at=clock.forward(seconds=1)), clock)
    assert list(by_type(made)) == ["subscription.requested"]
    assert (made.left_out, len(made.blobs)) == ([], 1)


def test_mail_is_shown_when_its_question_expired(
    ask: Prove, demo: SimpleNamespace, clock: Clock, smtp_server: ScriptedSmtp
) -> None:
    person = ask()
    clock.forward(days=8)
    made = of(demo, person, clock)
    assert by_type(made)["mail.accepted"]["mail_sha256"] in made.blobs


def test_nobody_is_found_when_the_contact_is_another_controllers(prove: Prove, clock: Clock) -> None:
    person = prove()
    with reading() as session, pytest.raises(NotFound):
        bundle.of_contact(session, "ctl_elsewhere", person.contact_id, now=clock())


def test_proof_grows_with_the_levels_of_the_log_only(
    prove: Prove, demo: SimpleNamespace, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    person = prove()
    before = of(demo, person, clock)
    for _ in range(3):
        with transaction() as session:
            for _ in range(700):
                record(session, None, EventType.RETENTION_RUN, {"counts": {}}, now=clock())
        size = seal_all(clock.forward(seconds=1))
    after = of(demo, person, clock)
    # Each event keeps the first checkpoint that holds it: what others did since changes nothing.
    assert after.events == before.events
    reads = 0
    counted = Session.rows

    def rows(self: Session, *given: Any, **more: Any) -> list[Any]:
        nonlocal reads
        reads += 1
        return counted(self, *given, **more)

    monkeypatch.setattr(Session, "rows", rows)
    with reading() as session:
        assert Seals(session).of(size - 10) is not None
    assert 0 < reads <= 12


def test_program_gets_the_bundle_and_the_reading_is_on_record(
    prove: Prove, demo: SimpleNamespace, client: FlaskClient
) -> None:
    person = prove()
    path = f"/api/v1/contacts/{person.contact_id}/evidence/bundle.json"
    answer = client.get(path, headers={"Authorization": f"Bearer {demo.api_key}"})
    assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "no-store")
    assert answer.json is not None
    assert (answer.json["v"], len(answer.json["events"])) == ("doi.bundle/1", 3)
    assert [fact.kind for fact in log.facts(person.contact_id)][-1] == "evidence.read"
    assert client.get(path).status_code == 401


def test_anchors_name_the_key_and_the_newest_checkpoint(prove: Prove, client: FlaskClient, clock: Clock) -> None:
    prove()
    answer = client.get("/.well-known/signup-evidence.json")
    assert answer.status_code == 200
    assert answer.json is not None
    (key,) = answer.json["keys"]
    assert key["vkey"].startswith(answer.json["origin"] + "+")
    assert (key["first_size"], key["last_size"], key["valid_until"]) == (0, None, None)
    assert answer.json["checkpoint"].startswith(f"{answer.json['origin']}\n{seal_all(clock())}\n")
    assert answer.headers["Cache-Control"] == "public, max-age=60"


def test_links_are_blanked_wherever_lines_break() -> None:
    token = b"AbC-d_3.x" * 7
    for at in range(1, len(b"/confirm/" + token)):
        whole = b"/confirm/" + token
        raw = b"see http://x" + whole[:at] + b"=\r\n" + whole[at:] + b'">\r\nAnd "/not-me/' + token + b"\r\nBye"
        done = blanked(raw)
        assert len(done) == len(raw)
        assert token[:9] not in done.replace(b"=\r\n", b"")
        assert (
            done.replace(b"=\r\n", b"")
            == b"see http://x/confirm/" + b"*" * 63 + b'">\r\nAnd "/not-me/' + b"*" * 63 + b"\r\nBye"
        )


def test_mail_without_links_stays_as_it_is_when_blanked() -> None:
    raw = b"https://beispiel.example/datenschutz\r\n/confirmation/x /code is no link\r\n"
    assert blanked(raw) == raw


def test_key_of_before_keeps_its_checkpoints_when_another_signs(
    prove: Prove, client: FlaskClient, clock: Clock
) -> None:
    prove()
    kw = database().sessions.kw
    size = seal_all(clock.forward(seconds=1))
    kw["config"] = replace(kw["config"], evidence_key=b"another seed of thirty-two bytes")
    with transaction() as session:
        record(session, None, EventType.RETENTION_RUN, {"counts": {}}, now=clock())
    seal_all(clock.forward(seconds=1))
    answer = client.get("/.well-known/signup-evidence.json")
    assert answer.json is not None
    assert [(key["first_size"], key["last_size"]) for key in answer.json["keys"]] == [(0, size), (size, None)]
