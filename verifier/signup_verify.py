#!/usr/bin/env python3
"""Checks the proof of a consent without the service that made it, and without a network.

    python signup_verify.py bundle.json --anchors signup-evidence.json [--tsa-cert TSA.pem] [--tsa-root ROOT.pem]

Needs Python 3.9, the package `cryptography`, and the program `openssl` for time stamps. Nothing of the service is used
here: whoever doubts the service can read this one file. Exit status: 0 what can be checked holds, 1 something does
not, 2 there is nothing to check.
"""

from __future__ import annotations

import argparse
import base64
import binascii
import hashlib
import json
import locale
import re
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Iterable, Iterator, Optional

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

BUNDLE, ANCHORS, LEAF = "doi.bundle/1", "doi.anchors/1", "doi.event/1"
PROOF_HEADER = "c2sp.org/tlog-proof@v1"
EM_DASH = "\u2014"
# The type of an event that does not disclose it.
UNKNOWN = "?"
# An authority's clock and the service's differ a little; what says to be later than its seal by more is a lie.
CLOCKS = timedelta(minutes=5)
# Sealing waits a minute, a long queue some more; what was entered so much later was not written down when it happened.
LATE = timedelta(hours=1)


class Rejected(Exception):
    """Something does not hold; the words say what."""

    def __init__(self, key: str, **values: Any) -> None:
        super().__init__(key)
        self.key, self.values = key, values


class BadInput(Exception):
    """There is nothing that could be checked."""

    def __init__(self, key: str, **values: Any) -> None:
        super().__init__(key)
        self.key, self.values = key, values


# --- Bytes ------------------------------------------------------------------------------------------------------------


def unbase64(text: Any) -> bytes:
    """The bytes of standard base64 in its one spelling; others would let letters change unseen."""
    if not isinstance(text, str):
        raise Rejected("base64")
    try:
        content = base64.b64decode(text.encode("ascii"), validate=True)
    except (ValueError, binascii.Error):
        raise Rejected("base64") from None
    if base64.b64encode(content).decode() != text:
        raise Rejected("base64")
    return content


def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Rejected("twice")
    return found


def parsed(text: str) -> Any:
    """JSON in which no name stands twice."""
    try:
        return json.loads(text, object_pairs_hook=unique)
    except (ValueError, RecursionError):
        raise Rejected("json") from None


def moment_of(text: Any) -> Optional[datetime]:
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=timezone.utc)
    except (TypeError, ValueError):
        return None


