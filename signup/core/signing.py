"""Tokens, keyed hashes and sealed bytes. Nothing here knows a table."""

from __future__ import annotations

import hashlib
import hmac
import os
from base64 import urlsafe_b64decode
from binascii import b2a_base64
from contextlib import suppress
from datetime import datetime
from functools import lru_cache

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from itsdangerous import BadSignature, Signer

# 128 bits: nobody guesses one in the life of a token.
TOKEN_BYTES = 16
# AES-GCM's own nonce size.
NONCE_BYTES = 12
DATA_KEY_BYTES = 32
# A page answered sooner than this was not read by a person.
PAGE_MIN_AGE_SECONDS = 1.0
# A page left open over a weekend starts again, kindly.
PAGE_MAX_AGE_SECONDS = 24 * 3600.0


class _Signer(Signer):
    """A signer that derives each key of its purpose once, not for each token."""

    _derived: dict[str | bytes | None, bytes]

    def derive_key(self, secret_key: str | bytes | None = None) -> bytes:
        derived = self.__dict__.setdefault("_derived", {})
        if secret_key not in derived:
            derived[secret_key] = super().derive_key(secret_key)
        key: bytes = derived[secret_key]
        return key

    def get_signature(self, value: str | bytes) -> bytes:
        """As the library's own, without its objects: an export signs a link in every row."""
        content = value.encode() if isinstance(value, str) else value
        return b64url(hmac.digest(self.derive_key(self.secret_key), content, "sha256"))


