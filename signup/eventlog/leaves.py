"""Events as the audit sees them: each leaf hashed again, each field held against its digest."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from sqlalchemy import select

from signup.core.db import Session
from signup.core.signing import b64url
from signup.core.values import rfc3339
from signup.eventlog import merkle, tokens
from signup.eventlog.kinds import EventType
from signup.eventlog.models import Checkpoint, Disclosure, Event, LogTimestamp
from signup.eventlog.record import opened

KeysOf = Callable[[Session, Sequence[str]], dict[str, bytes]]


class Wrong(Exception):
    """A row is not what was sealed; says which."""


class Counts(Protocol):
    """Where it is counted what was seen."""

    events: int
    disclosures: int
    redacted: int
    unreadable: int


@dataclass(frozen=True)
class Leaf:
    """One event.

    Args:
        wrong: what does not fit in it; None when all does.
        fields: what an event about the log itself says; empty for any other.
    """

    index: int
    id: str
    hash: bytes
    wrong: str | None
    fields: dict[str, Any]


@dataclass
class Told:
    """What the log says of its own checkpoints and tokens, each by its hash."""

    checkpoints: dict[int, str] = field(default_factory=dict)
    stamps: list[tuple[int, str]] = field(default_factory=list)

    def note(self, leaf: Leaf) -> None:
        if leaf.fields:
            self.checkpoints[leaf.fields["log_size"]] = leaf.fields["note_sha256"]
            self.stamps += [(item["size"], item["sha256"]) for item in leaf.fields.get("timestamps") or ()]

    def check(self, session: Session) -> None:
        """What was told since the last time is there, unchanged.

        Raises:
            Wrong: it is not.
        """
        sizes = sorted({*self.checkpoints, *(size for size, _ in self.stamps)})
        kept = dict(session.execute(select(Checkpoint.size, Checkpoint.note).where(Checkpoint.size.in_(sizes))).all())
        for size, digest in self.checkpoints.items():
            if size not in kept:
                raise Wrong(f"checkpoint {size} is missing")
            if hashlib.sha256(kept[size].encode()).hexdigest() != digest:
                raise Wrong(f"checkpoint {size} is not the one that the log names")
        rows = session.execute(select(LogTimestamp.size, LogTimestamp.token).where(LogTimestamp.size.in_(sizes)))
        held = {(size, tokens.digest(bytes(token))) for size, token in rows}
        for size, digest in self.stamps:
            if (size, digest) not in held:
                raise Wrong(f"time stamp of checkpoint {size} is missing or is not the one that the log names")
        self.checkpoints.clear()
        self.stamps.clear()


def leaves(session: Session, start: int, end: int, keys_of: KeysOf, counts: Counts) -> Iterator[Leaf]:
    """The events of these leaves in their order, up to the first gap."""
    place = Event.leaf_index
    columns = (Event.id, Event.kind, Event.occurred_at, Event.contact_id, Event.leaf_index, Event.leaf)
    events = session.execute(select(*columns).where(place >= start, place < end).order_by(place)).all()
    found = session.execute(
        select(Disclosure.event_id, Disclosure.name, Disclosure.sealed, Disclosure.data)
        .join(Event, Event.id == Disclosure.event_id)
        .where(place >= start, place < end)
    )
    rows: dict[str, list[Any]] = {event.id: [] for event in events}
    for row in found:
        rows[row.event_id].append(row)
    keys = keys_of(session, sorted({event.contact_id for event in events if event.contact_id}))
    for index, event in enumerate(events, start=start):
        if event.leaf_index != index:
            return
        yield _leaf(session, event, rows[event.id], keys.get(event.contact_id or ""), counts)


def _leaf(session: Session, event: Any, rows: Sequence[Any], key: bytes | None, counts: Counts) -> Leaf:
    leaf, name = bytes(event.leaf), f"event {event.id} (leaf {event.leaf_index})"
    fields: dict[str, Any] = {}
    try:
        digests = set(json.loads(leaf)["sd"])
        for row in rows:
            if row.sealed and key is None:
                counts.unreadable += 1
            else:
                _open(session, row, key or b"", digests, fields)
        wrong = _differs(event.kind, event.occurred_at, fields)
        counts.disclosures += len(fields)
        counts.redacted += len(digests) - len(fields)
    except Wrong as found:
        wrong = str(found)
    except (ValueError, KeyError, TypeError) as error:
        wrong = f"it cannot be read: {type(error).__name__}"
    counts.events += 1
    about_log = fields if event.kind is EventType.LOG_SEALED else {}
    return Leaf(event.leaf_index, event.id, merkle.leaf_hash(leaf), f"{name}: {wrong}" if wrong else None, about_log)


def _open(session: Session, row: Any, key: bytes, digests: set[str], fields: dict[str, Any]) -> None:
    """The fields of one row are in `fields`.

    Raises:
        Wrong: one has no digest in the leaf.
    """
    try:
        disclosed = opened(session, key, sealed=row.sealed, data=bytes(row.data))
    except ValueError:
        raise Wrong(f"the disclosure {row.name} does not open with the person's key") from None
    for data in disclosed:
        if b64url(hashlib.sha256(data).digest()).decode() not in digests:
            raise Wrong(f"the disclosure {row.name} holds a field that is not in the leaf")
        _, name, value = json.loads(data)
        if name in fields:
            raise Wrong(f"the disclosure {row.name} says {name} twice")
        fields[name] = value


def _differs(kind: EventType, occurred_at: datetime, fields: dict[str, Any]) -> str | None:
    """What the columns say otherwise than the fields, which no erasure ever takes."""
    if "type" not in fields or "time" not in fields:
        return "the disclosure of its type and time is missing"
    if fields["type"] != kind.value:
        return f"it is kept as {kind.value} and was sealed as {fields['type']}"
    if fields["time"] != rfc3339(occurred_at):
        return f"it is kept with the time {rfc3339(occurred_at)} and was sealed with {fields['time']}"
    return None
