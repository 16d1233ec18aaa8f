"""The verifier against real bundles: it takes what is true and nothing else."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import shutil
import subprocess
import sys
import sysconfig
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select

from signup.contacts.models import Contact
from signup.core.db import reading, transaction
from signup.core.values import ClientInfo, EmailAddress
from signup.eventlog import notes
from signup.eventlog.kinds import FieldClass
from signup.eventlog.record import redact
from signup.evidence import bundle as bundles
from signup.forms import actions as forms
from signup.privacy import retention
from signup.subscriptions import endings, presses, requests
from signup.subscriptions.endings import Ending
from signup.subscriptions.states import EndReason
from tests.conftest import CLIENT, Clock, SignedUp
from tests.evidence.checking import SCRIPT, verify
from tests.evidence.conftest import EMAIL, seal_all
from tests.support import log
from tests.support.node import run_node
from tests.support.smtp import ScriptedSmtp
from tests.support.tsa import Authority, make_authority
from tests.support.waiting import wait_for

Changes = Callable[[dict[str, Any]], None]


@pytest.fixture
def backend() -> str:
    """The verifier knows no database."""
    return "sqlite"


@pytest.fixture
def settings(smtp_server: ScriptedSmtp, authority: Authority) -> dict[str, str]:
    return {
        "MAIL_SERVER": smtp_server.host,
        "MAIL_PORT": str(smtp_server.port),
        "MAIL_TIMEOUT": "5",
        **authority.settings(),
    }


@dataclass
class Proof:
    """A bundle and the anchors, as somebody else holds them."""

    bundle: dict[str, Any]
    anchors: dict[str, Any]
    folder: Path

    def check(self, bundle: dict[str, Any] | None = None, authorities: Any = None) -> Any:
        """What the verifier finds, or the exception with which it rejects."""
        trusted = authorities or verify.authorities_of(self.anchors, None, None)
        return verify.check(bundle or self.bundle, self.anchors, trusted)

    def run(self, *more: str, python: str = sys.executable, **environment: str) -> subprocess.CompletedProcess[str]:
        """The verifier as somebody types it."""
        (self.folder / "bundle.json").write_text(json.dumps(self.bundle, ensure_ascii=False), encoding="utf-8")
        (self.folder / "anchors.json").write_text(json.dumps(self.anchors), encoding="utf-8")
        command = [
            python,
            str(SCRIPT),
            str(self.folder / "bundle.json"),
            "--anchors",
            str(self.folder / "anchors.json"),
        ]
        env = {"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "PYTHONDONTWRITEBYTECODE": "1", **environment}
        return subprocess.run([*command, *more], capture_output=True, text=True, env=env, timeout=60, check=False)


@pytest.fixture
def take(demo: SimpleNamespace, client: FlaskClient, clock: Clock, tmp_path: Path) -> Callable[[SignedUp], Proof]:
    def act(person: SignedUp) -> Proof:
        with reading() as session:
            made = bundles.of_contact(session, demo.controller.id, person.contact_id, now=clock())
        anchors = client.get("/.well-known/signup-evidence.json").get_json()
        return Proof(json.loads(bundles.encoded(made)), anchors, tmp_path)

    return act


@pytest.fixture
def proof(prove: Callable[..., SignedUp], take: Callable[[SignedUp], Proof]) -> Proof:
    return take(prove())


def rejected(proof: Proof, bundle: dict[str, Any], authorities: Any = None) -> str:
    """Why, in one word; empty when it was accepted."""
    try:
        proof.check(bundle, authorities)
    except verify.Rejected as problem:
        return str(problem.key)
    except (AttributeError, KeyError, TypeError, ValueError):
        return "shape"
    return ""


def flipped(text: str, at: int) -> str:
    return text[:at] + chr(ord(text[at]) ^ 1) + text[at + 1 :]


def text_mutants(event: dict[str, Any], step: int) -> Iterator[dict[str, Any]]:
    """Copies of an event, each with one character changed in leaf, disclosures, proof, note or path."""
    places: list[tuple[Any, ...]] = [("leaf",), ("tlog_proof",), ("previous", "note")]
    places += [("disclosures", number) for number in range(len(event["disclosures"]))]
    places += [("previous", "consistency", number) for number in range(len(event["previous"]["consistency"]))]
    for *way, last in places:
        holder = event
        for name in way:
            holder = holder[name]
        for at in range(0, len(holder[last]), step):
            mutant = copy.deepcopy(event)
            changed: Any = mutant
            for name in way:
                changed = changed[name]
            changed[last] = flipped(changed[last], at)
            yield mutant


def with_event(bundle: dict[str, Any], place: int, event: dict[str, Any]) -> dict[str, Any]:
    events = [*bundle["events"]]
    events[place] = event
    return {**bundle, "events": events}


@pytest.mark.req("E39")
def test_every_changed_character_is_found_when_leaf_disclosure_proof_or_note_is_touched(proof: Proof) -> None:
    trusted = verify.authorities_of(proof.anchors, None, None)
    assert rejected(proof, proof.bundle, trusted) == ""
    tried = 0
    for place, step in ((2, 1), (0, 29), (1, 29)):
        for mutant in text_mutants(proof.bundle["events"][place], step):
            tried += 1
            assert rejected(proof, with_event(proof.bundle, place, mutant), trusted), mutant
    assert tried > 2500
    assert rejected(proof, proof.bundle, trusted) == ""


@pytest.mark.req("E39")
def test_every_changed_byte_is_found_when_a_time_stamp_is_touched(proof: Proof) -> None:
    trusted = verify.authorities_of(proof.anchors, None, None)
    event = proof.bundle["events"][2]
    token, before = b64decode(event["tsr"]), b64decode(event["previous"]["tsr"])

    def found(at: int) -> bool:
        changed = {**event, "tsr": b64encode(bytes([*token[:at], token[at] ^ 1, *token[at + 1 :]])).decode()}
        return bool(rejected(proof, with_event(proof.bundle, 2, changed), trusted))

    def found_before(at: int) -> bool:
        tsr = b64encode(bytes([*before[:at], before[at] ^ 0x80, *before[at + 1 :]])).decode()
        changed = {**event, "previous": {**event["previous"], "tsr": tsr}}
        return bool(rejected(proof, with_event(proof.bundle, 2, changed), trusted))

    assert rejected(proof, proof.bundle, trusted) == ""
    with ThreadPoolExecutor(2) as pool:
        assert [at for at, good in enumerate(pool.map(found, range(len(token)))) if not good] == []
        sampled = range(0, len(before), 41)
        assert [at for at, good in zip(sampled, pool.map(found_before, sampled), strict=True) if not good] == []


@pytest.mark.req("E40")
def test_times_are_bracketed_and_told_in_both_languages_when_proven(proof: Proof) -> None:
    result = proof.check()
    (act,) = result.acts
    # The authority tells whole seconds.
    assert act.given.not_before <= act.given.not_after <= datetime.now(UTC)
    english, german = proof.run("--lang", "en"), proof.run("--lang", "de")
    assert (english.returncode, german.returncode) == (0, 0), english.stderr + german.stderr
    before = act.given.not_before.strftime("%Y-%m-%d %H:%M:%S UTC")
    assert f"This was not in the log at {before}" in english.stdout
    assert f"Das stand um {before} noch nicht im Protokoll" in german.stdout
    for told in (english.stdout, german.stdout):
        assert EMAIL in told
        assert "product-news" in told
        assert "250 " in told
        assert "203.0.113.7" in told


@pytest.mark.req("E46")
def test_what_is_not_proven_is_said_in_plain_words(proof: Proof) -> None:
    english, german = proof.run("--lang", "en").stdout, proof.run("--lang", "de").stdout
    assert "Double opt-in shows control of the mailbox, not identity." in english
    assert "Double-Opt-in zeigt die Verfügung über das Postfach, nicht die Identität." in german
    assert "that they are qualified" in english
    assert "dass sie qualifiziert sind" in german
    assert set(verify.TEXTS["de"]) == set(verify.TEXTS["en"])


@pytest.mark.req("E41")
def test_bundle_holds_and_counts_when_fields_are_gone(
    prove: Callable[..., SignedUp], take: Callable[[SignedUp], Proof]
) -> None:
    person, other = prove(), prove("bert@kunde.example")
    full = take(person).check()
    ids = [fact.id for fact in log.facts(person.contact_id)]
    with transaction() as session:
        redact(session, ids[:1], [FieldClass.IP])
    assert take(person).check().redacted == 1
    classes = [item for item in FieldClass if item is not FieldClass.RESIDUE]
    with transaction() as session:
        redact(session, ids, classes)
    bare = take(person)
    result = bare.check()
    assert result.redacted == sum(
        name in event.fields and name not in after.fields
        for event, after in zip(full.events, result.events, strict=True)
        for name in event.fields
    )
    assert f"{result.redacted} fields were redacted" in bare.run("--lang", "en").stdout
    for event in bare.bundle["events"]:
        event["disclosures"] = []
    assert bare.run().returncode == 0
    assert take(other).check().redacted == 0


def ask_many(count: int, clock: Clock) -> list[str]:
    """So many people sign up, each from a network of their own."""
    with reading() as session:
        view = forms.in_force(session, "demo-de")
    for start in range(0, count, 100):
        with transaction() as session:
            for number in range(start, min(count, start + 100)):
                client = ClientInfo(f"2001:db8:{number:x}::1", "connection", "Mozilla/5.0 (test)")
                address = EmailAddress.parse(f"person{number}@viele{number}.example")
                ask = presses.SignupRequest(address, ("product-news",), None, view.version, client, None, None)
                requests.request(session, view, ask, now=clock())
    with reading() as session:
        return list(session.scalars(select(Contact.id).where(Contact.email.startswith("person"))))


@pytest.mark.req("E26")
def test_bundle_of_before_still_holds_when_a_thousand_others_were_erased(
    proof: Proof, take: Callable[[SignedUp], Proof], client: FlaskClient, clock: Clock
) -> None:
    others = ask_many(1000, clock)
    assert len(others) == 1000
    seal_all(clock.forward(seconds=10))
    for start in range(0, len(others), 100):
        with transaction() as session:
            retention.forget(session, others[start : start + 100], "erased", now=clock())
    seal_all(clock.forward(seconds=10))
    now = client.get("/.well-known/signup-evidence.json").get_json()
    assert now["checkpoint"] != proof.anchors["checkpoint"]
    later = replace(proof, anchors=now)
    assert len(later.check().acts) == 1
    assert later.run().returncode == 0


@pytest.mark.req("E39")
def test_bare_environment_without_network_is_enough(proof: Proof, tmp_path: Path) -> None:
    python = bare_python(tmp_path)
    tried = subprocess.run([python, "-c", "import flask"], capture_output=True, text=True, check=False)
    assert "No module named 'flask'" in tried.stderr
    tried = subprocess.run(
        [python, "-c", "import socket; socket.socket()"], capture_output=True, text=True, check=False
    )
    assert "there is no network" in tried.stderr
    done = proof.run("--lang", "en", python=python)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ACCEPTED" in done.stdout
    assert "under a checkpoint with a time stamp" in done.stdout


def bare_python(folder: Path) -> str:
    """An environment that holds cryptography and what that needs, where opening a socket is an error."""
    place = folder / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(place)], check=True, timeout=60)
    packages = place / "lib" / f"python{sys.version_info.major}.{sys.version_info.minor}" / "site-packages"
    for name in ("cryptography", "cffi", "pycparser"):
        shutil.copytree(Path(sysconfig.get_path("purelib")) / name, packages / name)
    for compiled in Path(sysconfig.get_path("platlib")).glob("_cffi_backend*"):
        shutil.copy(compiled, packages)
    (packages / "sitecustomize.py").write_text(
        "import sys\n"
        "def refuse(event, arguments):\n"
        "    if event.startswith('socket.'):\n"
        "        raise RuntimeError('there is no network')\n"
        "sys.addaudithook(refuse)\n"
    )
    return str(place / "bin" / "python")


def test_oldest_python_that_is_promised_can_read_it() -> None:
    import ast

    ast.parse(SCRIPT.read_text(encoding="utf-8"), feature_version=(3, 9))
    assert "signup." not in SCRIPT.read_text(encoding="utf-8").replace("python signup_verify", "")


def claimed_by_another(bundle: dict[str, Any]) -> None:
    bundle["record"]["subject"]["email"] = "bert@kunde.example"


def other_words(bundle: dict[str, Any]) -> None:
    (purpose,) = bundle["record"]["purposes"]
    purpose["text"] = "You may sell my data."
    purpose["text_sha256"] = hashlib.sha256(purpose["text"].encode()).hexdigest()


def other_time(bundle: dict[str, Any]) -> None:
    bundle["record"]["events"][1]["time"] = "2026-01-01T00:00:00.000Z"


def more_than_given(bundle: dict[str, Any]) -> None:
    bundle["record"]["events"][0]["state"] = "given"


def another_consent(bundle: dict[str, Any]) -> None:
    (purpose,) = bundle["record"]["purposes"]
    bundle["record"]["purposes"].append({**purpose, "consent": "act_made_up"})


def proof_of_another(bundle: dict[str, Any]) -> None:
    first, second = bundle["events"][:2]
    first["tlog_proof"], second["tlog_proof"] = second["tlog_proof"], first["tlog_proof"]


def told_twice(bundle: dict[str, Any]) -> None:
    event = bundle["events"][0]
    event["disclosures"].append(event["disclosures"][0])


def unsealed(bundle: dict[str, Any]) -> None:
    bundle["events"][2].update(tlog_proof=None, tsr=None, previous=None)


def nothing(bundle: dict[str, Any]) -> None:
    bundle["events"], bundle["record"]["events"], bundle["record"]["purposes"] = [], [], []


def same_event_twice(bundle: dict[str, Any]) -> None:
    bundle["events"].append(bundle["events"][2])


def other_file(bundle: dict[str, Any]) -> None:
    name = next(iter(bundle["blobs"]))
    bundle["blobs"][name] = b64encode(b"something else").decode()


def later_stamp(bundle: dict[str, Any]) -> None:
    first, _, third = bundle["events"]
    first["previous"]["tsr"] = third["tsr"]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (claimed_by_another, "record"),
        (other_words, "record"),
        (other_time, "record"),
        (more_than_given, "record"),
        (another_consent, "record"),
        (proof_of_another, "inclusion"),
        (told_twice, "disclosure"),
        (unsealed, "unsealed"),
        (nothing, "nothing-sealed"),
        (same_event_twice, "place"),
        (other_file, "blob"),
        (later_stamp, "other-note"),
    ],
)
def test_story_that_the_log_does_not_tell_is_rejected(proof: Proof, change: Changes, why: str) -> None:
    changed = copy.deepcopy(proof.bundle)
    change(changed)
    assert rejected(proof, changed) == why
    done = replace(proof, bundle=changed).run("--lang", "en")
    assert done.returncode == 1
    assert done.stdout.startswith("REJECTED")
    assert verify.TEXTS["en"][why].partition("{")[0] in done.stdout


def test_key_is_refused_when_it_signs_what_is_not_its_own(proof: Proof) -> None:
    for change in ({"last_size": 1}, {"first_size": 10_000}):
        anchors = {**proof.anchors, "checkpoint": None, "keys": [{**proof.anchors["keys"][0], **change}]}
        assert rejected(replace(proof, anchors=anchors), proof.bundle) == "signature"
    stranger = notes.Signer(proof.anchors["origin"], b"another seed of thirty-two bytes").verifier.vkey
    anchors = {**proof.anchors, "checkpoint": None, "keys": [{**proof.anchors["keys"][0], "vkey": stranger}]}
    assert rejected(replace(proof, anchors=anchors), proof.bundle) == "signature"


def test_log_that_tells_two_stories_is_found_when_a_checkpoint_was_kept(proof: Proof, app: Flask) -> None:
    event = proof.bundle["events"][2]
    head = verify.head_of(event["tlog_proof"].partition("\n\n")[2], [verify.key_of(proof.anchors["keys"][0])])
    signer = notes.Signer(head.origin, app.extensions["signup.config"].evidence_seed)
    other = signer.sign(notes.Head(head.origin, head.size, b"x" * 32).text)
    assert rejected(replace(proof, anchors={**proof.anchors, "checkpoint": other}), proof.bundle) == "fork"


def stamped_by(proof: Proof, tsa: Authority) -> dict[str, Any]:
    """The bundle with a time stamp of this authority over the right checkpoint."""
    changed = copy.deepcopy(proof.bundle)
    event = changed["events"][2]
    note = event["tlog_proof"].partition("\n\n")[2]
    (proof.folder / "note").write_bytes(note.encode())
    query = ["openssl", "ts", "-query", "-data", str(proof.folder / "note"), "-sha256", "-cert"]
    asked = subprocess.run(query, capture_output=True, check=True, timeout=30).stdout
    event["tsr"] = b64encode(tsa.reply(asked)).decode()
    return changed


@pytest.mark.req("E42")
def test_authority_that_vouches_for_itself_is_refused(proof: Proof, authority: Authority, tmp_path: Path) -> None:
    rogue = make_authority(tmp_path / "rogue", with_root=True)
    changed = stamped_by(proof, rogue)
    assert rejected(proof, changed) == "authority"
    # Nor does its root among the good ones make it a pinned authority.
    roots = tmp_path / "roots.pem"
    roots.write_bytes(authority.root_file.read_bytes() + rogue.root_file.read_bytes())
    assert rejected(proof, changed, verify.authorities_of(proof.anchors, None, roots)) == "authority"
    bare = replace(proof, anchors={**proof.anchors, "timestamp_authorities": []})
    assert rejected(bare, changed, verify.authorities_of(bare.anchors, None, authority.root_file)) == "stamp"


def test_root_or_certificate_given_by_hand_replaces_the_anchors(proof: Proof, authority: Authority) -> None:
    bare = replace(proof, anchors={**proof.anchors, "timestamp_authorities": []})
    assert bare.run().returncode == 2
    for option in (["--tsa-root", str(authority.root_file)], ["--tsa-cert", str(authority.certificate_file)]):
        assert bare.run(*option).returncode == 0, option
    rogue = make_authority(proof.folder / "other")
    for option in (["--tsa-root", str(rogue.root_file)], ["--tsa-cert", str(rogue.certificate_file)]):
        assert bare.run(*option).returncode == 1, option


def test_time_stamp_holds_when_its_certificate_has_expired_since(proof: Proof, tmp_path: Path) -> None:
    short = make_authority(tmp_path / "short", ends=timedelta(seconds=4))
    changed = stamped_by(proof, short)
    ends = short.certificate.not_valid_after_utc
    wait_for(lambda: datetime.now(UTC) > ends + timedelta(seconds=1), seconds=20)
    pinned = tmp_path / "both.pem"
    pinned.write_bytes(short.certificate_file.read_bytes() + Path(proof_certificate(proof)).read_bytes())
    assert rejected(proof, changed, verify.authorities_of(proof.anchors, pinned, None)) == ""


def proof_certificate(proof: Proof) -> str:
    """The certificate that the anchors name, out of a token that brings it along."""
    token = verify.token_of(b64decode(proof.bundle["events"][2]["tsr"]))
    (proof.folder / "token.der").write_bytes(token.der)
    command = ["openssl", "pkcs7", "-inform", "DER", "-in", str(proof.folder / "token.der"), "-print_certs"]
    done = subprocess.run(command, capture_output=True, check=True, timeout=30)
    found = proof.folder / "authority.pem"
    found.write_bytes(done.stdout)
    return str(found)


def test_gaps_are_told_when_nothing_was_stamped(proof: Proof) -> None:
    for event in proof.bundle["events"]:
        event["tsr"] = None
        event["previous"]["tsr"] = None
    done = proof.run("--lang", "en")
    assert done.returncode == 0
    assert "3 events have no time stamp of somebody else" in done.stdout


def test_exact_mail_is_told_when_the_person_has_left(
    prove: Callable[..., SignedUp], take: Callable[[SignedUp], Proof], clock: Clock
) -> None:
    person = prove()
    assert "only the tokens of its links are blanked" in take(person).run("--lang", "en").stdout
    with transaction() as session:
        order = endings.load(session, person.subscription_id)
        endings.end(session, order, Ending(EndReason.UNSUBSCRIBED, "page"), client=CLIENT, now=clock.forward(seconds=5))
    seal_all(clock.forward(seconds=5))
    told = take(person).run("--lang", "en").stdout
    assert "The mail itself is in this file, byte by byte." in told
    assert "consent was withdrawn" in told


@pytest.mark.parametrize("content", [b"", b"[]", b'{"v": "doi.bundle/1"}', b'{"v": "other"}', b"\xff\xfe"])
def test_what_is_no_bundle_is_bad_input_or_rejected_and_never_accepted(proof: Proof, content: bytes) -> None:
    anchors = proof.folder / "anchors.json"
    anchors.write_text(json.dumps(proof.anchors), encoding="utf-8")
    given = proof.folder / "given.json"
    given.write_bytes(content)
    command = [sys.executable, str(SCRIPT), str(given), "--anchors", str(anchors), "--lang", "en"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode in (1, 2)
    assert "Traceback" not in done.stderr
    assert (done.stdout + done.stderr).count("\n") == 1


def test_file_that_is_not_there_is_bad_input(proof: Proof) -> None:
    proof.run()
    command = [sys.executable, str(SCRIPT), str(proof.folder / "none.json")]
    done = subprocess.run(
        [*command, "--anchors", str(proof.folder / "anchors.json")],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert "none.json cannot be read" in done.stderr or "none.json ist nicht lesbar" in done.stderr


@pytest.mark.req("E36")
def test_implementation_of_others_takes_checkpoint_and_proof(proof: Proof) -> None:
    key = verify.key_of(proof.anchors["keys"][0])
    for event in proof.bundle["events"]:
        index, path, note = verify.proof_of(event["tlog_proof"])
        values = {
            "ident": key.ident.hex(),
            "name": key.name,
            "spki": (bytes.fromhex("302a300506032b6570032100") + key.public).hex(),
            "note": note,
            "index": index,
            "path": [item.hex() for item in path],
            "leaf": event["leaf"].encode().hex(),
        }
        assert run_node(THEIRS, **values) == "accepted"
        for changed in ({"leaf": "00" + values["leaf"]}, {"index": index + 1}, {"note": note.replace("\n", "x\n", 1)}):
            assert run_node(THEIRS, **{**values, **changed}) == "refused"


# npm's own check of transparency logs (@sigstore/verify), which has never heard of us.
THEIRS = """
const crypto = require('crypto');
const folder = require('path').dirname(require.resolve('@sigstore/verify'));
const { verifyCheckpoint } = require(folder + '/tlog/checkpoint.js');
const { verifyMerkleInclusion } = require(folder + '/tlog/merkle.js');
const hex = (text) => Buffer.from(text, 'hex');
const log = {
  logID: hex(input.ident),
  baseURL: input.name,
  publicKey: crypto.createPublicKey({ key: hex(input.spki), format: 'der', type: 'spki' }),
};
const entry = {
  canonicalizedBody: hex(input.leaf),
  inclusionProof: {
    logIndex: String(input.index),
    hashes: input.path.map(hex),
    checkpoint: { envelope: input.note },
  },
};
let said = 'accepted';
try {
  verifyMerkleInclusion(entry, verifyCheckpoint(entry, [log]));
} catch (error) {
  said = 'refused';
}
console.log(JSON.stringify(said));
"""
