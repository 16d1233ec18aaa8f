"""A bundle as files of the usual kinds, for people and for programs of others."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Iterator
from typing import Any

from signup.evidence.bundle import Bundle, SealedEvent, encoded

MAIL_FIELDS = ("mail_sha256", "mail_blanked_sha256")


def of_bundle(bundle: Bundle) -> dict[str, bytes]:
    """The files by their names: the bundle itself, mails, forms, and each event's leaf, proof and time stamp."""
    files = {"bundle.json": encoded(bundle)}
    files |= _numbered("confirmation", "eml", _named(bundle, MAIL_FIELDS))
    pages = [json.loads(content)["html"].encode() for content in _named(bundle, ("form_sha256",))]
    files |= _numbered("form", "html", pages)
    for place, event in enumerate(bundle.events, start=1):
        stem = f"{place:04d}-{_fields(event).get('type', 'event')}"
        files |= {f"{stem}.{ending}": content for ending, content in _seal(event)}
    return files


def labels(bundle: Bundle) -> dict[str, str]:
    """What the forms call their purposes, by their codes; the newest form wins."""
    forms = [json.loads(content)["definition"] for content in _named(bundle, ("form_sha256",))]
    return {item["slug"]: item["label"] for form in forms for item in form["purposes"]}


def _seal(event: SealedEvent) -> Iterator[tuple[str, bytes]]:
    yield "leaf", event.leaf.encode()
    if event.tlog_proof is not None:
        yield "tlog-proof", event.tlog_proof.encode()
    if event.tsr is not None:
        yield "tsr", b64decode(event.tsr)


def _fields(event: SealedEvent) -> dict[str, Any]:
    return {name: value for _, name, value in map(json.loads, event.disclosures)}


def _named(bundle: Bundle, names: tuple[str, ...]) -> list[bytes]:
    """The blobs that events name in these fields, in the order of the events, each once."""
    wanted = [_fields(event).get(name) for event in bundle.events for name in names]
    return [b64decode(bundle.blobs[sha256]) for sha256 in dict.fromkeys(wanted) if sha256 in bundle.blobs]


def _numbered(stem: str, ending: str, contents: list[bytes]) -> dict[str, bytes]:
    """`stem.ending`, and from the second on with a number."""
    names = [f"{stem}.{ending}", *(f"{stem}-{number}.{ending}" for number in range(2, len(contents) + 1))]
    return dict(zip(names, contents, strict=False))
