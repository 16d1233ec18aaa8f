"""The only writer of the event log, and the only remover of what its events disclose."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import delete, select, update

from signup.core.db import Session, affected, upsert
from signup.core.signing import b64url
from signup.core.values import SYSTEM, Actor, ClientInfo, new_id, rfc3339
from signup.eventlog.kinds import FIELDS, SEALED_CLASSES, EventType, FieldClass
from signup.eventlog.models import Disclosure, Event, LinkHits, Publication

# More than 128 bits of salt a field: the digest in the leaf says nothing about the value. Three bytes are four letters.
SALT_BYTES = 18
SALT_LETTERS = 24
LEAF_FORMAT = "doi.event/1"
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class Subject:
    """The person an event is about, with the key that seals what we keep about them."""

    contact_id: str
    data_key: bytes


@dataclass(frozen=True)
class Published:
    """A publication on its way out: what subscribers inside the same commit get to see."""

    id: str
    controller_id: str
    type: str
    created_at: datetime


Subscriber = Callable[[Session, Published], None]
_subscribers: list[Subscriber] = []


def subscribe(subscriber: Subscriber) -> None:
    """From now on `subscriber` runs in the commit of every publication. Called once, by the wiring."""
    if subscriber not in _subscribers:
        _subscribers.append(subscriber)


def record(
    session: Session,
    controller_id: str | None,
    kind: EventType,
    fields: Mapping[str, Any],
    *,
    now: datetime,
    subject: Subject | None = None,
    actor: Actor = SYSTEM,
) -> str:
    """The fact is in the log once the caller commits: a leaf of salted digests, and what they disclose.

    Args:
        fields: name to JSON value; names and their classes are in `kinds.FIELDS`. None values are left out.

    Returns:
        The id of the event.

    Rule: GDPR 7(1), the controller can demonstrate consent; GDPR 17, each class of fields can go without the others.
    """
    ident = new_id("evt", now)
    who = actor.kind if actor.id is None else f"{actor.kind}:{actor.id}"
    everything = {"type": kind.value, "time": rfc3339(now), "actor": who, **fields}
    disclosures = _disclosures({name: value for name, value in everything.items() if value is not None})
    session.put(
        Event,
        {
            "id": ident,
            "controller_id": controller_id,
            "contact_id": subject.contact_id if subject else None,
            "kind": kind,
            "occurred_at": now,
            "leaf": leaf(data for _, data in disclosures),
        },
    )
    _disclose(session, ident, subject, disclosures)
    return ident


def _disclose(
    session: Session, event_id: str, subject: Subject | None, disclosures: Iterable[tuple[FieldClass, bytes]]
) -> None:
    """One row a class: what goes together is sealed together."""
    by_class: dict[FieldClass, list[bytes]] = {}
    for field_class, data in disclosures:
        by_class.setdefault(field_class, []).append(data)
    for field_class, together in by_class.items():
        sealed = subject is not None and field_class in SEALED_CLASSES
        content = b"\n".join(together)
        session.put(
            Disclosure,
            {
                "event_id": event_id,
                "name": field_class.value,
                "field_class": field_class,
                "sealed": sealed,
                "data": session.keys.seal(subject.data_key, content) if sealed and subject else content,
            },
        )


def opened(session: Session, data_key: bytes, *, sealed: bool, data: bytes) -> list[bytes]:
    """The disclosures of one row, each as it was hashed into the leaf."""
    return (session.keys.unseal(data_key, data) if sealed else data).split(b"\n")


def count_hit(session: Session, token_hash: bytes, *, until: datetime) -> int:
    """One more opening of a mailed link is counted.

    Args:
        until: when the count may be forgotten; then it begins anew.

    Returns:
        How many there were, this one included.
    """
    row = {"token_hash": token_hash, "hits": 1, "expires_at": until}
    more = {"hits": LinkHits.hits + 1, "expires_at": until}
    insert = upsert(session, LinkHits, row, on=["token_hash"], update=more)
    return session.scalar(insert.returning(LinkHits.hits)) or 0


def client_fields(client: ClientInfo | None) -> dict[str, Any]:
    """The disclosures that say where a request came from and how we know."""
    if client is None:
        return {}
    return {
        "ip": client.ip,
        "ip_source": client.ip_source,
        "user_agent": client.user_agent,
        "fetch_site": client.fetch_site or None,
    }


def _disclosures(fields: Mapping[str, Any]) -> list[tuple[FieldClass, bytes]]:
    salts = b64url(os.urandom(SALT_BYTES * len(fields))).decode()
    starts = range(0, len(salts), SALT_LETTERS)
    return [
        (FIELDS[name], canonical([salts[start : start + SALT_LETTERS], name, value]))
        for start, (name, value) in zip(starts, fields.items(), strict=True)
    ]


def leaf(disclosures: Iterable[bytes]) -> bytes:
    """The part of an event that is kept for ever: the sorted digests of its disclosures."""
    digests = sorted(b64url(hashlib.sha256(data).digest()).decode() for data in disclosures)
    return canonical({"sd": digests, "v": LEAF_FORMAT})


def canonical(value: Any) -> bytes:
    """`value` as canonical JSON, for strings, integers, booleans, lists and objects with ASCII keys.

    Rule: RFC 8785; what it says of floating point numbers is not needed, so a float is refused.
    """
    _refuse_floats(value)
    return msgspec.json.encode(value, order="sorted")


def spelled(value: Any) -> msgspec.Raw:
    """`value` for a disclosure that many events repeat: spelled once, and put in as it is."""
    return msgspec.Raw(canonical(value))


def _refuse_floats(value: Any) -> None:
    kind = type(value)
    if kind is list or kind is dict:
        for item in value if kind is list else value.values():
            # Most values are texts, which hold nothing.
            if type(item) is not str:
                _refuse_floats(item)
    elif kind is float:
        raise TypeError("a disclosure holds no floating point number: use an integer with its unit in the name")


def publish(
    session: Session,
    controller_id: str,
    type_: str,
    data: Mapping[str, Any],
    *,
    now: datetime,
    event_id: str | None = None,
    subject: Subject | None = None,
) -> str:
    """The change is told to the outside once the caller commits; the bytes are rendered here, once.

    Returns:
        The id of the publication: the same on every delivery, retry and replay.

    Rule: Standard Webhooks 1.0.0, payload structure and idempotency key.
    """
    ident = new_id("msg", now)
    envelope = {
        "id": ident,
        "type": type_,
        "timestamp": rfc3339(now),
        "schema_version": SCHEMA_VERSION,
        "data": data,
    }
    payload = msgspec.json.encode(envelope)
    session.put(
        Publication,
        {
            "id": ident,
            "controller_id": controller_id,
            "event_id": event_id,
            "contact_id": subject.contact_id if subject else None,
            "type": type_,
            "created_at": now,
            "sealed": subject is not None,
            "payload": session.keys.seal(subject.data_key, payload) if subject else payload,
        },
    )
    for subscriber in _subscribers:
        subscriber(session, Published(ident, controller_id, type_, now))
    return ident


def redact(session: Session, event_ids: Iterable[str], classes: Iterable[FieldClass]) -> int:
    """The fields of these classes are gone from these events, with their salts; every leaf stays valid.

    Returns:
        How many fields were removed.

    Rule: GDPR 17(1), 5(1)(e).
    """
    removed = session.execute(
        delete(Disclosure)
        .where(Disclosure.event_id.in_(list(event_ids)), Disclosure.field_class.in_(list(classes)))
        .execution_options(synchronize_session=False)
    )
    return affected(removed)


def strip(session: Session, event_ids: Iterable[str], keep: Collection[str], *, only_count: bool = False) -> int:
    """Of what these events disclose to anybody, only the fields named in `keep` are left; every leaf stays valid.

    Args:
        only_count: change nothing.

    Returns:
        How many fields were removed, or would be.

    Rule: GDPR 5(1)(e).
    """
    query = select(Disclosure.event_id, Disclosure.name, Disclosure.data)
    removed = 0
    for event_id, name, data in session.execute(
        query.where(Disclosure.event_id.in_(list(event_ids)), ~Disclosure.sealed)
    ).all():
        fields = data.split(b"\n")
        kept = [field for field in fields if msgspec.json.decode(field)[1] in keep]
        removed += len(fields) - len(kept)
        key = {"event_id": event_id, "name": name}
        if only_count or len(kept) == len(fields):
            continue
        if kept:
            session.change(Disclosure, key, {"data": b"\n".join(kept)})
        else:
            session.remove(Disclosure, key)
    return removed


def forget_person(session: Session, contact_ids: list[str]) -> None:
    """Events and publications no longer say whom they are about, and hold nothing but residue.

    Rule: GDPR 17(1). The leaves stay: once the salts are gone they are random bytes.
    """
    if not contact_ids:
        return
    about = (
        Event.__table__.select().with_only_columns(Event.id).where(Event.contact_id.in_(contact_ids)).scalar_subquery()
    )
    quiet = {"synchronize_session": False}
    session.execute(
        delete(Disclosure)
        .where(Disclosure.event_id.in_(about), Disclosure.field_class.in_(list(SEALED_CLASSES)))
        .execution_options(**quiet)
    )
    session.execute(
        update(Publication)
        .where(Publication.contact_id.in_(contact_ids))
        .values(payload=None, contact_id=None)
        .execution_options(**quiet)
    )
    session.execute(
        update(Event).where(Event.contact_id.in_(contact_ids)).values(contact_id=None).execution_options(**quiet)
    )
