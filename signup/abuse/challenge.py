"""Proof of work: a puzzle that costs a browser half a second and a flood its speed.

The protocol is ALTCHA version 2. Its library knows no memory, so the nonce of each accepted proof is kept until the
challenge would have expired.
"""

from __future__ import annotations

import base64
import binascii
import json
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import altcha

from signup.core.signing import Keys

FIELD = "altcha"
ALGORITHM = "PBKDF2/SHA-256"
# Half a second in a browser of today, some two on an old phone.
COST = 1000
# While a form is under attack.
ATTACK_COST = 5000
# The answer lies between these; the average decides how long it takes.
LOWEST_COUNTER, HIGHEST_COUNTER = 500, 1500
VALID = timedelta(minutes=10)
# A proof has some 700 characters.
MAX_CHARACTERS = 2000


@dataclass(frozen=True)
class Proof:
    """A solved challenge of ours for one form, not yet spent."""

    nonce: str
    cost: int
    expires_at: datetime


def issue(keys: Keys, form_id: str, *, cost: int, now: datetime) -> dict[str, Any]:
    """A fresh challenge for one form, as JSON for the browser."""
    signing, solving = _secrets(keys)[0]
    counter = LOWEST_COUNTER + secrets.randbelow(HIGHEST_COUNTER - LOWEST_COUNTER + 1)
    made: dict[str, Any] = altcha.create_challenge(
        ALGORITHM,
        cost,
        counter=counter,
        expires_at=int((now + VALID).timestamp()),
        data={"form": form_id, "issued": int(now.timestamp())},
        hmac_secret=signing,
        hmac_key_secret=solving,
    ).to_dict()
    return made


def verify(keys: Keys, form_id: str, payload: str, *, now: datetime) -> Proof | None:
    """The proof in `payload`, or None unless it solves an unexpired challenge that we issued for this form.

    Whether it was spent before is for the row of its nonce to say.

    Rule: CVE-2025-68113, the times of a challenge are under its signature and are compared with our own clock.
    """
    parsed = _parsed(payload)
    if parsed is None:
        return None
    about, issued = (parsed.challenge.parameters.data or {}).get("form"), _issued(parsed)
    if about != form_id or issued is None or not issued <= now < issued + VALID:
        return None
    for signing, solving in _secrets(keys):
        if altcha.verify_solution(parsed, signing, hmac_key_secret=solving).verified:
            parameters = parsed.challenge.parameters
            return Proof(parameters.nonce, parameters.cost, issued + VALID)
    return None


def _secrets(keys: Keys) -> list[tuple[bytes, bytes]]:
    """What signs challenges and what signs their answers, newest first."""
    return list(zip(keys.secrets_of("challenge"), keys.secrets_of("challenge answer"), strict=True))


def _parsed(payload: str) -> altcha.Payload | None:
    if len(payload) > MAX_CHARACTERS:
        return None
    try:
        content = json.loads(base64.b64decode(payload, validate=True))
        parsed = altcha.Payload.from_dict(content)
    except (binascii.Error, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    parameters = parsed.challenge.parameters
    plain = isinstance(parameters.data, dict) and isinstance(parameters.nonce, str) and type(parameters.cost) is int
    return parsed if plain else None


def _issued(parsed: altcha.Payload) -> datetime | None:
    """When the challenge says it was made; true once its signature is checked."""
    seconds = (parsed.challenge.parameters.data or {}).get("issued")
    if type(seconds) is not int or not 0 <= seconds < 2**33:
        return None
    return datetime.fromtimestamp(seconds, UTC)
