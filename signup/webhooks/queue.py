"""The delivery rows as a queue: who is next, whose it is for a while, and what came of it.

A lease is nothing but a later `next_at`, so what a dead worker held falls due by itself.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, func, literal_column, select, union_all, update

from signup.contacts import actions as contacts
from signup.core.db import Session
from signup.core.values import new_id
from signup.eventlog.models import Publication
from signup.webhooks import endpoints, rules
from signup.webhooks.models import Attempt, Delivery, DeliveryState, Endpoint, EndpointState
from signup.webhooks.rules import Outcome, Verdict

# No exchange outlives this: name, connect, TLS, headers and body together.
TOTAL_SECONDS = 20.0
# The margin is what a loaded machine may need to write down the result.
LEASE_SECONDS = TOTAL_SECONDS + 10
# So many at once to an endpoint that nothing is known of: it must not take all the threads.
PER_ENDPOINT = 4

_STATUS_GONE = 410
_UNREADABLE = "unreadable: {what} cannot be opened with the keys of this service"
_GONE_REASON = "the receiver answered 410 Gone"
# A test answers at once or not at all: nobody waits three days for it.
_TEST_SCHEDULE = (0,)
# The index of due rows is partial, and a database picks it only for the literal.
_DUE: ColumnElement[Any] = literal_column("'due'")
_QUIET = {"synchronize_session": False}


@dataclass(frozen=True)
class Owed:
    """A delivery that is due, with all it takes to make it.

    Args:
        body: without one the person was erased, or `broken` says why it cannot be read.
    """

    id: str
    controller_id: str
    publication_id: str
    endpoint_id: str
    trigger: str
    next_at: datetime
    url: str
    secrets: tuple[str, ...]
    body: bytes | None
    broken: str | None = None
    attempt: int = 0
    lease_token: str = ""


@dataclass(frozen=True)
class Result:
    """How one attempt ended: an answer with its status, or an error without one."""

    owed: Owed
    started_at: datetime
    ended_at: datetime
    request_headers: Mapping[str, str]
    milliseconds: int = 0
    ip: str | None = None
    status: int | None = None
    retry_after: str | None = None
    response_body: bytes | None = None
    error: str | None = None

    @property
    def nothing_to_send(self) -> bool:
        return self.owed.body is None


def pick(session: Session, *, now: datetime, free: int, at_once: Mapping[str, int]) -> list[Owed]:
    """Who is next, the oldest of each endpoint first, at most `free`. Reads only, so that looking costs no lock.

    Args:
        at_once: how many deliveries an endpoint may have under way, by its id, when it is not `PER_ENDPOINT`.
    """
    if free <= 0 or not _any_due(session, now=now):
        return []
    rooms = _rooms(session, now=now, free=free, at_once=at_once)
    if not rooms:
        return []
    parts = [
        select(Delivery.id)
        .where(Delivery.endpoint_id == endpoint_id, Delivery.state == _DUE, Delivery.next_at <= now)
        .order_by(Delivery.next_at, Delivery.id)
        .limit(room)
        .subquery()
        for endpoint_id, room in rooms.items()
    ]
    ids = union_all(*(select(part.c.id) for part in parts))
    rows = session.execute(
        select(Delivery, Publication, Endpoint)
        .join(Publication, Publication.id == Delivery.publication_id)
        .join(Endpoint, Endpoint.id == Delivery.endpoint_id)
        .where(Delivery.id.in_(ids))
        .order_by(Delivery.next_at, Delivery.id)
    ).all()
    return _opened(session, _in_turns(rows)[:free], now=now)


def _any_due(session: Session, *, now: datetime) -> bool:
    return (
        session.scalar(select(Delivery.id).where(Delivery.state == _DUE, Delivery.next_at <= now).limit(1)) is not None
    )


def _rooms(session: Session, *, now: datetime, free: int, at_once: Mapping[str, int]) -> dict[str, int]:
    """How many more each endpoint may get; those that wait longest, at most `free` of them."""
    under_way = (
        select(Delivery.endpoint_id, func.count().label("posts"))
        .where(
            Delivery.state == _DUE,
            Delivery.lease_token.is_not(None),
            Delivery.next_at > now,
            Delivery.next_at <= now + timedelta(seconds=LEASE_SECONDS),
        )
        .group_by(Delivery.endpoint_id)
    )
    taken: dict[str, int] = {row.endpoint_id: row.posts for row in session.execute(under_way)}
    oldest = (
        select(func.min(Delivery.next_at))
        .where(Delivery.endpoint_id == Endpoint.id, Delivery.state == _DUE, Delivery.next_at <= now)
        .correlate(Endpoint)
        .scalar_subquery()
    )
    waiting = session.scalars(
        select(Endpoint.id)
        .where(Endpoint.state == EndpointState.ACTIVE, oldest.is_not(None))
        .order_by(oldest, Endpoint.id)
    )
    rooms = {ident: at_once.get(ident, PER_ENDPOINT) - taken.get(ident, 0) for ident in waiting}
    return dict([(ident, room) for ident, room in rooms.items() if room > 0][:free])


def _in_turns(rows: Sequence[Any]) -> list[Any]:
    """First the oldest of each endpoint, then the second of each, and so on."""
    seen: dict[str, int] = {}
    placed = []
    for row in rows:
        place = seen[row.Endpoint.id] = seen.get(row.Endpoint.id, 0) + 1
        placed.append((place, row))
    return [row for _, row in sorted(placed, key=lambda item: item[0])]


def _opened(session: Session, rows: Sequence[Any], *, now: datetime) -> list[Owed]:
    persons = {row.Publication.contact_id for row in rows if row.Publication.sealed and row.Publication.contact_id}
    keys = _keys(session, sorted(persons))
    return [_owed(session, row, keys, now=now) for row in rows]


def _owed(session: Session, row: Any, keys: Mapping[str, bytes | None], *, now: datetime) -> Owed:
    owed = Owed(
        id=row.Delivery.id,
        controller_id=row.Delivery.controller_id,
        publication_id=row.Publication.id,
        endpoint_id=row.Endpoint.id,
        trigger=row.Delivery.trigger,
        next_at=row.Delivery.next_at,
        url=row.Endpoint.url,
        secrets=(),
        body=None,
    )
    # One that cannot be opened must not stop the others.
    try:
        owed = replace(owed, secrets=_secrets(session, row.Endpoint, now=now))
    except ValueError:
        return replace(owed, broken=_UNREADABLE.format(what="the signing secret"))
    try:
        return replace(owed, body=_body(session, row.Publication, keys))
    except ValueError:
        return replace(owed, broken=_UNREADABLE.format(what="the payload"))


def _keys(session: Session, contact_ids: Sequence[str]) -> dict[str, bytes | None]:
    """The data keys of those who are still held; None for one that cannot be opened."""
    try:
        return dict(contacts.open_keys(session, contact_ids))
    except ValueError:
        keys: dict[str, bytes | None] = {}
    for contact_id in contact_ids:
        try:
            keys |= contacts.open_keys(session, [contact_id])
        except ValueError:
            keys[contact_id] = None
    return keys


def _secrets(session: Session, endpoint: Endpoint, *, now: datetime) -> tuple[str, ...]:
    """The newest first; during a rotation's grace the old one too."""
    sealed = [endpoint.sealed_secret]
    if endpoint.sealed_old_secret and endpoint.old_secret_until and endpoint.old_secret_until > now:
        sealed.append(endpoint.sealed_old_secret)
    return tuple(session.keys.unseal_own(item).decode() for item in sealed)


