"""The evidence on paper: what stands on it, what is attached, and that nothing typed acts in it."""

from __future__ import annotations

import hashlib
import io
import json
import re
from base64 import b64decode
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from string import Formatter
from types import SimpleNamespace
from typing import Any

import msgspec
import pikepdf
import pypdfium2
import pytest
from flask import Flask
from flask.testing import FlaskClient

from signup.core.db import reading, transaction
from signup.core.values import OPERATOR, ClientInfo
from signup.eventlog import stamping
from signup.evidence import files, pdf
from signup.evidence.paper import Sheet
from signup.evidence.words import FOLDER, SHOWN, Words
from tests.conftest import Clock, SignedUp
from tests.evidence.conftest import EMAIL
from tests.evidence.test_bundle import tokens
from tests.support import log
from tests.support.smtp import ScriptedSmtp
from tests.support.tsa import Authority, make_authority, running

Prove = Callable[..., SignedUp]

HOSTILE = {
    "typst": '#panic("x") #read("/etc/passwd") $x^2$ @ref <label> *b* _i_ \\u{1F4A9} #{ } // /* "',
    "very long": "A" * 5000,
    "braces": "{form} {0} {{x}} {moment.__class__}",
    "right to left": "abc \u202egnp.exe \u05e9\u05dc\u05d5\u05dd \u0645\u0631\u062d\u0628\u0627 \u2066x\u2069",
    "emoji": "\U0001f642 \U0001f469\u200d\U0001f4bb \u4e2d\u6587 \ufdfa e\u0301 \x07 \ud7ff",
    "combining": "Z\u0351\u036b\u0343\u036a\u0302a\u0489" * 40,
}


def sheet(demo: SimpleNamespace, person: SignedUp, clock: Clock, locale: str | None = None) -> Sheet:
    with transaction() as session:
        made: Sheet = pdf.sheet_of(
            session, demo.controller.id, person.contact_id, locale, client=None, actor=OPERATOR, now=clock()
        )
    return made


def text_of(made: bytes) -> str:
    """All words on the pages, without the places where a line may break."""
    document = pypdfium2.PdfDocument(made)
    try:
        pages = []
        for page in document:
            found = page.get_textpage()
            pages.append(found.get_text_range())
            found.close()
            page.close()
    finally:
        document.close()
    return re.sub(r"[\u200b\ufffe\x02]", "", " ".join(pages)).replace("\r\n", " ")


def squeezed(text: str) -> str:
    return re.sub(r"\s", "", text)


def fonts(document: pikepdf.Pdf) -> Iterator[Any]:
    for page in document.pages:
        for font in page.resources.get("/Font", {}).values():
            for descendant in font.get("/DescendantFonts", [font]):
                yield descendant["/FontDescriptor"]


@pytest.mark.req("E45")
def test_paper_is_archivable_and_carries_the_bundles_very_bytes_when_printed(
    prove: Prove, demo: SimpleNamespace, clock: Clock
) -> None:
    shown = sheet(demo, prove(), clock)
    with pikepdf.open(io.BytesIO(pdf.of_sheet(shown))) as document:
        with document.open_metadata() as metadata:
            assert metadata.pdfa_status == "3B"
        assert document.Root.OutputIntents[0].S == "/GTS_PDFA1"
        assert document.Root.OutputIntents[0].DestOutputProfile.read_bytes()
        attached = {name: document.attachments[name].get_file().read_bytes() for name in document.attachments}
        kinds = {str(item["/AFRelationship"]) for item in document.Root.AF}
        assert len(document.Root.AF) == len(attached)
        embedded = ["/FontFile3" in item or "/FontFile2" in item for item in fonts(document)]
        assert embedded
        assert all(embedded)
        assert not document.is_encrypted
        assert "/AcroForm" not in document.Root
    assert kinds == {"/Data", "/Supplement"}
    assert attached == files.of_bundle(shown.bundle)
    assert {"bundle.json", "confirmation.eml", "form.html", "0003-subscription.confirmed.tlog-proof"} < set(attached)
    hashes = {hashlib.sha256(content).hexdigest() for content in attached.values()}
    forms = [
        json.loads(content)["html"].encode()
        for content in map(b64decode, shown.bundle.blobs.values())
        if content[:1] == b"{"
    ]
    mails = [content for content in map(b64decode, shown.bundle.blobs.values()) if content[:1] != b"{"]
    assert {hashlib.sha256(content).hexdigest() for content in (*forms, *mails)} < hashes
    assert len(forms) == len(mails) == 1


