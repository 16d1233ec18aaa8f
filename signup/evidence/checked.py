"""What of a bundle holds when it is printed: digests, paths, signatures and time stamps, worked out again.

Nobody has to believe this: the verifier works it out without us. But nothing is printed as sealed that is not.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache

from signup.core.evidence import TsaConfig
from signup.eventlog import merkle, notes, paths, tokens
from signup.evidence.anchors import Anchors
from signup.evidence.bundle import Bundle, SealedEvent
from signup.evidence.seals import Previous

VKEY_PARTS = 3


class NotProven(Exception):
    """Something in the bundle contradicts its proof. The message says what."""


@dataclass(frozen=True)
class Place:
    """An event's place in the log, as far as it was worked out again.

    Args:
        stamped_at: when an authority had seen the checkpoint; None without a time stamp that could be checked here.
        after: the same of the checkpoint before, which does not hold the event yet.
    """

    index: int
    size: int
    origin: str
    root: str
    vkey: str
    stamped_at: datetime | None
    after: datetime | None
    has_token: bool


class Checker:
    """Checks events against the keys of the log and the authority whose certificate is pinned."""

    def __init__(self, anchors: Anchors, tsa: TsaConfig | None) -> None:
        self._anchors = anchors
        self._tsa = tsa
        # Many events stand under one checkpoint.
        self._stamp = lru_cache(maxsize=None)(self._stamped_at)
        self._head = lru_cache(maxsize=None)(self._signed_head)

    def place(self, event: SealedEvent) -> Place | None:
        """Where the event stands in the log; None while it waits for its place.

        Raises:
            NotProven: what it discloses, its leaf and its proof do not fit together.

        Rule: RFC 9162 2.1.3.2; C2SP tlog-proof and signed-note.
        """
        _check_disclosures(event)
        if event.tlog_proof is None:
            return None
        index, path, note = _parts(event.tlog_proof)
        head, vkey = self._head(note)
        leaf = merkle.leaf_hash(event.leaf.encode())
        if paths.inclusion_root(leaf, index, head.size, path) != head.root:
            raise NotProven("its path does not lead to the root that was signed")
        after = self._after(event.previous, index, head) if event.previous else None
        stamped_at = self._stamp(note, event.tsr)
        root = base64.b64encode(head.root).decode()
        return Place(index, head.size, head.origin, root, vkey, stamped_at, after, event.tsr is not None)

    def _after(self, before: Previous, index: int, head: notes.Head) -> datetime | None:
        """When the checkpoint before was stamped, of which the event's own only adds to what it holds."""
        old, _ = self._head(before.note)
        path = [base64.b64decode(item) for item in before.consistency]
        if old.size > index or paths.consistency_roots(old.root, old.size, head.size, path) != (old.root, head.root):
            raise NotProven("its checkpoint does not go on from the one before")
        return self._stamp(before.note, before.tsr)

    def _signed_head(self, note: str) -> tuple[notes.Head, str]:
        for key in self._anchors.keys:
            try:
                head = notes.head_of(note, verifier_of(key.vkey))
            except notes.NoteInvalid:
                continue
            if key.first_size < head.size and (key.last_size is None or head.size <= key.last_size):
                return head, key.vkey
        raise NotProven("no key of this log signed its checkpoint")

    def _stamped_at(self, note: str, tsr: str | None) -> datetime | None:
        if tsr is None or self._tsa is None:
            return None
        try:
            return tokens.checked(self._tsa, base64.b64decode(tsr), note.encode()).stamped_at
        except tokens.TokenInvalid:
            return None


def check_blobs(bundle: Bundle) -> None:
    """Every file in the bundle is what its name says.

    Raises:
        NotProven: one is not.
    """
    for sha256, content in bundle.blobs.items():
        if hashlib.sha256(base64.b64decode(content)).hexdigest() != sha256:
            raise NotProven(f"the file {sha256} is not what its hash says")


def verifier_of(vkey: str) -> notes.Verifier:
    """The key that a line `name+id+key` stands for."""
    name, _, packed = vkey.split("+", VKEY_PARTS - 1)
    return notes.Verifier(name, base64.b64decode(packed)[1:])


def _check_disclosures(event: SealedEvent) -> None:
    digests = set(json.loads(event.leaf)["sd"])
    for disclosure in event.disclosures:
        digest = base64.urlsafe_b64encode(hashlib.sha256(disclosure.encode()).digest()).decode().rstrip("=")
        if digest not in digests:
            raise NotProven("something that it discloses is not in its leaf")


def _parts(proof: str) -> tuple[int, list[bytes], str]:
    """Index, path and checkpoint of a proof."""
    lines, _, note = proof.partition("\n\n")
    header, index, *path = lines.split("\n")
    if header != notes.PROOF_HEADER:
        raise NotProven("its proof is of no kind that is known here")
    return int(index.removeprefix("index ")), [base64.b64decode(item) for item in path], note