def _body(session: Session, publication: Publication, keys: Mapping[str, bytes | None]) -> bytes | None:
    ident = publication.contact_id or ""
    if publication.payload is None or not publication.sealed:
        return publication.payload
    if ident not in keys:
        return None
    key = keys[ident]
    if key is None:
        raise ValueError("the person's data key does not open")
    return session.keys.unseal(key, publication.payload)


def lease(session: Session, owed: Sequence[Owed], *, now: datetime) -> list[Owed]:
    """Those of `owed` that nobody else took are ours until the lease ends."""
    if not owed:
        return []
    token = secrets.token_hex(8)
    still_due = (
        select(Delivery.id)
        .where(Delivery.id.in_([item.id for item in owed]), Delivery.state == _DUE, Delivery.next_at <= now)
        .with_for_update(skip_locked=True)
    )
    leased = (
        update(Delivery)
        .where(Delivery.id.in_(still_due.scalar_subquery()))
        .values(next_at=now + timedelta(seconds=LEASE_SECONDS), attempt=Delivery.attempt + 1, lease_token=token)
        .returning(Delivery.id, Delivery.attempt)
    )
    attempts = {row.id: row.attempt for row in session.execute(leased.execution_options(**_QUIET))}
    return [replace(item, attempt=attempts[item.id], lease_token=token) for item in owed if item.id in attempts]


