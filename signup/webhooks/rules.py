"""Webhook decisions without database and network: when to try again, how to sign, what a secret is."""

from __future__ import annotations

import base64
import binascii
import re
import secrets as random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from enum import Enum

from standardwebhooks import Webhook

# Seconds from one attempt to the next; the first is made at once. Standard Webhooks' own example: a receiver
# that is down over a weekend (75 h 35 min in all) loses nothing.
SCHEDULE_SECONDS = (0, 5, 300, 1800, 7200, 18000, 36000, 50400, 72000, 86400)

# Keeps the deliveries that one outage made fail from all coming back in the same second.
JITTER_SHARE = 0.2

# Longer than this a receiver may not push us away: it would outlive the schedule.
MAX_RETRY_AFTER_SECONDS = 86400

# Standard Webhooks: keys of 24 to 64 bytes.
MIN_SECRET_BYTES = 24
MAX_SECRET_BYTES = 64
NEW_SECRET_BYTES = 32
SECRET_PREFIX = "whsec_"  # noqa: S105 - the public prefix, not a secret

_MESSAGE_ID = re.compile(r"[A-Za-z0-9_-]{1,255}")
_STATUS_GONE = 410
_STATUSES_THAT_MAY_DELAY = (429, 503)


class Outcome(Enum):
    """What becomes of a delivery after an attempt."""

    DELIVERED = "delivered"
    RETRY = "retry"
    GONE = "gone"
    DEAD = "dead"


@dataclass(frozen=True)
class Verdict:
    """The outcome of an attempt; `retry_at` is set exactly when the outcome is a retry."""

    outcome: Outcome
    retry_at: datetime | None = None


def classify(
    status: int | None,
    retry_after: str | None,
    attempt: int,
    *,
    now: datetime,
    jitter: float,
    schedule: Sequence[int] = SCHEDULE_SECONDS,
) -> Verdict:
    """Says what becomes of a delivery after its attempt number `attempt`.

    Args:
        status: the answer's HTTP status; None if there was no answer.
        retry_after: the header's raw value, heeded on 429 and 503 only.
        attempt: how many attempts were made, this one included; from 1.
        now: when the attempt ended, aware UTC.
        jitter: from -1 to 1, drawn by the caller.
        schedule: seconds before each attempt, the first one included.

    Raises:
        ValueError: attempt or jitter out of range, or `now` without a zone.

    Rule: Standard Webhooks 1.0 "deliverability"; RFC 9110 section 10.2.3 (Retry-After is the least wait).
    """
    if attempt < 1 or not -1 <= jitter <= 1 or now.tzinfo is None:
        raise ValueError("attempt counts from 1, jitter lies within -1 and 1, now is aware")
    if status is not None and 200 <= status < 300:
        return Verdict(Outcome.DELIVERED)
    if status == _STATUS_GONE:
        return Verdict(Outcome.GONE)
    if attempt >= len(schedule):
        return Verdict(Outcome.DEAD)
    wait = timedelta(seconds=schedule[attempt] * (1 + JITTER_SHARE * jitter))
    if status in _STATUSES_THAT_MAY_DELAY:
        # Never sooner than scheduled: "Retry-After: 0" would use up every attempt within a second, and lose the event.
        wait = max(wait, _asked_wait(retry_after, now))
    return Verdict(Outcome.RETRY, _to_milliseconds(now.astimezone(UTC) + wait))


def new_secret() -> str:
    """A fresh signing secret of 32 random bytes in the form that receivers paste."""
    return SECRET_PREFIX + base64.b64encode(random.token_bytes(NEW_SECRET_BYTES)).decode()


def parse_secret(text: str) -> bytes:
    """The key inside a `whsec_` secret.

    Raises:
        ValueError: other prefix, not Base64, or not 24 to 64 bytes. The message does not repeat the secret.

    Rule: Standard Webhooks 1.0 "signature scheme".
    """
    encoded = text.removeprefix(SECRET_PREFIX)
    if encoded == text:
        raise ValueError(f"a signing secret starts with {SECRET_PREFIX}")
    try:
        # Receivers' tools print it with and without padding.
        key = base64.b64decode(encoded.rstrip("=") + "=" * (-len(encoded.rstrip("=")) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("the signing secret is not Base64") from None
    if not MIN_SECRET_BYTES <= len(key) <= MAX_SECRET_BYTES:
        raise ValueError(f"a signing secret holds {MIN_SECRET_BYTES} to {MAX_SECRET_BYTES} bytes")
    return key


def sign(secret: str | Iterable[str], message_id: str, at: datetime, body: bytes) -> dict[str, str]:
    """The three headers with which a receiver can verify exactly these bytes.

    Args:
        secret: one `whsec_` secret, or several while a rotation lasts: then one signature for each.
        message_id: the same on every attempt of one event; letters, digits, `_` and `-`.
        at: when this attempt is made, aware.
        body: the bytes that will be sent, UTF-8.

    Raises:
        ValueError: no or a bad secret, an id that could be mistaken for two fields, a naive time, not UTF-8.

    Rule: Standard Webhooks 1.0 "signature scheme": `{id}.{timestamp}.{body}`.
    """
    if not _MESSAGE_ID.fullmatch(message_id):
        raise ValueError("a message id holds letters, digits, _ and - only")
    if at.tzinfo is None:
        raise ValueError("the time of an attempt must be aware")
    keys = [parse_secret(text) for text in ([secret] if isinstance(secret, str) else secret)]
    if not keys:
        raise ValueError("at least one secret is needed")
    # The library replaces the zone instead of converting: any other zone would give a wrong signature.
    moment = at.astimezone(UTC)
    text = body.decode("utf-8")
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(moment.timestamp())),
        "webhook-signature": " ".join(Webhook(key).sign(message_id, moment, text) for key in keys),
    }


def _asked_wait(retry_after: str | None, now: datetime) -> timedelta:
    """How long the receiver asked us to wait, at most a day; nothing if it did not ask in a readable way."""
    value = (retry_after or "").strip()
    seconds = 0.0
    if value.isascii() and value.isdigit():
        # Long numbers are cut first: int() of thousands of digits is slow, then an error.
        seconds = float(value[:12])
    else:
        try:
            asked = parsedate_to_datetime(value)
        except (ValueError, OverflowError, IndexError, TypeError):
            return timedelta()
        # HTTP dates are always GMT, whatever a sloppy sender leaves out.
        seconds = ((asked if asked.tzinfo else asked.replace(tzinfo=UTC)) - now).total_seconds()
    return timedelta(seconds=min(max(seconds, 0), MAX_RETRY_AFTER_SECONDS))


def _to_milliseconds(moment: datetime) -> datetime:
    return moment.replace(microsecond=moment.microsecond // 1000 * 1000)