SAID = {
    "de": (
        "Nachweis einer Einwilligung",
        "Versiegelt und unverändert",
        "Angekreuzt. Das Kästchen war beim Öffnen leer.",
        "Bestätigt mit dem Knopf auf der Seite hinter dem Link aus der Mail",
        "Antwort 250 2.0.0 Ok: queued as",
        "Was bewiesen ist",
        "Was nicht bewiesen ist",
        "dass jemand Zugang zu diesem Postfach hatte, nicht dessen Namen",
        "Ohne Zeitstempel einer fremden Stelle.",
    ),
    "en": (
        "Evidence of a consent",
        "Sealed and unchanged",
        "Ticked. The box was empty when the form opened.",
        "Confirmed by the button on the page behind the mailed link",
        "Reply 250 2.0.0 Ok: queued as",
        "What is proven",
        "What is not proven",
        "that somebody had access to this mailbox, not their name",
        "Without a time stamp of a third party.",
    ),
}


@pytest.mark.req("E46")
@pytest.mark.parametrize("locale", ["de", "en"])
def test_a_judge_reads_who_what_when_and_what_is_not_proven_when_printed(
    prove: Prove, demo: SimpleNamespace, clock: Clock, locale: str
) -> None:
    shown = sheet(demo, prove(), clock, locale)
    said = text_of(pdf.of_sheet(shown))
    for words in SAID[locale]:
        assert squeezed(words) in squeezed(said), words
    requested, mailed, confirmed = shown.steps
    for step in (requested, mailed, confirmed):
        assert step.time is not None
        assert squeezed(Words(locale, "Europe/Berlin").moment(step.time)) in squeezed(said)
        assert squeezed(f"{step.time:%Y-%m-%d %H:%M:%S} UTC") in squeezed(said)
    for value in (
        EMAIL,
        "Beispiel GmbH",
        "203.0.113.7",
        requested.fields["consent_texts"][0]["text"],
        mailed.fields["message_id"],
        confirmed.fields["token_sha256"],
        "Bitte bestätigen Sie Ihre Anmeldung bei Beispiel GmbH",
        "„Ja, ich möchte",
    ):
        assert squeezed(value) in squeezed(said), value
    order = [said.index(words) for words in (SAID[locale][2], SAID[locale][3][:12], SAID[locale][5])]
    assert order == sorted(order)


def test_same_input_makes_the_same_bytes(prove: Prove, demo: SimpleNamespace, clock: Clock) -> None:
    shown = sheet(demo, prove(), clock)
    first = pdf.of_sheet(shown)
    again = Sheet(shown.bundle, shown.anchors, shown.tsa, shown.public_url, shown.words)
    assert pdf.of_sheet(again) == first
    assert pdf.of_sheet(replace(again, words=replace(again.words, locale="en"))) != first


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_nothing_typed_acts_or_breaks_the_paper(prove: Prove, demo: SimpleNamespace, clock: Clock, name: str) -> None:
    typed = HOSTILE[name]
    person = prove(client=ClientInfo("203.0.113.7", typed[:400], typed))
    shown = sheet(demo, person, clock)
    assert any(step.fields.get("user_agent") == typed for step in shown.steps)
    said = squeezed(text_of(pdf.of_sheet(shown)))
    assert "VersiegeltundunverändertW" not in said
    assert "Versiegeltundunverändert" in said
    assert "root:x:0" not in said
    for hidden in "\u202e\u2066\u200d\x07":
        assert hidden not in said
    if name == "typst":
        assert squeezed(typed) in said
    if name == "braces":
        assert squeezed(typed) in said
    if name == "emoji":
        assert "‹U+1F642›" in said
    if name == "right to left":
        assert "‹U+202E›" in said


def test_no_link_that_acts_is_on_paper_or_attached(
    prove: Prove, demo: SimpleNamespace, clock: Clock, smtp_server: ScriptedSmtp
) -> None:
    made = pdf.of_sheet(sheet(demo, prove(), clock))
    found = [token.decode() for token in tokens(smtp_server)]
    assert len(found) >= 4
    said = squeezed(text_of(made))
    with pikepdf.open(io.BytesIO(made)) as document:
        attached = b"".join(document.attachments[name].get_file().read_bytes() for name in document.attachments)
    for token in found:
        assert token not in said
        assert token.encode() not in attached.replace(b"=\r\n", b"")
    assert "Sternchen" in said


def without(shown: Sheet, name: str) -> Sheet:
    events = [
        msgspec.structs.replace(event, disclosures=[item for item in event.disclosures if json.loads(item)[1] != name])
        for event in shown.bundle.events
    ]
    return replace(shown, bundle=msgspec.structs.replace(shown.bundle, events=events))