def settle(session: Session, results: Sequence[Result], *, jitter: float, now: datetime) -> None:
    """Each attempt is on record, and each delivery is where its answer puts it, if its lease was not lost.

    A worker that outlived its lease leaves its attempt, but changes nothing: the later result stands.
    """
    if not results:
        return
    by_id = {result.owed.id: result for result in results}
    verdicts = {ident: _verdict(result, jitter) for ident, result in by_id.items()}
    _lock_gone(session, [by_id[ident] for ident, verdict in verdicts.items() if verdict.outcome is Outcome.GONE])
    held = _held(session, list(by_id))
    numbers = _numbers(session, list(held))
    gone: dict[str, Result] = {}
    # What is missing in `held` was deleted with its endpoint meanwhile.
    for ident, lease_token in held.items():
        result, verdict = by_id[ident], verdicts[ident]
        mine = lease_token == result.owed.lease_token
        session.put(Attempt, _attempt(result, numbers.get(ident, 0) + 1, verdict.retry_at if mine else None))
        if mine:
            key = {"id": ident, "lease_token": result.owed.lease_token}
            session.change(Delivery, key, _after(verdict, now=now))
            if verdict.outcome is Outcome.GONE:
                gone[result.owed.endpoint_id] = result
    for endpoint_id, result in gone.items():
        endpoints.disable(
            session, result.owed.controller_id, endpoint_id, status=_STATUS_GONE, reason=_GONE_REASON, now=now
        )


def _verdict(result: Result, jitter: float) -> Verdict:
    if result.nothing_to_send:
        return Verdict(Outcome.DEAD)
    schedule = _TEST_SCHEDULE if result.owed.trigger == "test" else rules.SCHEDULE_SECONDS
    return rules.classify(
        result.status,
        result.retry_after,
        result.owed.attempt,
        now=result.ended_at,
        jitter=jitter,
        schedule=schedule,
    )


def _lock_gone(session: Session, results: Sequence[Result]) -> None:
    """Endpoints are locked before deliveries, here as when somebody pauses one: neither waits for the other."""
    if results:
        endpoints.lock_all(session, {result.owed.controller_id for result in results})


def _held(session: Session, ids: Sequence[str]) -> dict[str, str | None]:
    """Who holds each of the deliveries that still exist; nobody else can take one before the commit."""
    query = select(Delivery.id, Delivery.lease_token).where(Delivery.id.in_(ids)).order_by(Delivery.id)
    return {row.id: row.lease_token for row in session.execute(query.with_for_update())}


def _numbers(session: Session, ids: Sequence[str]) -> dict[str, int]:
    query = (
        select(Attempt.delivery_id, func.max(Attempt.number).label("newest"))
        .where(Attempt.delivery_id.in_(ids))
        .group_by(Attempt.delivery_id)
    )
    return {row.delivery_id: row.newest for row in session.execute(query)}


def _attempt(result: Result, number: int, next_at: datetime | None) -> dict[str, Any]:
    return {
        "id": new_id("att", result.started_at),
        "delivery_id": result.owed.id,
        "number": number,
        "trigger": result.owed.trigger,
        "started_at": result.started_at,
        "milliseconds": result.milliseconds,
        "ip": result.ip,
        "status": result.status,
        "error": result.error,
        "request_headers": dict(result.request_headers),
        "response_body": result.response_body,
        "next_at": next_at,
    }


def _after(verdict: Verdict, *, now: datetime) -> dict[str, Any]:
    """What changes in the delivery. A retry leaves the state alone: the endpoint may have been paused meanwhile."""
    if verdict.outcome is Outcome.RETRY:
        return {"next_at": verdict.retry_at, "lease_token": None}
    if verdict.outcome is Outcome.GONE:
        return {"next_at": now, "lease_token": None}
    state = DeliveryState.DELIVERED if verdict.outcome is Outcome.DELIVERED else DeliveryState.DEAD
    return {"state": state, "finished_at": now, "lease_token": None}
