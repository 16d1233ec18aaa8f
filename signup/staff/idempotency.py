"""The same call made twice acts once: the first answer is kept, sealed, for a day."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import case, delete, update

from signup.core.db import Session, affected, upsert
from signup.core.errors import Conflict, Invalid
from signup.staff.access import ApiCaller
from signup.staff.models import IdempotencyKey

KEEP = timedelta(hours=24)
# Longer than any call may take. A process that died in a call left no effect: effect and answer are one commit.
IN_FLIGHT = timedelta(seconds=60)
CLAIM_BYTES = 16
MAX_CHARACTERS = 255


@dataclass(frozen=True)
class Claim:
    """The right to answer one call first."""

    key_hash: bytes
    token: bytes


@dataclass(frozen=True)
class Answer:
    """What a call was answered."""

    status: int
    content_type: str
    body: bytes


def claim(session: Session, caller: ApiCaller, key: str, request_hash: bytes, *, now: datetime) -> Claim | Answer:
    """Either the call is ours to answer, or it was answered before and this is what was said.

    Args:
        request_hash: of method, path, query and body.

    Raises:
        Conflict: the first call is still under way.
        Invalid: the key came with another request, or cannot be a key.

    Rule: IETF draft-ietf-httpapi-idempotency-key-header.
    """
    if not 1 <= len(key) <= MAX_CHARACTERS:
        raise Invalid(f"An Idempotency-Key has 1 to {MAX_CHARACTERS} characters.", code="idempotency-key")
    mine = Claim(session.keys.keyed_hash("idempotency", f"{caller.key_id}|{key}"), secrets.token_bytes(CLAIM_BYTES))
    row = {
        "key_hash": mine.key_hash,
        "controller_id": caller.controller_id,
        "request_hash": request_hash,
        "status": None,
        "content_type": None,
        "sealed_body": mine.token,
        "created_at": now,
        "expires_at": now + KEEP,
    }
    held = session.execute(_take_if_free(session, row, now)).one()
    if held.sealed_body == mine.token and held.status is None:
        return mine
    if held.request_hash != request_hash:
        raise Invalid("This Idempotency-Key was used for another request.", code="idempotency-key-reused")
    if held.status is None:
        raise Conflict("The first call with this Idempotency-Key is still under way.", code="idempotency-in-flight")
    return Answer(held.status, held.content_type or "", session.keys.unseal_own(held.sealed_body))


def _take_if_free(session: Session, row: Mapping[str, Any], now: datetime) -> Any:
    abandoned = IdempotencyKey.status.is_(None) & (IdempotencyKey.created_at <= now - IN_FLIGHT)
    free = (IdempotencyKey.expires_at <= now) | abandoned
    renewed = {name: case((free, row[name]), else_=getattr(IdempotencyKey, name)) for name in row if name != "key_hash"}
    return upsert(session, IdempotencyKey, row, on=["key_hash"], update=renewed).returning(
        IdempotencyKey.sealed_body, IdempotencyKey.status, IdempotencyKey.request_hash, IdempotencyKey.content_type
    )


def keep(session: Session, mine: Claim, answer: Answer) -> None:
    """The answer is what every repeat of the call gets.

    Raises:
        Conflict: we took so long that another call took over; nothing of ours may count.
    """
    done = session.execute(
        update(IdempotencyKey)
        .where(
            IdempotencyKey.key_hash == mine.key_hash,
            IdempotencyKey.status.is_(None),
            IdempotencyKey.sealed_body == mine.token,
        )
        .values(status=answer.status, content_type=answer.content_type, sealed_body=session.keys.seal_own(answer.body))
        .execution_options(synchronize_session=False)
    )
    if affected(done) != 1:
        raise Conflict("Another call with this Idempotency-Key took over.", code="idempotency-in-flight")


def release(session: Session, mine: Claim) -> None:
    """The call failed without effect; the key is free for the next try."""
    session.execute(
        delete(IdempotencyKey)
        .where(
            IdempotencyKey.key_hash == mine.key_hash,
            IdempotencyKey.status.is_(None),
            IdempotencyKey.sealed_body == mine.token,
        )
        .execution_options(synchronize_session=False)
    )