class Keys:
    """What signs, hashes and seals. One object per process; keys never leave it.

    Args:
        secret_keys: oldest first; the last one signs, all verify.
        pepper: keys address hashes and derived link ids; it never rotates.
        data_key: wraps each person's own data key.
        former_data_keys: still open what they wrapped, and wrap nothing new.
    """

    def __init__(
        self, secret_keys: tuple[str, ...], pepper: bytes, data_key: bytes, former_data_keys: tuple[bytes, ...] = ()
    ) -> None:
        self._secret_keys = list(secret_keys)
        self._pepper = pepper
        self._wrap = AESGCM(data_key)
        self._former = [AESGCM(key) for key in former_data_keys]
        self._signers: dict[str, Signer] = {}

    def _signer(self, purpose: str) -> Signer:
        signer = self._signers.get(purpose)
        if signer is None:
            signer = _Signer(self._secret_keys, salt=purpose, digest_method=hashlib.sha256, key_derivation="hmac")
            self._signers[purpose] = signer
        return signer

    def token(self, purpose: str, ident: bytes) -> str:
        """The token that carries `ident` for one purpose; 66 characters for 16 bytes."""
        return self._signer(purpose).sign(b64url(ident)).decode()

    def open_token(self, purpose: str, token: str) -> bytes | None:
        """The id in `token`, or None when it was not signed by us for this purpose."""
        if len(token) > 120 or not token.isascii() or not all(map(_is_canonical, token.split("."))):
            return None
        try:
            return _unb64(self._signer(purpose).unsign(token))
        except (BadSignature, ValueError):
            return None

    def page_nonce(self, purpose: str, ident: bytes, now: datetime) -> str:
        """Proof that one of our pages about `ident` was rendered at `now`."""
        issued = int(now.timestamp() * 1000)
        return self._signer("page:" + purpose).sign(f"{issued}.{token_hash(ident)[:16].hex()}").decode()

    def page_age(self, purpose: str, ident: bytes, nonce: str, now: datetime) -> float | None:
        """Seconds since the page with `nonce` was rendered, or None when it is not ours or not about `ident`."""
        if len(nonce) > 200 or not nonce.isascii():
            return None
        try:
            issued, about = self._signer("page:" + purpose).unsign(nonce).decode().split(".")
        except (BadSignature, ValueError):
            return None
        if not hmac.compare_digest(about, token_hash(ident)[:16].hex()):
            return None
        return now.timestamp() - int(issued) / 1000

    def page_is_fresh(self, purpose: str, ident: bytes, nonce: str, now: datetime) -> bool:
        age = self.page_age(purpose, ident, nonce, now)
        return age is not None and PAGE_MIN_AGE_SECONDS <= age <= PAGE_MAX_AGE_SECONDS

    def derived_id(self, purpose: str, subject: str, epoch: int) -> bytes:
        """The id behind a link that must be derivable at any time; raising `epoch` revokes it."""
        return self.keyed_hash("link", f"{purpose}|{subject}|{epoch}")[:TOKEN_BYTES]

    def keyed_hash(self, purpose: str, text: str) -> bytes:
        """A 32-byte hash that only the holder of the pepper can compute."""
        return hmac.digest(self._pepper, f"{purpose}\x00{text}".encode(), "sha256")

    def secrets_of(self, purpose: str) -> list[bytes]:
        """The keys of one purpose for a library that signs by itself: the one that signs first, then former ones."""
        salt = f"secret:{purpose}".encode()
        return [hmac.digest(key.encode(), salt, "sha256") for key in reversed(self._secret_keys)]

    def new_data_key(self) -> tuple[bytes, bytes]:
        """A fresh data key: plain, to use now, and wrapped, to store."""
        plain = os.urandom(DATA_KEY_BYTES)
        return plain, self._sealed(self._wrap, plain)

    def unwrap(self, wrapped: bytes) -> bytes:
        return self.unseal_own(wrapped)

    def rewrapped(self, sealed: bytes) -> bytes | None:
        """What a former key sealed for the service, under the one in force; None when it is that already.

        Raises:
            ValueError: no key of ours opens it.
        """
        try:
            self._opened(self._wrap, sealed)
        except ValueError:
            return self._sealed(self._wrap, self.unseal_own(sealed))
        return None

    def seal(self, data_key: bytes, plain: bytes) -> bytes:
        """`plain` encrypted and authenticated under one person's data key."""
        return self._sealed(_cipher(data_key), plain)

    def unseal(self, data_key: bytes, sealed: bytes) -> bytes:
        return self._opened(_cipher(data_key), sealed)

    def seal_own(self, plain: bytes) -> bytes:
        """`plain` sealed for the service itself, such as an endpoint's secret."""
        return self._sealed(self._wrap, plain)

    def unseal_own(self, sealed: bytes) -> bytes:
        try:
            return self._opened(self._wrap, sealed)
        except ValueError:
            for former in self._former:
                with suppress(ValueError):
                    return self._opened(former, sealed)
            raise

    @staticmethod
    def _sealed(cipher: AESGCM, plain: bytes) -> bytes:
        nonce = os.urandom(NONCE_BYTES)
        return nonce + cipher.encrypt(nonce, plain, None)

    @staticmethod
    def _opened(cipher: AESGCM, sealed: bytes) -> bytes:
        try:
            return cipher.decrypt(sealed[:NONCE_BYTES], sealed[NONCE_BYTES:], None)
        except InvalidTag:
            raise ValueError("sealed bytes do not open with this key") from None


@lru_cache(maxsize=256)
def _cipher(data_key: bytes) -> AESGCM:
    return AESGCM(data_key)


def new_token_id() -> bytes:
    return os.urandom(TOKEN_BYTES)


def token_hash(ident: bytes) -> bytes:
    """What is stored of a token: useless to who reads the database."""
    return hashlib.sha256(ident).digest()


def _is_canonical(part: str) -> bool:
    """Base64 leaves some bits of its last character unused; a token has one spelling all the same."""
    try:
        return b64url(_unb64(part.encode())) == part.encode()
    except ValueError:
        return False


def b64url(data: bytes) -> bytes:
    """`data` as base64url without padding.

    Rule: RFC 4648 5 and 3.2.
    """
    return b2a_base64(data, newline=False).translate(_URL_SAFE).rstrip(b"=")


_URL_SAFE = bytes.maketrans(b"+/", b"-_")


def _unb64(text: bytes) -> bytes:
    return urlsafe_b64decode(text + b"=" * (-len(text) % 4))
