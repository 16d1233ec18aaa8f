"""Signed notes, checkpoints and inclusion proofs as text that other programs read too. Pure; knows no table.

Rule: C2SP signed-note (Ed25519), tlog-checkpoint and tlog-proof.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

ED25519 = b"\x01"
KEY_ID_BYTES = 4
PROOF_HEADER = "c2sp.org/tlog-proof@v1"
# The line of a signature begins with an em dash.
SIGNATURE_MARK = "\u2014 "


class NoteInvalid(Exception):
    """The note is not what its key signed, or no note at all."""


@dataclass(frozen=True)
class Verifier:
    """Checks the notes of one log.

    Args:
        name: the origin of the log, such as `signup.example.org/evidence`.
        public_key: 32 bytes, Ed25519.
    """

    name: str
    public_key: bytes

    @property
    def key_id(self) -> bytes:
        return hashlib.sha256(self.name.encode() + b"\n" + ED25519 + self.public_key).digest()[:KEY_ID_BYTES]

    @property
    def vkey(self) -> str:
        """The key as others configure it: name, id and key."""
        return f"{self.name}+{self.key_id.hex()}+{_b64(ED25519 + self.public_key)}"

    def opened(self, note: str) -> str:
        """The text of a note that this key signed.

        Raises:
            NoteInvalid: it did not.
        """
        text, _, signatures = note.rpartition("\n\n")
        if not text:
            raise NoteInvalid("there is no signature below the text")
        for line in signatures.splitlines():
            name, _, packed = line.removeprefix(SIGNATURE_MARK).partition(" ")
            if line.startswith(SIGNATURE_MARK) and name == self.name and self._signed(f"{text}\n", packed):
                return f"{text}\n"
        raise NoteInvalid(f"no signature is by {self.name}+{self.key_id.hex()}")

    def _signed(self, text: str, packed: str) -> bool:
        try:
            content = base64.b64decode(packed, validate=True)
            if content[:KEY_ID_BYTES] != self.key_id:
                return False
            Ed25519PublicKey.from_public_bytes(self.public_key).verify(content[KEY_ID_BYTES:], text.encode())
        except (ValueError, InvalidSignature):
            return False
        return True


class Signer:
    """Signs the notes of one log.

    Args:
        seed: 32 bytes that are the private key; they live outside the database.
    """

    def __init__(self, name: str, seed: bytes) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.verifier = Verifier(name, public_key_of(seed))

    def sign(self, text: str) -> str:
        """The note: `text`, which ends with a line feed, and the signature below it."""
        packed = _b64(self.verifier.key_id + self._key.sign(text.encode()))
        return f"{text}\n{SIGNATURE_MARK}{self.verifier.name} {packed}\n"


def public_key_of(seed: bytes) -> bytes:
    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()


@dataclass(frozen=True)
class Head:
    """What a checkpoint says of the log."""

    origin: str
    size: int
    root: bytes

    @property
    def text(self) -> str:
        return f"{self.origin}\n{self.size}\n{_b64(self.root)}\n"


def head_of(note: str, verifier: Verifier) -> Head:
    """What a checkpoint says, when its own log signed it.

    Raises:
        NoteInvalid: it did not, or the text is no checkpoint.
    """
    lines = verifier.opened(note).split("\n")
    try:
        head = Head(lines[0], int(lines[1]), base64.b64decode(lines[2], validate=True))
    except (IndexError, ValueError):
        raise NoteInvalid("the signed text is no checkpoint") from None
    if head.origin != verifier.name or not verifier.opened(note).startswith(head.text):
        raise NoteInvalid("the checkpoint is of another log or not spelled as it should be")
    return head


def proof_text(index: int, path: Sequence[bytes], checkpoint: str) -> str:
    """Proof that the leaf `index` is in the log of `checkpoint`; a file of this ends with `.tlog-proof`."""
    hashes = "".join(f"{_b64(item)}\n" for item in path)
    return f"{PROOF_HEADER}\nindex {index}\n{hashes}\n{checkpoint}"


def _b64(content: bytes) -> str:
    return base64.b64encode(content).decode()
