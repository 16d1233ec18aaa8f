"""Sources: one event, poster or stand whose link we signed, so that a crowd behind it is not taken for a flood."""

from __future__ import annotations

import hmac
import re

from signup.core.signing import Keys, b64url

FIELD = "src"
# Readable in a link and in a table of sources.
NAME = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,38}[a-z0-9])?")
# 96 bits: a code on a poster stays small, and nobody guesses one.
SIGNATURE_BYTES = 12


def mint(keys: Keys, form_id: str, name: str) -> str:
    """The value of `src` that stands for this source of this form."""
    return f"{name}.{_signature(keys.secrets_of('source')[0], form_id, name)}"


def name_of(keys: Keys, form_id: str, value: str) -> str | None:
    """The source that `value` stands for, or None when we did not sign it for this form."""
    name, _, signature = value.partition(".")
    if not NAME.fullmatch(name) or not signature.isascii():
        return None
    known = (_signature(secret, form_id, name) for secret in keys.secrets_of("source"))
    return name if any(hmac.compare_digest(signature, own) for own in known) else None


def _signature(secret: bytes, form_id: str, name: str) -> str:
    return b64url(hmac.digest(secret, f"{form_id}|{name}".encode(), "sha256")[:SIGNATURE_BYTES]).decode()
