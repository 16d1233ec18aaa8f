"""What a backup consists of, and whether two files and a set of secrets belong together."""

from __future__ import annotations

import hmac
import os
from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from enum import Enum
from typing import Any

from msgspec import Struct
from sqlalchemy import Boolean, Column, Integer, LargeBinary

from signup.core.columns import UtcDateTime
from signup.core.config import Config
from signup.core.errors import Invalid
from signup.core.values import rfc3339

FORMAT = "signup.backup/1"
# Eight bytes tell two keys apart and give nothing of either away.
FINGERPRINT_BYTES = 8


class Kind(Enum):
    """The two files of a backup. Without `keys` nobody in `data` can be read."""

    DATA = "data"
    KEYS = "keys"


class Part(Struct):
    """One table in a backup.

    A line is a JSON list of its plain columns. With `sealed`, the owner and a cell follow: the values of the sealed
    columns as bytes under the owner's key, as a list if they are about nobody, or null if the key is lost.
    """

    table: str
    columns: dict[str, str]  # name to one of time, bytes, bool, int, text
    sealed: dict[str, str]
    rows: int = 0
    sha256: str = ""


class Manifest(Struct):
    """What a file says about itself; its last part."""

    format: str
    kind: Kind
    created_at: datetime
    software: str
    revision: str
    keys: dict[str, list[str]]  # the key inventory: setting to fingerprints, the one in force first
    parts: list[Part]
    last_seq: int = 0


# Tables that are not in the data file, and why.
LEFT_OUT = {
    "data_key": "goes into the keys file, or shredding would not hold",
    "erasure": "goes into the keys file, which is newer",
    "inbound_report": "reports of a month that are under nobody's own key; what they did is in the event log",
    "idempotency_key": "answers of one day that may show addresses and are under nobody's own key",
}
# Personal columns that are readable in the database. In the data file they are sealed under their owner's key.
SEALED: dict[str, tuple[str, ...]] = {
    "contact": ("email", "email_typed", "address_key", "locale", "origin", "fields"),
    "consent": ("origin",),
    "hold": ("reason",),
    "attempt": ("response_body",),
}
# Personal columns that the database holds sealed under their owner's key already.
SEALED_ALREADY = {
    ("disclosure", "data"),
    ("publication", "payload"),
    ("message", "sealed"),
    ("confirmation", "told"),
    ("address_change", "sealed"),
}
_BLANKS: dict[str, str] = {"email": "", "email_typed": "", "locale": "en", "origin": "{}", "fields": "{}", "reason": ""}


def file_name(kind: Kind, now: datetime) -> str:
    """`signup-20261123T091402125Z.data`: sorts by time, and both files of one moment have the same stem."""
    stamp = now.strftime("%Y%m%dT%H%M%S") + f"{now.microsecond // 1000:03d}Z"
    return f"signup-{stamp}.{kind.value}"


def blank(column: str) -> str | None:
    """What stands in a column that cannot be opened any more, until its row is forgotten."""
    # No two people have the same one, so neither have two blanks.
    return b64encode(os.urandom(32)).decode() if column == "address_key" else _BLANKS.get(column)


def columns_of(columns: Iterable[Column[Any]]) -> dict[str, str]:
    """The columns with the way each is written, which both databases share."""
    return {str(item.name): _way(item) for item in columns}


def _way(item: Column[Any]) -> str:
    if isinstance(item.type, UtcDateTime):
        return "time"
    if isinstance(item.type, LargeBinary):
        return "bytes"
    if isinstance(item.type, Boolean):
        return "bool"
    # Text, enumerations and JSON are text in both databases.
    return "int" if isinstance(item.type, Integer) else "text"


def inventory(config: Config) -> dict[str, list[str]]:
    """The secrets in force by fingerprint, the one that is used for new things first.

    A fingerprint is a hash that only who has the secret can compute, so it says nothing about it.
    """
    held: dict[str, list[bytes]] = {
        "SECRET_KEY": [key.encode() for key in reversed(config.secret_keys)],
        "SIGNUP_PEPPER": [config.pepper],
        "SIGNUP_DATA_KEY": [config.data_key, *config.data_key_fallbacks],
        "SIGNUP_EVIDENCE_KEY": [config.evidence_key] if config.evidence_key else [],
    }
    return {name: [_fingerprint(name, key) for key in keys] for name, keys in held.items()}


def _fingerprint(name: str, key: bytes) -> str:
    return hmac.digest(key, f"signup fingerprint of {name}".encode(), "sha256")[:FINGERPRINT_BYTES].hex()


def check_pair(data: Manifest, keys: Manifest, *, newest_revision: str) -> None:
    """The two files can be restored together by this program.

    Raises:
        Invalid: with the reason.
    """
    check_kind(data, Kind.DATA, newest_revision=newest_revision)
    check_kind(keys, Kind.KEYS, newest_revision=newest_revision)
    if keys.created_at < data.created_at:
        raise Invalid(
            f"The keys file is of {rfc3339(keys.created_at)}, before the data file of {rfc3339(data.created_at)}: who "
            "came, left or was erased in between would be wrong. Take the newest keys file."
        )


def check_kind(manifest: Manifest, kind: Kind, *, newest_revision: str) -> None:
    """The file is of this kind and not newer than this program.

    Raises:
        Invalid: with the reason.
    """
    if manifest.kind is not kind:
        raise Invalid(f"The file given as {kind.value} is a {manifest.kind.value} file.")
    if manifest.revision > newest_revision:
        raise Invalid(
            f"The {kind.value} file was made at migration {manifest.revision}, this program ends at "
            f"{newest_revision}: restore with the newer program."
        )


def check_age(keys: Manifest, newest_event: datetime | None) -> None:
    """The keys file knows everything that the database knows.

    Raises:
        Invalid: what happened after the keys file would be undone.
    """
    if newest_event is not None and newest_event > keys.created_at:
        raise Invalid(
            f"The keys file is of {rfc3339(keys.created_at)}, and the database goes on until {rfc3339(newest_event)}. "
            "Take a newer keys file."
        )


def check_secrets(manifests: Sequence[Manifest], ours: Mapping[str, Sequence[str]]) -> list[str]:
    """Which secrets differ without making the restore useless, in words.

    Raises:
        Invalid: without these secrets nobody could be read or found again; names them.
    """
    missing = {
        name
        for manifest in manifests
        for name in ("SIGNUP_PEPPER", "SIGNUP_DATA_KEY")
        if manifest.keys[name][0] not in ours[name]
    }
    if missing:
        raise Invalid(
            f"{' and '.join(sorted(missing))} {'are not the ones' if len(missing) > 1 else 'is not the one'} "
            "that the backup was made with "
            "(a former SIGNUP_DATA_KEY may stand in SIGNUP_DATA_KEY_FALLBACKS)."
        )
    return [
        f"{name} is not the one that the backup was made with: {loss}"
        for name, loss in (
            ("SECRET_KEY", "links in mails already sent do not work, unless it stands in SECRET_KEY_FALLBACKS"),
            ("SIGNUP_EVIDENCE_KEY", "checkpoints go on under another key"),
        )
        if any(manifest.keys[name] and manifest.keys[name][0] not in ours[name] for manifest in manifests)
    ]