def test_what_was_redacted_is_counted_and_the_rest_stays_sealed(
    prove: Prove, demo: SimpleNamespace, clock: Clock
) -> None:
    shown = without(sheet(demo, prove(), clock), "ip")
    made = pdf.of_sheet(shown)
    said = text_of(made)
    assert "Versiegelt und unverändert" in said
    assert "Eine Angabe geschwärzt." in said
    assert squeezed("2 Angaben wurden nach den Löschregeln entfernt.") in squeezed(said)
    assert "203.0.113.7" not in said


@pytest.mark.parametrize("touched", ["disclosure", "leaf", "proof", "note", "previous", "blob"])
def test_nothing_is_called_sealed_when_one_part_was_touched(
    prove: Prove, demo: SimpleNamespace, clock: Clock, touched: str
) -> None:
    shown = sheet(demo, prove(), clock)
    first, *rest = shown.bundle.events
    proof = first.tlog_proof or ""
    changed: dict[str, Any] = {
        "disclosure": {"disclosures": [first.disclosures[0].replace('"]', '."]'), *first.disclosures[1:]]},
        "leaf": {"leaf": rest[0].leaf, "disclosures": rest[0].disclosures},
        "proof": {"tlog_proof": proof.replace("index 4", "index 5")},
        "note": {"tlog_proof": re.sub(r"\n6\n(?=\S{44}\n\n)", "\n7\n", proof)},
        "previous": {
            "previous": msgspec.structs.replace(first.previous, consistency=first.previous.consistency[::-1])
            if first.previous
            else None
        },
        "blob": {},
    }[touched]
    events = [msgspec.structs.replace(first, **changed), *rest]
    blobs = shown.bundle.blobs
    if touched == "blob":
        blobs = {**blobs, next(iter(blobs)): "e30="}
    else:
        assert events != shown.bundle.events
    bundle = msgspec.structs.replace(shown.bundle, events=events, blobs=blobs)
    with pytest.MonkeyPatch.context() as patch:
        if touched == "blob":
            # Files of other content than they should have cannot be named; the words about them are what counts here.
            patch.setattr(files, "_named", lambda *_: [])
        said = text_of(pdf.of_sheet(replace(shown, bundle=bundle)))
    assert "Die Prüfung ist fehlgeschlagen" in said
    assert "Versiegelt und unverändert" not in said


def test_what_waits_is_not_called_sealed(ask: Prove, demo: SimpleNamespace, clock: Clock) -> None:
    shown = sheet(demo, ask(), clock)
    events = [msgspec.structs.replace(event, tlog_proof=None, previous=None) for event in shown.bundle.events]
    waiting = replace(shown, bundle=msgspec.structs.replace(shown.bundle, events=events))
    said = squeezed(text_of(pdf.of_sheet(waiting)))
    assert "Nochnichtallesversiegelt" in said
    assert "Nochnichts:KeinEreignisistversiegelt." in said
    assert squeezed("Eine Mail bleibt verschlossen, solange ihre Frage offen ist") in said
    assert squeezed("Eine Einwilligung: Die Anfrage wurde nicht bestätigt.") in said


class TestStamped:
    @pytest.fixture
    def authority(self, tmp_path: Path) -> Iterator[Authority]:
        with running(make_authority(tmp_path / "tsa")) as authority:
            yield authority

    @pytest.fixture
    def settings(self, smtp_server: ScriptedSmtp, authority: Authority) -> dict[str, str]:
        server = {"MAIL_SERVER": smtp_server.host, "MAIL_PORT": str(smtp_server.port), "MAIL_TIMEOUT": "5"}
        return {**server, **authority.settings()}

    def test_a_third_party_vouches_for_the_time_when_the_log_is_stamped(
        self, prove: Prove, demo: SimpleNamespace, clock: Clock
    ) -> None:
        person = prove()
        stamping.run([], clock)
        shown = sheet(demo, person, clock)
        places = [step.place for step in shown.steps]
        moments = [place.stamped_at for place in places if place and place.stamped_at]
        assert len(moments) == len(places) == 3
        made = pdf.of_sheet(shown)
        said = squeezed(text_of(made))
        assert squeezed("Eine fremde Stelle bezeugt mit einem Zeitstempel") in said
        assert squeezed(Words("de", "Europe/Berlin").moment(max(moments))) in said
        with pikepdf.open(io.BytesIO(made)) as document:
            tsr = document.attachments["0003-subscription.confirmed.tsr"].get_file().read_bytes()
        assert tsr == b64decode(shown.bundle.events[2].tsr or "")
        unpinned = squeezed(text_of(pdf.of_sheet(replace(shown, tsa=None))))
        assert squeezed("sie wurden beim Erstellen dieses Blattes nicht geprüft") in unpinned


