"""Signatures that let a mail server see that a mail is the controller's own, and unchanged.

Rule: RFC 6376, RFC 8463, RFC 8301; RFC 8058 4: both unsubscribe headers are covered when they are there.
"""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

ALGORITHMS = ("rsa", "ed25519")
# RFC 8301 3.2: at least 1024, and 2048 still fits into what name servers carry.
RSA_BITS = 2048
RSA_EXPONENT = 65537
SELECTOR = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
# Everything that a reader sees or a program acts on.
COVERED = (
    "From",
    "Reply-To",
    "To",
    "Subject",
    "Date",
    "Message-ID",
    "MIME-Version",
    "Content-Type",
    "Auto-Submitted",
    "List-Unsubscribe",
    "List-Unsubscribe-Post",
)
# Named once more than they are there: a second one, added on the way, breaks the signature.
SEALED_AGAINST_ANOTHER = ("From", "Reply-To", "Subject", "Date", "To", "Content-Type")
# A string in a TXT record has at most 255 bytes.
TXT_BYTES = 255
_BLANKS = re.compile(rb"[ \t]+")
_FOLD = re.compile(rb"\r\n(?=[ \t])")


@dataclass(frozen=True)
class SigningKey:
    """A key that is ready to sign."""

    domain: str
    selector: str
    private: rsa.RSAPrivateKey | Ed25519PrivateKey

    @property
    def algorithm(self) -> str:
        return "rsa" if isinstance(self.private, rsa.RSAPrivateKey) else "ed25519"


def generate(domain: str, selector: str, algorithm: str) -> SigningKey:
    """A new key of this kind."""
    if algorithm == "rsa":
        return SigningKey(domain, selector, rsa.generate_private_key(RSA_EXPONENT, RSA_BITS))
    return SigningKey(domain, selector, Ed25519PrivateKey.generate())


def saved(key: SigningKey) -> bytes:
    """The private key as bytes, to be sealed at once."""
    form, coding = serialization.PrivateFormat.PKCS8, serialization.Encoding.DER
    return key.private.private_bytes(coding, form, serialization.NoEncryption())


def loaded(domain: str, selector: str, content: bytes) -> SigningKey:
    """What `saved` returned, as a key again."""
    private = serialization.load_der_private_key(content, None)
    assert isinstance(private, rsa.RSAPrivateKey | Ed25519PrivateKey)  # noqa: S101 - we make no others
    return SigningKey(domain, selector, private)


def record_name(key: SigningKey) -> str:
    """Where the public key is looked up."""
    return f"{key.selector}._domainkey.{key.domain}"


def record_text(key: SigningKey) -> str:
    """The TXT record that publishes the public key.

    Rule: RFC 6376 3.6.1; RFC 8463 4 for Ed25519, whose key stands there without a wrapping.
    """
    public = key.private.public_key()
    if isinstance(key.private, rsa.RSAPrivateKey):
        content = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    else:
        content = public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    return f"v=DKIM1; k={key.algorithm}; p={b64encode(content).decode()}"


def record_strings(text: str) -> list[str]:
    """The record in pieces that a zone file takes."""
    return [text[start : start + TXT_BYTES] for start in range(0, len(text), TXT_BYTES)]


def signed(raw: bytes, key: SigningKey, *, now: datetime) -> bytes:
    """The same mail with its signature in front; nothing else of it changes.

    Args:
        raw: a whole mail with CR LF line ends.

    Rule: RFC 6376 3.4.2 and 3.4.4, relaxed: what relays do to blanks does no harm.
    """
    head, _, body = raw.partition(b"\r\n\r\n")
    fields = [_split(line) for line in _unfolded(head)]
    covered = _covered(fields)
    value = (
        f"v=1; a={key.algorithm}-sha256; c=relaxed/relaxed;\r\n\td={key.domain}; s={key.selector};\r\n"
        f"\tt={int(now.timestamp())};\r\n\th={_folded_names(covered)};\r\n"
        f"\tbh={b64encode(hashlib.sha256(relaxed_body(body)).digest()).decode()};\r\n\tb="
    )
    content = _relaxed_headers(fields, covered) + _relaxed(b"dkim-signature", value.encode()).removesuffix(b"\r\n")
    return f"DKIM-Signature: {value}{_folded(_signature(key, content))}\r\n".encode() + raw


def _signature(key: SigningKey, content: bytes) -> str:
    if isinstance(key.private, rsa.RSAPrivateKey):
        return b64encode(key.private.sign(content, padding.PKCS1v15(), hashes.SHA256())).decode()
    # RFC 8463 3: what is signed is the hash.
    return b64encode(key.private.sign(hashlib.sha256(content).digest())).decode()


def _unfolded(head: bytes) -> list[bytes]:
    return _FOLD.sub(b"", head).split(b"\r\n")


def _split(line: bytes) -> tuple[bytes, bytes]:
    name, _, value = line.partition(b":")
    return name.strip().lower(), value


def _covered(fields: Sequence[tuple[bytes, bytes]]) -> list[str]:
    there = {name for name, _ in fields}
    names = [name for name in COVERED if name.lower().encode() in there]
    return names + [name for name in SEALED_AGAINST_ANOTHER if name in names]


def _relaxed_headers(fields: Sequence[tuple[bytes, bytes]], covered: Sequence[str]) -> bytes:
    # We write each header once, so the last of a name is the only one; a second mention stands for none.
    found, said = dict(fields), set[str]()
    content = b""
    for name in covered:
        if name not in said:
            content += _relaxed(name.lower().encode(), found[name.lower().encode()])
        said.add(name)
    return content


def _relaxed(name: bytes, value: bytes) -> bytes:
    return name + b":" + _BLANKS.sub(b" ", _FOLD.sub(b"", value)).strip(b" \t") + b"\r\n"


def relaxed_body(body: bytes) -> bytes:
    """`body` as it is hashed: blanks at line ends and empty lines at the end do not count."""
    lines = [_BLANKS.sub(b" ", line).rstrip(b" ") for line in body.split(b"\r\n")]
    while lines and not lines[-1]:
        lines.pop()
    return b"".join(line + b"\r\n" for line in lines)


def _folded_names(names: Sequence[str]) -> str:
    return ":\r\n\t".join(":".join(names[start : start + 4]) for start in range(0, len(names), 4))


def _folded(text: str) -> str:
    return "\r\n\t".join(text[start : start + 70] for start in range(0, len(text), 70))
