"""API keys: who may call for which controller, and what."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime

from sqlalchemy import select

from signup.core.db import Session
from signup.core.errors import Invalid, NotFound, Unauthenticated
from signup.core.values import OPERATOR, Actor, clean_text, new_id
from signup.eventlog.kinds import EventType
from signup.eventlog.record import record
from signup.staff.models import ApiKey

SCOPES: dict[str, str] = {
    "forms.read": "read forms with their wording",
    "topics.read": "read topics and purposes",
    "subscriptions.read": "read subscriptions",
    "subscriptions.write": "ask for, start and end subscriptions",
    "contacts.read": "read contacts",
    "contacts.write": "add and change contacts",
    "uses.write": "record what consents and contacts were used for",
    "evidence.read": "read a person's whole history",
    "events.read": "read the feed of events",
    "mail.test": "send a form's mails to the controller's own addresses",
    "mail.report": "bring mails that came back: bounces, complaints, unsubscribing mails",
    "export": "export all subscriptions",
    "webhooks.read": "read webhook endpoints and deliveries",
    "webhooks.write": "add, change and remove webhook endpoints, send deliveries again",
}

PREFIX = "sk_"
# 256 bits: as hard to guess as the hash is to invert.
KEY_BYTES = 32
MAX_KEY_CHARACTERS = 100
MAX_NAME_CHARACTERS = 100


@dataclass(frozen=True)
class ApiCaller:
    """Who calls: one key of one controller."""

    controller_id: str
    key_id: str
    scopes: frozenset[str]

    @property
    def actor(self) -> Actor:
        return Actor("api-key", self.key_id)


@dataclass(frozen=True)
class NewKey:
    """A key as made: the secret is shown once, nobody can read it again."""

    id: str
    secret: str = field(repr=False)


def create_key(
    session: Session, controller_id: str, name: str, scopes: Iterable[str], *, now: datetime, actor: Actor = OPERATOR
) -> NewKey:
    """A key with these scopes works once the caller commits; only its hash is stored.

    Raises:
        Invalid: no name, no scope, or a scope that does not exist.
    """
    wanted = sorted(set(scopes))
    unknown = [scope for scope in wanted if scope not in SCOPES]
    if unknown or not wanted:
        raise Invalid(f"Unknown scope {', '.join(unknown) or '(none)'}. There are: {', '.join(SCOPES)}.")
    name = clean_text(name, MAX_NAME_CHARACTERS).strip()
    if not name:
        raise Invalid("The key needs a name, such as the program that will use it.")
    ident, key = new_id("key", now), PREFIX + secrets.token_urlsafe(KEY_BYTES)
    row = {
        "id": ident,
        "controller_id": controller_id,
        "name": name,
        "key_hash": _hash(key),
        "scopes": wanted,
        "created_at": now,
        "revoked_at": None,
    }
    session.put(ApiKey, row)
    record(
        session, controller_id, EventType.API_KEY_CREATED, {"api_key": ident, "scopes": wanted}, now=now, actor=actor
    )
    return NewKey(ident, key)


def revoke(session: Session, controller_id: str, key_id: str, *, now: datetime, actor: Actor = OPERATOR) -> bool:
    """The key no longer works.

    Returns:
        Whether it worked until now.

    Raises:
        NotFound: this controller has no such key.
    """
    found = session.execute(
        select(ApiKey.revoked_at).where(ApiKey.controller_id == controller_id, ApiKey.id == key_id)
    ).first()
    if found is None:
        raise NotFound("There is no such key.")
    if found.revoked_at is not None:
        return False
    session.change(ApiKey, {"id": key_id}, {"revoked_at": now})
    record(session, controller_id, EventType.API_KEY_REVOKED, {"api_key": key_id}, now=now, actor=actor)
    return True


def owner_of(session: Session, key_id: str) -> str:
    """The id of the controller whose key this is.

    Raises:
        NotFound: there is no such key.
    """
    controller_id = session.scalar(select(ApiKey.controller_id).where(ApiKey.id == key_id))
    if controller_id is None:
        raise NotFound("There is no such key.")
    return controller_id


@dataclass(frozen=True)
class KeyView:
    id: str
    name: str
    scopes: list[str]
    created_at: datetime
    revoked_at: datetime | None


def list_keys(session: Session, controller_id: str) -> list[KeyView]:
    """The controller's keys, oldest first; what they are is not known to us either."""
    rows = session.execute(
        select(ApiKey.id, ApiKey.name, ApiKey.scopes, ApiKey.created_at, ApiKey.revoked_at)
        .where(ApiKey.controller_id == controller_id)
        .order_by(ApiKey.id)
        .limit(1000)
    )
    return [KeyView(*row) for row in rows]


def authenticate(session: Session, key: str) -> ApiCaller:
    """The caller that this key stands for.

    Raises:
        Unauthenticated: no such key, or it was revoked; which of them is not said.
    """
    found = None
    if key.startswith(PREFIX) and len(key) <= MAX_KEY_CHARACTERS:
        # Looking up a hash leaks no time: whoever varies the key cannot steer the hash.
        found = session.execute(
            select(ApiKey.controller_id, ApiKey.id, ApiKey.scopes).where(
                ApiKey.key_hash == _hash(key), ApiKey.revoked_at.is_(None)
            )
        ).first()
    if found is None:
        raise Unauthenticated("This key does not work. Send a valid one as `Authorization: Bearer sk_…`.")
    return ApiCaller(found.controller_id, found.id, frozenset(found.scopes))


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode(errors="replace")).digest()