def test_the_words_of_both_languages_say_the_same_things() -> None:
    german, english = (json.loads((FOLDER / f"words.{name}.json").read_text(encoding="utf-8")) for name in ("de", "en"))
    assert german.keys() == english.keys()
    for key in german:
        places = [{name for _, name, _, _ in Formatter().parse(table[key])} for table in (german, english)]
        assert places[0] == places[1], key
    assert not [key for key, text in german.items() if '"' in text or "'" in text]
    assert not [key for key, text in english.items() if '"' in text or "'" in text]


def test_every_letter_of_the_alphabet_has_a_shape(prove: Prove, demo: SimpleNamespace, clock: Clock) -> None:
    shown = sheet(demo, prove(), clock)
    letters = [chr(point) for first, last in SHOWN for point in range(first, last + 1)]
    party = {**shown.record["parties"][0], "address": " ".join(letters)}
    record = {**shown.record, "parties": [party], "origin": {"type": " ".join(letters[1900:])}}
    made = pdf._set(replace(shown, bundle=msgspec.structs.replace(shown.bundle, record=record)))
    assert len(made) > 50_000


def test_setting_is_refused_while_a_transaction_is_open(prove: Prove, demo: SimpleNamespace, clock: Clock) -> None:
    shown = sheet(demo, prove(), clock)
    with reading(), pytest.raises(RuntimeError):
        pdf.of_sheet(shown)


def test_program_gets_the_paper_in_its_language_and_the_reading_is_on_record(
    prove: Prove, demo: SimpleNamespace, client: FlaskClient
) -> None:
    person = prove()
    path = f"/api/v1/contacts/{person.contact_id}/evidence.pdf"
    owner = {"Authorization": f"Bearer {demo.api_key}"}
    answer = client.get(path, headers=owner)
    assert (answer.status_code, answer.mimetype) == (200, "application/pdf")
    assert answer.headers["Cache-Control"] == "no-store"
    assert "Nachweis einer Einwilligung" in text_of(answer.data)
    # That it was read is not sealed yet, and says nothing about the consent.
    again = squeezed(text_of(client.get(path, headers=owner).data))
    assert "Versiegeltundunverändert" in again
    assert "3von4Ereignissen" in again
    assert [fact.kind for fact in log.facts(person.contact_id)][-1] == "evidence.read"
    assert "Evidence of a consent" in text_of(client.get(f"{path}?locale=en", headers=owner).data)
    assert client.get(f"{path}?locale=fr", headers=owner).status_code == 422
    assert client.get(path).status_code == 401
    assert client.get("/api/v1/contacts/con_nobody/evidence.pdf", headers=owner).status_code == 404


def test_paper_lies_beside_the_other_files_when_exported_with_it(
    app: Flask, demo: SimpleNamespace, prove: Prove, tmp_path: Path
) -> None:
    prove()
    out = tmp_path / "proof"
    run = app.test_cli_runner().invoke
    done = run(args=["evidence", "export", EMAIL, "--out", str(out), "--pdf", "--locale", "en"])
    assert done.exit_code == 0, done.output
    made = (out / "evidence.pdf").read_bytes()
    assert "Evidence of a consent" in text_of(made)
    assert (out / "evidence.pdf").stat().st_mode & 0o777 == 0o600
    with pikepdf.open(io.BytesIO(made)) as document:
        for name in document.attachments:
            assert document.attachments[name].get_file().read_bytes() == (out / name).read_bytes()


def test_a_late_entry_is_never_called_sealed_at_its_grant(
    app: Flask, demo: SimpleNamespace, client: FlaskClient
) -> None:
    origin = {
        "type": "fair",
        "detail": "Hannover 2024",
        "collected_by": "Kim",
        "collected_at": "2024-05-06T12:00:00+02:00",
    }
    body = {"email": EMAIL, "legal_basis": "gdpr-6-1-b", "origin": origin, "purposes": ["product-news"]}
    owner = {"Authorization": f"Bearer {demo.api_key}"}
    assert client.post("/api/v1/subscriptions", json=body, headers=owner).status_code == 202
    (found,) = client.get(f"/api/v1/contacts?email={EMAIL}", headers=owner).get_json()["items"]
    answer = client.get(f"/api/v1/contacts/{found['id']}/evidence.pdf?locale=de", headers=owner)
    said = squeezed(text_of(answer.data))
    assert squeezed("Nachträglich eingetragen: Versiegelt ist der Eintrag, nicht die Erteilung.") in said
    assert squeezed("Erteilt laut Eintrag 6. Mai 2024, 12:00:00 MESZ") in said
    assert squeezed("Dass eine Einwilligung zu der Zeit erteilt wurde, die ein nachträglicher Eintrag nennt.") in said