def spelled(moment: datetime) -> str:
    return moment.astimezone(timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")


# --- The tree: RFC 6962, in the words of RFC 9162 ---------------------------------------------------------------------


def leaf_hash(leaf: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + leaf).digest()


def node(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


def root_from_inclusion(index: int, size: int, leaf: bytes, path: list[bytes]) -> bytes:
    """RFC 9162 2.1.3.2."""
    if index >= size:
        raise Rejected("inclusion")
    fn, sn, result = index, size - 1, leaf
    for item in path:
        if sn == 0:
            raise Rejected("inclusion")
        if fn & 1 or fn == sn:
            result = node(item, result)
            while fn and not fn & 1:
                fn, sn = fn >> 1, sn >> 1
        else:
            result = node(result, item)
        fn, sn = fn >> 1, sn >> 1
    if sn:
        raise Rejected("inclusion")
    return result


def check_consistency(old: int, old_root: bytes, new: int, new_root: bytes, path: list[bytes]) -> None:
    """RFC 9162 2.1.4.2."""
    if old == new and not path and old_root == new_root:
        return
    if not 0 < old < new or not path:
        raise Rejected("consistency")
    path = [old_root, *path] if old & (old - 1) == 0 else list(path)
    fn, sn = old - 1, new - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    before = after = path[0]
    for item in path[1:]:
        if sn == 0:
            raise Rejected("consistency")
        if fn & 1 or fn == sn:
            before, after = node(item, before), node(item, after)
            while fn and not fn & 1:
                fn, sn = fn >> 1, sn >> 1
        else:
            after = node(after, item)
        fn, sn = fn >> 1, sn >> 1
    if sn or before != old_root or after != new_root:
        raise Rejected("consistency")


# --- Signed notes: C2SP signed-note, tlog-checkpoint, tlog-proof ------------------------------------------------------


@dataclass(frozen=True)
class LogKey:
    """A key that signs the checkpoints over more than `first_size` leaves, up to `last_size`."""

    name: str
    public: bytes
    first_size: int
    last_size: Optional[int]

    @property
    def ident(self) -> bytes:
        return hashlib.sha256(self.name.encode() + b"\n\x01" + self.public).digest()[:4]

    def signs(self, size: int) -> bool:
        return self.first_size < size and (self.last_size is None or size <= self.last_size)


@dataclass(frozen=True)
class Head:
    """What a checkpoint says: so many leaves, and this root."""

    origin: str
    size: int
    root: bytes


def key_of(shown: Any) -> LogKey:
    """A key as the anchors show it."""
    try:
        name, ident, packed = shown["vkey"].split("+", 2)
        content = unbase64(packed)
        last = shown.get("last_size")
        key = LogKey(name, content[1:], int(shown["first_size"]), None if last is None else int(last))
    except (KeyError, TypeError, ValueError, AttributeError, Rejected):
        raise BadInput("anchors") from None
    if content[:1] != b"\x01" or len(key.public) != 32 or key.ident.hex() != ident:
        raise BadInput("anchors")
    return key


def number(text: str) -> int:
    if not re.fullmatch(r"0|[1-9][0-9]{0,15}", text):
        raise Rejected("number")
    return int(text)


def head_of(note: str, keys: list[LogKey]) -> Head:
    """What a checkpoint says, if a key that may sign it did."""
    text, gap, below = note.rpartition("\n\n")
    lines = text.split("\n")
    if not gap or len(lines) != 3 or not below.endswith("\n"):
        raise Rejected("note")
    head = Head(lines[0], number(lines[1]), unbase64(lines[2]))
    good = [key for key in keys if key.name == head.origin and key.signs(head.size)]
    if len(head.root) != 32 or not any(
        signed(line, f"{text}\n", key) for line in below[:-1].split("\n") for key in good
    ):
        raise Rejected("signature", size=head.size)
    return head


def signed(line: str, text: str, key: LogKey) -> bool:
    mark, _, rest = line.partition(" ")
    name, _, packed = rest.rpartition(" ")
    if mark != EM_DASH or name != key.name:
        return False
    content = unbase64(packed)
    if content[:4] != key.ident:
        return False
    try:
        Ed25519PublicKey.from_public_bytes(key.public).verify(content[4:], text.encode())
    except InvalidSignature:
        return False
    return True


def proof_of(text: Any) -> tuple[int, list[bytes], str]:
    """Place, path and checkpoint of an inclusion proof."""
    above, gap, note = text.partition("\n\n") if isinstance(text, str) else ("", "", "")
    lines = above.split("\n")
    if not gap or len(lines) < 2 or lines[0] != PROOF_HEADER or not lines[1].startswith("index "):
        raise Rejected("proof")
    return number(lines[1][len("index ") :]), hashes_of(lines[2:]), note


def hashes_of(lines: Any) -> list[bytes]:
    if not isinstance(lines, list):
        raise Rejected("proof")
    found = [unbase64(line) for line in lines]
    if len(found) > 64 or any(len(item) != 32 for item in found):
        raise Rejected("proof")
    return found


# --- Time stamps: RFC 3161, RFC 5652 ----------------------------------------------------------------------------------

SEQUENCE, SET, INTEGER, OID, OCTETS, TIME = 0x30, 0x31, 0x02, 0x06, 0x04, 0x18
SIGNED_DATA = bytes.fromhex("06092a864886f70d010702")
TST_INFO = bytes.fromhex("060b2a864886f70d0109100104")
GRANTED = bytes.fromhex("3003020100")
# Digests with and without parameters, as both are in use.
DIGESTS = {
    bytes.fromhex(f"{start}0609608648016503040{code}{end}"): name
    for code, name in (("201", "sha256"), ("202", "sha384"), ("203", "sha512"))
    for start, end in (("300b", ""), ("300d", "0500"))
}
# RSA as such or with its digest, ECDSA with its digest; of others the parameters are openssl's to judge.
SIGNATURES = {
    "sha256": ("300d06092a864886f70d0101010500", "300d06092a864886f70d01010b0500", "300a06082a8648ce3d040302"),
    "sha384": ("300d06092a864886f70d0101010500", "300d06092a864886f70d01010c0500", "300a06082a8648ce3d040303"),
    "sha512": ("300d06092a864886f70d0101010500", "300d06092a864886f70d01010d0500", "300a06082a8648ce3d040304"),
}
PSS = "06092a864886f70d01010a"


@dataclass(frozen=True)
class Der:
    """One value of DER: its tag, what is in it, and all of its bytes."""

    tag: int
    body: bytes
    raw: bytes

    def parts(self, tag: int) -> list[Der]:
        if self.tag != tag:
            raise Rejected("token")
        return list(ders(self.body))


def ders(data: bytes) -> Iterator[Der]:
    while data:
        head, length = 2, data[1] if len(data) > 1 else 0x80
        if length & 0x80:
            more = length & 0x7F
            head, length = 2 + more, int.from_bytes(data[2 : 2 + more], "big")
            if not 1 <= more <= 4 or length < 0x80 or data[2] == 0:
                raise Rejected("token")
        if len(data) < head + length or data[0] & 0x1F == 0x1F:
            raise Rejected("token")
        yield Der(data[0], data[head : head + length], data[: head + length])
        data = data[head + length :]


def one(items: Iterable[Der], tag: int) -> Der:
    found = list(items)
    if len(found) != 1 or found[0].tag != tag:
        raise Rejected("token")
    return found[0]


@dataclass(frozen=True)
class Token:
    """What a time stamp says, read strictly: fields that nobody signs have the one value they can have."""

    der: bytes
    certificates: frozenset[str]  # SHA-256 of those that it brings along
    time: datetime
    imprint: bytes
    digest: str


def token_of(tsr: bytes) -> Token:
    """The token in a response, or the token itself."""
    whole = one(ders(tsr), SEQUENCE)
    content = whole.parts(SEQUENCE)
    if len(content) == 2 and content[0].tag == SEQUENCE:
        if content[0].raw != GRANTED and not content[0].raw[2:].startswith(GRANTED[2:]):
            raise Rejected("token")
        whole = content[1]
        content = whole.parts(SEQUENCE)
    if len(content) != 2 or content[0].raw != SIGNED_DATA:
        raise Rejected("token")
    version, digests, held, *rest = one(content[1].parts(0xA0), SEQUENCE).parts(SEQUENCE)
    check_signer(version, one(digests.parts(SET), SEQUENCE).raw, rest)
    brought = frozenset(hashlib.sha256(item.raw).hexdigest() for item in rest[0].parts(rest[0].tag) if len(rest) == 2)
    inner = held.parts(SEQUENCE)
    if len(inner) != 2 or inner[0].raw != TST_INFO:
        raise Rejected("token")
    return stated(whole.raw, brought, one(inner[1].parts(0xA0), OCTETS).body)


def check_signer(version: Der, digest: bytes, rest: list[Der]) -> None:
    """One signer, whose algorithms are known and fit each other."""
    if version.raw != b"\x02\x01\x03" or [item.tag for item in rest] not in ([SET], [0xA0, SET]):
        raise Rejected("token")
    parts = one(rest[-1].parts(SET), SEQUENCE).parts(SEQUENCE)
    tags = [SEQUENCE, SEQUENCE, 0xA0, SEQUENCE, OCTETS]
    if [item.tag for item in parts[1:6]] != tags or [item.tag for item in parts[6:]] not in ([], [0xA1]):
        raise Rejected("token")
    known = SIGNATURES.get(DIGESTS.get(parts[2].raw, ""), ())
    algorithm = parts[4].raw.hex()
    fits = algorithm in known or parts[4].body.hex().startswith(PSS)
    if parts[0].raw != b"\x02\x01\x01" or parts[2].raw != digest or not fits:
        raise Rejected("token")


def stated(token: bytes, brought: frozenset[str], info: bytes) -> Token:
    parts = one(ders(info), SEQUENCE).parts(SEQUENCE)
    if [item.tag for item in parts[:5]] != [INTEGER, OID, SEQUENCE, INTEGER, TIME]:
        raise Rejected("token")
    algorithm, imprint = parts[2].parts(SEQUENCE)
    digest = DIGESTS.get(algorithm.raw)
    found = re.fullmatch(rb"(\d{14})(?:\.(\d{1,6}))?Z", parts[4].body)
    if digest is None or imprint.tag != OCTETS or found is None:
        raise Rejected("token")
    try:
        time = datetime.strptime(found[1].decode(), "%Y%m%d%H%M%S").replace(tzinfo=timezone.utc)
    except ValueError:
        raise Rejected("token") from None
    time += timedelta(microseconds=int((found[2] or b"0").ljust(6, b"0")))
    return Token(token, brought, time, imprint.body, digest)


class Authorities:
    """Who may stamp the time: the certificates that were pinned before."""

    def __init__(self, pinned: set[str], certificates: list[x509.Certificate], roots: bytes, qualified: bool) -> None:
        self.pinned = pinned | {fingerprint(item) for item in certificates}
        self.certificates = certificates
        self.roots = roots
        self.qualified = qualified
        self._known: dict[tuple[bytes, bytes], datetime] = {}

    def time_of(self, tsr: bytes, note: bytes) -> datetime:
        """When an authority that is trusted saw this note."""
        if (tsr, note) not in self._known:
            if not self.pinned and not self.roots:
                raise BadInput("no-authority")
            self._known[tsr, note] = self._checked(token_of(tsr), note)
        return self._known[tsr, note]

    def _checked(self, token: Token, note: bytes) -> datetime:
        if hashlib.new(token.digest, note).digest() != token.imprint:
            raise Rejected("other-note")
        if self.pinned and not self.certificates and not self.pinned & token.certificates:
            raise Rejected("authority", name="?")
        openssl = shutil.which("openssl")
        if openssl is None:
            raise BadInput("openssl")
        with tempfile.TemporaryDirectory() as folder:
            self._ask(openssl, Path(folder), token, note)
        return token.time

    def _ask(self, openssl: str, place: Path, token: Token, note: bytes) -> None:
        """First whose signature it is, then whether that certificate could stamp the time at that time."""
        given = place / "given.pem"
        (place / "token").write_bytes(token.der)
        (place / "note").write_bytes(note)
        given.write_bytes(b"".join(pem(item) for item in self.certificates))
        more = ["-certfile", str(given)] if self.certificates else []
        signature = ["cms", "-verify", "-binary", "-inform", "DER", "-noverify", "-in", "token", *more]
        run(openssl, [*signature, "-signer", "signer", "-out", "info"], place)
        signer = x509.load_pem_x509_certificate((place / "signer").read_bytes())
        if self.pinned and fingerprint(signer) not in self.pinned:
            raise Rejected("authority", name=signer.subject.rfc4514_string())
        (place / "trusted").write_bytes(self.roots or pem(signer))
        (place / "known").write_bytes(pem(signer))
        # Good when it was stamped, whatever has expired since.
        at = ["-attime", str(int(token.time.timestamp()))] + ([] if self.roots else ["-partial_chain"])
        stamp = ["ts", "-verify", "-data", "note", "-in", "token", "-token_in", "-CAfile", "trusted"]
        run(openssl, [*stamp, "-untrusted", "known", *at], place)


def run(openssl: str, arguments: list[str], place: Path) -> None:
    done = subprocess.run([openssl, *arguments], cwd=place, capture_output=True, timeout=60, check=False)
    if done.returncode:
        raise Rejected("stamp", said=done.stderr.decode(errors="replace").strip().rpartition("\n")[2])


def fingerprint(certificate: x509.Certificate) -> str:
    return certificate.fingerprint(hashes.SHA256()).hex()


def pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


# --- The bundle -------------------------------------------------------------------------------------------------------


@dataclass
class Event:
    """One event whose leaf, disclosures and seals hold.

    `sealed` tells whether it is in the log; without that it is only said.
    """

    place: int
    fields: dict[str, Any]
    redacted: int
    sealed: bool = False
    index: int = -1
    size: int = 0
    not_before: Optional[datetime] = None
    not_after: Optional[datetime] = None

    @property
    def kind(self) -> str:
        return str(self.fields.get("type", UNKNOWN))

    @property
    def time(self) -> Optional[datetime]:
        return moment_of(self.fields.get("time"))


@dataclass
class Log:
    """What several events say of one log must agree."""

    keys: list[LogKey]
    authorities: Authorities
    roots: dict[tuple[str, int], bytes] = field(default_factory=dict)
    places: dict[int, int] = field(default_factory=dict)
    stamped: int = 0

    def head(self, note: Any) -> Head:
        if not isinstance(note, str):
            raise Rejected("note")
        head = head_of(note, self.keys)
        if self.roots.setdefault((head.origin, head.size), head.root) != head.root:
            raise Rejected("fork", size=head.size)
        return head

    def time(self, tsr: Any, note: str) -> Optional[datetime]:
        return None if tsr is None else self.authorities.time_of(unbase64(tsr), note.encode())


def event_of(place: int, shown: Any, log: Log) -> Event:
    """One event of the bundle, checked from its disclosures up to the time stamps."""
    if not isinstance(shown, dict) or not isinstance(shown.get("leaf"), str):
        raise Rejected("event")
    leaf = parsed(shown["leaf"])
    if not isinstance(leaf, dict) or set(leaf) != {"sd", "v"} or leaf["v"] != LEAF or not texts(leaf["sd"]):
        raise Rejected("leaf")
    if leaf["sd"] != sorted(set(leaf["sd"])) or not texts(shown.get("disclosures")):
        raise Rejected("leaf")
    fields = disclosed(shown["disclosures"], set(leaf["sd"]))
    event = Event(place, fields, len(leaf["sd"]) - len(fields))
    if shown.get("tlog_proof") is not None:
        check_seal(event, leaf_hash(shown["leaf"].encode()), shown, log)
    return event


def texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


def disclosed(disclosures: list[str], digests: set[str]) -> dict[str, Any]:
    """What the disclosures say; each is in the leaf, and no field is said twice."""
    found: dict[str, Any] = {}
    for text in disclosures:
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        if digest not in digests:
            raise Rejected("disclosure")
        item = parsed(text)
        if not isinstance(item, list) or len(item) != 3 or not texts(item[:2]) or item[1] in found:
            raise Rejected("disclosure")
        found[item[1]] = item[2]
    return found


def check_seal(event: Event, leaf: bytes, shown: dict[str, Any], log: Log) -> None:
    index, path, note = proof_of(shown["tlog_proof"])
    head = log.head(note)
    if root_from_inclusion(index, head.size, leaf, path) != head.root:
        raise Rejected("inclusion")
    if log.places.setdefault(index, event.place) != event.place:
        raise Rejected("place")
    event.sealed, event.index, event.size = True, index, head.size
    event.not_after = log.time(shown.get("tsr"), note)
    log.stamped += event.not_after is not None
    before = shown.get("previous")
    if before is not None:
        if not isinstance(before, dict):
            raise Rejected("event")
        old = log.head(before.get("note"))
        check_consistency(old.size, old.root, head.size, head.root, hashes_of(before.get("consistency")))
        if old.size > index:
            raise Rejected("previous")
        event.not_before = log.time(before.get("tsr"), before["note"])
    check_times(event)


def check_times(event: Event) -> None:
    said, early, late = event.time, event.not_before, event.not_after
    if early and late and early > late:
        raise Rejected("order-of-stamps")
    if said and late and said > late + CLOCKS:
        raise Rejected("too-early", said=spelled(said), stamped=spelled(late))


# --- What the events say together -------------------------------------------------------------------------------------

STATES = {
    "subscription.requested": "requested",
    "subscription.confirmed": "given",
    "subscription.updated": "given",
    "subscription.restored": "given",
    "consent.withdrawn": "withdrawn",
    "subscription.expired": "expired",
    "subscription.refused": "refused",
    "subscription.bounced": "terminated",
    "contact.objected": "terminated",
    "confirmation.contradicted": "invalidated",
}
ASKS = ("subscription.requested", "confirmation.resent")
ANSWERS = ("subscription.confirmed", "subscription.updated")


@dataclass
class Act:
    """One consent: how it was asked, mailed and given."""

    given: Event
    asked: Optional[Event]
    mailed: Optional[Event]


@dataclass
class Result:
    """All that holds."""

    events: list[Event]
    acts: list[Act]
    blobs: dict[str, bytes]
    record: dict[str, Any]
    log: Log
    origin: str
    complete: bool

    @property
    def redacted(self) -> int:
        return sum(event.redacted for event in self.events)


def check(bundle: dict[str, Any], anchors: dict[str, Any], authorities: Authorities) -> Result:
    """Everything in the bundle that can be checked holds."""
    if not isinstance(anchors.get("keys"), list) or anchors.get("v") != ANCHORS:
        raise BadInput("anchors")
    log = Log([key_of(item) for item in anchors["keys"]], authorities)
    if isinstance(anchors.get("checkpoint"), str):
        log.head(anchors["checkpoint"])
    shown, record, blobs = bundle.get("events"), bundle.get("record"), bundle.get("blobs")
    if not isinstance(shown, list) or not isinstance(record, dict) or not isinstance(blobs, dict):
        raise BadInput("bundle", bundle=BUNDLE)
    events = []
    for place, item in enumerate(shown):
        try:
            events.append(event_of(place, item, log))
        except Rejected as problem:
            problem.values["place"] = place + 1
            raise
    if not any(event.sealed for event in events):
        raise Rejected("nothing-sealed")
    known = {name: unbase64(content) for name, content in blobs.items()}
    for name, content in known.items():
        if hashlib.sha256(content).hexdigest() != name:
            raise Rejected("blob", name=name[:12])
    check_record(record, events)
    complete = bundle.get("complete") is not False
    return Result(events, acts_of(events), known, record, log, str(anchors.get("origin")), complete)


def check_record(record: dict[str, Any], events: list[Event]) -> None:
    """What the record says of events is what the sealed events say."""
    claims = record.get("events")
    if not isinstance(claims, list):
        raise BadInput("bundle", bundle=BUNDLE)
    for claim in claims:
        place = claim.get("event") if isinstance(claim, dict) else None
        if not isinstance(place, int) or not 0 <= place < len(events):
            raise Rejected("record", name="event")
        check_claim(claim, events[place])
    subject = record.get("subject")
    address = comparable(subject.get("email")) if isinstance(subject, dict) else None
    said = {comparable(event.fields["email"]) for event in events if event.sealed and "email" in event.fields}
    if address and said and None not in said and address not in said:
        raise Rejected("record", name="subject.email")
    check_purposes(record.get("purposes"), events)


def check_claim(claim: dict[str, Any], event: Event) -> None:
    if not event.sealed:
        raise Rejected("unsealed", place=event.place + 1, kind=event.kind)
    for name in ("type", "time", "consent", "actor"):
        if name in event.fields and claim.get(name) != event.fields[name]:
            raise Rejected("record", name=name, place=event.place + 1)
    if "type" in event.fields and STATES.get(event.kind) != claim.get("state"):
        raise Rejected("record", name="state", place=event.place + 1)


def check_purposes(purposes: Any, events: list[Event]) -> None:
    """Each purpose has the words that its hash says and that were shown; what is given was given in a sealed act."""
    shown = {
        (text.get("purpose"), text.get("text"))
        for event in events
        for text in event.fields.get("consent_texts") or []
        if event.sealed
    }
    slugs = {slug for slug, _ in shown}
    for item in purposes if isinstance(purposes, list) else []:
        code, text = item.get("code"), str(item.get("text") or "")
        # On another basis than consent nothing was shown, so there are no words.
        if text and hashlib.sha256(text.encode()).hexdigest() != item.get("text_sha256"):
            raise Rejected("record", name="purposes.text_sha256")
        if code in slugs and (code, text) not in shown:
            raise Rejected("record", name=f"purposes.{code}.text")
        # What was redacted contradicts nothing.
        consent = item.get("consent")
        acts = [event for event in events if event.sealed and event.fields.get("consent", consent) == consent]
        if item.get("given_at") and item.get("legal_basis") == "gdpr-6-1-a" and not confirmed(acts, code):
            raise Rejected("record", name=f"purposes.{code}.given_at")


def confirmed(events: list[Event], code: Any) -> bool:
    kinds = {kind for kind, state in STATES.items() if state == "given"} | {"subscription.activated"}
    kinds.add(UNKNOWN)
    return any(event.kind in kinds and code in event.fields.get("purposes", [code]) for event in events)


def acts_of(events: list[Event]) -> list[Act]:
    """The consents that sealed events show, with the request and the mail that led to each."""
    sealed = [event for event in events if event.sealed]
    found = []
    for given in sealed:
        if "act" not in given.fields or given.kind not in ANSWERS:
            continue
        question = given.fields.get("confirmation")
        same = [event for event in sealed if question and event.fields.get("confirmation") == question]
        asked = next((event for event in same if event.kind in ASKS), None)
        mailed = next((event for event in same if event.kind == "mail.accepted"), None)
        if asked:
            check_act(asked, mailed, given)
        # Who had the link sent again asked before, by the form.
        consent = given.fields.get("consent")
        about = [event for event in sealed if consent and event.fields.get("consent") == consent]
        first = next((event for event in about if event.kind == "subscription.requested"), asked)
        found.append(Act(given, first, mailed))
    return found


def check_act(asked: Event, mailed: Optional[Event], given: Event) -> None:
    """Request, mail and answer are about the same thing, in this order."""
    if asked.time and given.time and asked.time > given.time:
        raise Rejected("order", place=given.place + 1)
    agree(asked, given, ("token_sha256", "subscription", "form", "form_version", "form_sha256"))
    if mailed:
        agree(asked, mailed, ("message_id",))
        if asked.time and mailed.time and asked.time > mailed.time:
            raise Rejected("order", place=mailed.place + 1)
        if not same_address(asked, mailed):
            raise Rejected("agree", name="recipient", place=mailed.place + 1)


def agree(first: Event, second: Event, names: tuple[str, ...]) -> None:
    for name in names:
        if name in first.fields and name in second.fields and first.fields[name] != second.fields[name]:
            raise Rejected("agree", name=name, place=second.place + 1)


def same_address(asked: Event, mailed: Event) -> bool:
    address, recipient = comparable(asked.fields.get("email")), comparable(mailed.fields.get("recipient"))
    return not address or not recipient or address == recipient


def comparable(address: Any) -> Optional[str]:
    """An address as two spellings of it share it; None where only a mail program knows whether two are one."""
    text = str(address or "").lower()
    return text if text.isascii() and '"' not in text else None


# --- What is told -----------------------------------------------------------------------------------------------------

TEXTS = {
    "en": {
        "base64": "a value in base64 is not spelled as it should be",
        "twice": "one name stands twice in the same JSON object",
        "json": "a part is not JSON",
        "shape": "a part is not built as the format says",
        "inclusion": "the proof does not lead from this event to the root that the checkpoint signs",
        "consistency": "the later checkpoint does not just add to the earlier one",
        "number": "a number is not spelled as it should be",
        "note": "a checkpoint is not spelled as it should be",
        "signature": "the checkpoint over {size} leaves is not signed by a key that the anchors name for it",
        "proof": "the proof is not spelled as it should be",
        "token": "the time stamp is not what RFC 3161 and this check allow",
        "other-note": "the time stamp is over something else than this checkpoint",
        "authority": "the time stamp is by an authority that is not pinned: {name}",
        "stamp": "openssl refuses the time stamp: {said}",
        "event": "an event is not what the format says",
        "leaf": "the leaf of the event is not what the format says",
        "disclosure": "a disclosed field is not in the leaf, or is there twice",
        "fork": "there are two checkpoints over {size} leaves with different roots: the log told two stories",
        "place": "two events claim the same place in the log",
        "previous": "the checkpoint before is not from before the event",
        "order-of-stamps": "the earlier checkpoint was stamped after the later one",
        "too-early": "the event says it happened at {said}, after it was sealed ({stamped})",
        "nothing-sealed": "no event in it is sealed, so it proves nothing",
        "blob": "the file {name}… is not what its hash says",
        "record": "the record says something else than the sealed event about {name}",
        "unsealed": "the record relies on {kind}, which is not sealed yet; ask for the file again in a few minutes",
        "order": "request, mail and act are not in this order",
        "agree": "request, mail and act do not agree about {name}",
        "bundle": "this is not a bundle ({bundle})",
        "anchors": "these are not the anchors of a log",
        "file": "{name} cannot be read: {why}",
        "no-authority": "the bundle has time stamps, and nothing says which authority to trust: give --tsa-cert or "
        "--tsa-root, or anchors that name it",
        "openssl": "the program openssl is needed to check time stamps",
        "rejected": "REJECTED",
        "at": "event {place}",
        "bad": "Cannot check",
        "accepted": "ACCEPTED: whatever can be checked in this file holds.",
        "proven": "What is proven: this was written down then, and has not been changed since",
        "log": "{sealed} of {all} events are in the log {origin}, under checkpoints that it signed.",
        "stamped": "{count} of them are under a checkpoint with a time stamp of a pinned authority.",
        "asked": "{time}: somebody entered {email} in the form {form}, version {version}, and ticked {boxes}.",
        "words": "The words shown: {text}",
        "form": "The whole form as it was shown is in this file and is the one that the event names.",
        "mailed": "{time}: the mail server {server} took the mail {ident} for {recipient}: {reply}",
        "mail": "The mail itself is in this file, byte by byte.",
        "blanked": "The mail itself is in this file; only the tokens of its links are blanked, as they still act.",
        "given": "{time}: {act}. With that the consent to {purposes} was given.",
        "button": "the button behind the mailed link was pressed",
        "code": "the code from the mail was typed",
        "other-act": "the question was answered with yes ({act})",
        "from": "From the address {ip} ({source}).",
        "before": "This was not in the log at {time}: so says the time stamp of the checkpoint before.",
        "after": "It was in the log by {time}: so says the time stamp of its checkpoint.",
        "late": "It was entered in the log long after the time that it states.",
        "later": "{time}: {what}.",
        "subscription.unsubscribed": "the subscription ended",
        "consent.withdrawn": "consent was withdrawn",
        "subscription.refused": "the owner of the mailbox said: that was not me",
        "subscription.expired": "nobody confirmed in time",
        "contact.objected": "the person objected",
        "confirmation.contradicted": "yes and no were said at once, so neither counts",
        "subscription.restored": "the ending was taken back",
        "subscription.bounced": "mails came back, so the subscription ended",
        "not": "What is not proven",
        "no-act": "That a consent was confirmed: no sealed event in this file says so.",
        "no-request": "Who asked for the mail, and in which words: the request is not in this file.",
        "no-mail": "That a mail server took the mail before: no such event is in this file.",
        "mail-after": "That the mail server took the mail before the act: it is on record only afterwards.",
        "no-bytes": "What the mail said: its bytes are not in this file.",
        "truth": "That the service wrote down what really happened. The seals show what was written by when.",
        "identity": "Who the person is. Double opt-in shows control of the mailbox, not identity.",
        "ip": "Who was behind an address of the internet: it is a weak hint, shared and reassigned.",
        "window": "What happened before sealing: until then, about a minute, the operator could have changed it.",
        "no-stamp": "When it was sealed: {count} events have no time stamp of somebody else, only the log's word.",
        "no-before": "That it was not entered earlier: no stamped checkpoint from before is in this file.",
        "unqualified": "Time stamps count as evidence (Art. 41(1) eIDAS); that they are qualified, with the "
        "presumption of Art. 41(2), is not shown.",
        "qualified": "The anchors call the authority qualified (Art. 41(2) eIDAS); that was not checked against the "
        "trusted list.",
        "redacted": "{count} fields were redacted; what they said cannot be restored, and nothing else is harmed.",
        "unsealed-events": "{count} events are not sealed yet and count for nothing.",
        "incomplete": "The file does not hold all events of this person.",
        "record-only": "What only the record says (such as parties and origin), without an event that says it too.",
    },
    "de": {
        "base64": "ein Wert in Base64 ist nicht so geschrieben, wie er sein muss",
        "twice": "ein Name steht zweimal im selben JSON-Objekt",
        "json": "ein Teil ist kein JSON",
        "shape": "ein Teil ist nicht so gebaut, wie das Format es sagt",
        "inclusion": "der Beweis führt nicht von diesem Ereignis zur Wurzel, die der Prüfpunkt unterschreibt",
        "consistency": "der spätere Prüfpunkt setzt den früheren nicht bloß fort",
        "number": "eine Zahl ist nicht so geschrieben, wie sie sein muss",
        "note": "ein Prüfpunkt ist nicht so geschrieben, wie er sein muss",
        "signature": "den Prüfpunkt über {size} Blätter hat kein Schlüssel unterschrieben, den die Anker dafür nennen",
        "proof": "der Beweis ist nicht so geschrieben, wie er sein muss",
        "token": "der Zeitstempel ist nicht so, wie RFC 3161 und diese Prüfung es erlauben",
        "other-note": "der Zeitstempel gilt etwas anderem als diesem Prüfpunkt",
        "authority": "der Zeitstempel stammt von einer Stelle, die nicht festgelegt ist: {name}",
        "stamp": "openssl lehnt den Zeitstempel ab: {said}",
        "event": "ein Ereignis hat nicht das vorgeschriebene Format",
        "leaf": "das Blatt des Ereignisses hat nicht das vorgeschriebene Format",
        "disclosure": "ein offengelegtes Feld steht nicht im Blatt, oder zweimal",
        "fork": "es gibt zwei Prüfpunkte über {size} Blätter mit zwei Wurzeln: das Protokoll erzählt zweierlei",
        "place": "zwei Ereignisse beanspruchen denselben Platz im Protokoll",
        "previous": "der Prüfpunkt davor ist nicht von vor dem Ereignis",
        "order-of-stamps": "der frühere Prüfpunkt wurde nach dem späteren gestempelt",
        "too-early": "das Ereignis will um {said} gewesen sein, nach seiner Versiegelung ({stamped})",
        "nothing-sealed": "kein Ereignis darin ist versiegelt, es beweist also nichts",
        "blob": "die Datei {name}… ist nicht, was ihr Hash sagt",
        "record": "der Datensatz sagt über {name} etwas anderes als das versiegelte Ereignis",
        "unsealed": "der Datensatz stützt sich auf {kind}, das noch nicht versiegelt ist; fordern Sie die Datei in "
        "einigen Minuten noch einmal an",
        "order": "Anfrage, Mail und Handlung stehen nicht in dieser Reihenfolge",
        "agree": "Anfrage, Mail und Handlung stimmen nicht überein bei {name}",
        "bundle": "das ist kein Bündel ({bundle})",
        "anchors": "das sind nicht die Anker eines Protokolls",
        "file": "{name} ist nicht lesbar: {why}",
        "no-authority": "das Bündel hat Zeitstempel, und nichts sagt, welcher Stelle zu trauen ist: geben Sie "
        "--tsa-cert oder --tsa-root an, oder Anker, die sie nennen",
        "openssl": "zum Prüfen der Zeitstempel wird das Programm openssl gebraucht",
        "rejected": "ABGELEHNT",
        "at": "Ereignis {place}",
        "bad": "Keine Prüfung möglich",
        "accepted": "ANGENOMMEN: Was sich an dieser Datei prüfen lässt, stimmt.",
        "proven": "Was bewiesen ist: Das wurde damals so aufgeschrieben und seither nicht geändert",
        "log": "{sealed} von {all} Ereignissen stehen im Protokoll {origin}, unter unterschriebenen Prüfpunkten.",
        "stamped": "{count} davon stehen unter einem Prüfpunkt mit dem Zeitstempel einer festgelegten Stelle.",
        "asked": "{time}: Jemand gab {email} in das Formular {form}, Version {version}, ein und kreuzte an: {boxes}.",
        "words": "Der gezeigte Wortlaut: {text}",
        "form": "Das ganze Formular, wie es gezeigt wurde, liegt bei und ist das, welches das Ereignis nennt.",
        "mailed": "{time}: Der Mailserver {server} nahm die Mail {ident} an {recipient} an: {reply}",
        "mail": "Die Mail selbst liegt bei, Byte für Byte.",
        "blanked": "Die Mail selbst liegt bei; nur die Schlüssel in ihren Links sind geschwärzt, weil sie noch wirken.",
        "given": "{time}: {act}. Damit wurde die Einwilligung erteilt: {purposes}.",
        "button": "der Knopf hinter dem Link aus der Mail wurde gedrückt",
        "code": "der Code aus der Mail wurde eingegeben",
        "other-act": "die Frage wurde mit Ja beantwortet ({act})",
        "from": "Von der Adresse {ip} ({source}).",
        "before": "Das stand um {time} noch nicht im Protokoll: so der Zeitstempel des Prüfpunkts davor.",
        "after": "Es stand spätestens um {time} im Protokoll: so der Zeitstempel seines Prüfpunkts.",
        "late": "Es kam erst lange nach der Zeit ins Protokoll, die es nennt.",
        "later": "{time}: {what}.",
        "subscription.unsubscribed": "das Abonnement endete",
        "consent.withdrawn": "die Einwilligung wurde widerrufen",
        "subscription.refused": "wem das Postfach gehört, sagte: das war ich nicht",
        "subscription.expired": "niemand bestätigte rechtzeitig",
        "contact.objected": "die Person widersprach",
        "confirmation.contradicted": "Ja und Nein kamen zugleich, also zählt keines",
        "subscription.restored": "das Ende wurde zurückgenommen",
        "subscription.bounced": "Mails kamen zurück, deshalb endete das Abonnement",
        "not": "Was nicht bewiesen ist",
        "no-act": "Dass eine Einwilligung bestätigt wurde: kein versiegeltes Ereignis in dieser Datei sagt es.",
        "no-request": "Wer die Mail anforderte und mit welchem Wortlaut: die Anfrage ist nicht in dieser Datei.",
        "no-mail": "Dass ein Mailserver die Mail vorher annahm: kein solches Ereignis ist in dieser Datei.",
        "mail-after": "Dass der Mailserver die Mail vor der Handlung annahm: es wurde erst danach festgehalten.",
        "no-bytes": "Was in der Mail stand: ihre Bytes sind nicht in dieser Datei.",
        "truth": "Dass der Dienst aufschrieb, was wirklich geschah. Die Siegel zeigen, was wann geschrieben stand.",
        "identity": "Wer die Person ist. Double-Opt-in zeigt die Verfügung über das Postfach, nicht die Identität.",
        "ip": "Wer hinter einer Internetadresse stand: sie ist ein schwacher Hinweis, geteilt und neu vergeben.",
        "window": "Was vor der Versiegelung geschah: bis dahin, etwa eine Minute, hätte der Betreiber ändern können.",
        "no-stamp": "Wann versiegelt wurde: {count} Ereignisse haben keinen fremden Zeitstempel.",
        "no-before": "Dass es nicht früher eingetragen wurde: ein gestempelter Prüfpunkt von davor fehlt.",
        "unqualified": "Zeitstempel sind als Beweis zulässig (Art. 41 Abs. 1 eIDAS); dass sie qualifiziert sind, mit "
        "der Vermutung des Art. 41 Abs. 2, ist nicht gezeigt.",
        "qualified": "Die Anker nennen die Stelle qualifiziert (Art. 41 Abs. 2 eIDAS); mit der Vertrauensliste wurde "
        "das nicht verglichen.",
        "redacted": "{count} Felder wurden gelöscht; ihr Inhalt ist nicht wiederherstellbar, alles andere bleibt heil.",
        "unsealed-events": "{count} Ereignisse sind noch nicht versiegelt und zählen nicht.",
        "incomplete": "Die Datei enthält nicht alle Ereignisse dieser Person.",
        "record-only": "Was nur der Datensatz sagt (etwa Beteiligte und Herkunft), ohne ein Ereignis dazu.",
    },
}


class Teller:
    """Says it all in one language."""

    def __init__(self, language: str) -> None:
        self._texts = TEXTS[language]

    def say(self, key: str, **values: Any) -> str:
        shown = {name: plain(value) for name, value in values.items()}
        return self._texts[key].format(**shown) if key in self._texts else key

    def problem(self, problem: Rejected) -> str:
        place = problem.values.get("place")
        where = f" ({self.say('at', place=place)})" if place else ""
        return f"{self.say('rejected')}{where}: {self.say(problem.key, **problem.values)}."

    def story(self, result: Result) -> Iterator[str]:
        yield self.say("accepted")
        yield ""
        yield self.say("proven")
        yield from self._bullets(self._proven(result))
        yield ""
        yield self.say("not")
        yield from self._bullets(self._open(result))

    @staticmethod
    def _bullets(lines: Iterable[str]) -> Iterator[str]:
        return (f"- {line}" for line in lines)

    def _proven(self, result: Result) -> Iterator[str]:
        sealed = [event for event in result.events if event.sealed]
        yield self.say("log", sealed=len(sealed), all=len(result.events), origin=result.origin)
        if result.log.stamped:
            yield self.say("stamped", count=result.log.stamped)
        for act in result.acts:
            yield from self._act(act, result)
        for event in sealed:
            if event.kind in STATES and event.kind in self._texts:
                yield self.say("later", time=when(event), what=self.say(event.kind))

    def _act(self, act: Act, result: Result) -> Iterator[str]:
        if act.asked:
            yield from self._asked(act.asked, result)
        if act.mailed:
            yield from self._mailed(act.mailed, result)
        fields = act.given.fields
        how = (
            self.say(fields["act"]) if fields["act"] in ("button", "code") else self.say("other-act", act=fields["act"])
        )
        yield self.say("given", time=when(act.given), act=how, purposes=listed(fields.get("purposes")))
        if "ip" in fields:
            yield self.say("from", ip=fields["ip"], source=fields.get("ip_source", "?"))
        yield from self._bracket(act.given)

    def _asked(self, asked: Event, result: Result) -> Iterator[str]:
        fields = asked.fields
        ticked = [box.get("purpose") for box in fields.get("boxes") or [] if box.get("submitted")]
        names = {"email": fields.get("email", "?"), "form": fields.get("form", "?")}
        yield self.say(
            "asked", time=when(asked), version=fields.get("form_version", "?"), boxes=listed(ticked), **names
        )
        if "ip" in fields:
            yield self.say("from", ip=fields["ip"], source=fields.get("ip_source", "?"))
        for text in fields.get("consent_texts") or []:
            if text.get("purpose") in ticked:
                yield self.say("words", text=text.get("text"))
        if fields.get("form_sha256") in result.blobs:
            yield self.say("form")
        yield from self._bracket(asked)

    def _mailed(self, mailed: Event, result: Result) -> Iterator[str]:
        fields = mailed.fields
        names = {name: fields.get(name, "?") for name in ("recipient",)}
        server, reply = fields.get("smtp_server", "?"), fields.get("smtp_reply", "?")
        ident = fields.get("message_id", "?")
        yield self.say("mailed", time=when(mailed), server=server, ident=ident, reply=reply, **names)
        if fields.get("mail_sha256") in result.blobs:
            yield self.say("mail")
        elif fields.get("mail_blanked_sha256") in result.blobs:
            yield self.say("blanked")

    def _bracket(self, event: Event) -> Iterator[str]:
        if event.not_before:
            yield self.say("before", time=spelled(event.not_before))
            if event.time and event.time < event.not_before - LATE:
                yield self.say("late")
        if event.not_after:
            yield self.say("after", time=spelled(event.not_after))

    def _open(self, result: Result) -> Iterator[str]:
        if not result.acts:
            yield self.say("no-act")
        for act in result.acts:
            yield from self._gaps(act, result)
        unstamped = [event for event in result.events if event.sealed and not event.not_after]
        if unstamped:
            yield self.say("no-stamp", count=len(unstamped))
        if result.log.stamped:
            yield self.say("qualified" if result.log.authorities.qualified else "unqualified")
        if result.redacted:
            yield self.say("redacted", count=result.redacted)
        waiting = sum(not event.sealed for event in result.events)
        if waiting:
            yield self.say("unsealed-events", count=waiting)
        if not result.complete:
            yield self.say("incomplete")
        yield from (self.say(key) for key in ("truth", "identity", "ip", "window", "record-only"))

    def _gaps(self, act: Act, result: Result) -> Iterator[str]:
        if act.asked is None:
            yield self.say("no-request")
        mailed = act.mailed
        if mailed is None:
            yield self.say("no-mail")
        else:
            if mailed.time and act.given.time and mailed.time > act.given.time:
                yield self.say("mail-after")
            if not {mailed.fields.get("mail_sha256"), mailed.fields.get("mail_blanked_sha256")} & set(result.blobs):
                yield self.say("no-bytes")
        if act.given.not_after and not act.given.not_before:
            yield self.say("no-before")


def when(event: Event) -> str:
    return spelled(event.time) if event.time else "?"


def listed(items: Any) -> str:
    return ", ".join(str(item) for item in items) if isinstance(items, list) and items else "?"


def plain(value: Any) -> Any:
    """One line, and nothing that a terminal would obey: what a bundle says is anybody's text."""
    return "".join(letter if letter.isprintable() else " " for letter in value) if isinstance(value, str) else value


# --- The command ------------------------------------------------------------------------------------------------------


def read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise BadInput("file", name=str(path), why=error.strerror) from None


def loaded(path: Path, form: str) -> dict[str, Any]:
    try:
        value = parsed(read(path).decode("utf-8"))
    except UnicodeDecodeError:
        raise Rejected("json") from None
    if not isinstance(value, dict) or value.get("v") != form:
        raise BadInput("bundle" if form == BUNDLE else "anchors", bundle=form)
    return value


def authorities_of(anchors: dict[str, Any], certificates: Optional[Path], roots: Optional[Path]) -> Authorities:
    """Who may stamp: what is given here; the anchors only if nothing is."""
    shown = [item for item in anchors.get("timestamp_authorities") or [] if isinstance(item, dict)]
    qualified = bool(shown) and all(item.get("qualified") is True for item in shown)
    try:
        given = x509.load_pem_x509_certificates(read(certificates)) if certificates else []
    except ValueError:
        raise BadInput("file", name=str(certificates), why="PEM?") from None
    pinned = set() if given else {str(item.get("sha256", "")).lower() for item in shown} - {""}
    return Authorities(pinned, given, read(roots) if roots else b"", qualified)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Checks the proof of a consent, offline.")
    parser.add_argument("bundle", type=Path, help="bundle.json")
    parser.add_argument("--anchors", type=Path, required=True, help="signup-evidence.json, kept from before")
    parser.add_argument("--tsa-cert", type=Path, help="PEM: who may stamp the time, instead of the anchors'")
    parser.add_argument("--tsa-root", type=Path, help="PEM: root (and intermediates) that issued them")
    parser.add_argument("--lang", choices=sorted(TEXTS), help="language of the answer")
    return parser.parse_args()


def language() -> str:
    return "de" if str(locale.getlocale()[0]).lower().startswith(("de", "german")) else "en"


def judged(given: argparse.Namespace, teller: Teller) -> tuple[int, str]:
    """The exit status, and what to say."""
    try:
        anchors = loaded(given.anchors, ANCHORS)
        authorities = authorities_of(anchors, given.tsa_cert, given.tsa_root)
        result = check(loaded(given.bundle, BUNDLE), anchors, authorities)
        return 0, "\n".join(teller.story(result))
    except Rejected as problem:
        return 1, teller.problem(problem)
    except BadInput as problem:
        return 2, f"{teller.say('bad')}: {teller.say(problem.key, **problem.values)}."
    except (AttributeError, LookupError, TypeError, ValueError, ArithmeticError, RecursionError):
        # Somebody else's file: a number where a text belongs is no reason to fall over.
        return 1, teller.problem(Rejected("shape"))


def main() -> int:
    given = arguments()
    # A terminal that knows no dash must not end the check.
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="replace")  # type: ignore[union-attr]
    status, text = judged(given, Teller(given.lang or language()))
    print(text, file=sys.stderr if status == 2 else sys.stdout)
    return status


if __name__ == "__main__":
    sys.exit(main())
