"""The feed of publications, for programs that rather ask than listen."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated, Any

from msgspec import Meta, Struct

from signup.contacts import actions as contacts
from signup.core.db import Session
from signup.eventlog import history
from signup.web import api
from signup.web.api import Call, Page

blueprint = api.blueprint("events")

# JSON numbers are safe up to here in every language.
MAX_SEQ = 2**53
Digits = Annotated[str, Meta(pattern=r"^[0-9]{1,15}(?![\s\S])")]


class FeedQuery(Struct, forbid_unknown_fields=True, kw_only=True):
    after: Annotated[int, Meta(ge=0, le=MAX_SEQ, description="`seq` of the last event you have.")] = 0
    cursor: Annotated[Digits | None, Meta(description="`next` of the page before.")] = None
    limit: Annotated[int, Meta(ge=1, le=200, description="How many events at most.")] = api.DEFAULT_LIMIT


class FeedEvent(Struct):
    """What an endpoint would have received, and its place in the feed."""

    seq: Annotated[int, Meta(description="Rises by time; numbers that are missing belong to others.")]
    id: str
    type: str
    timestamp: datetime
    schema_version: int
    data: dict[str, Any]


@api.operation(blueprint, "GET", "/events", scope="events.read")
def list_events(session: Session, call: Call, query: FeedQuery) -> Page[FeedEvent]:
    """Read events in their order, after the last one you have.

    The same envelopes as the webhooks, each with its `seq`. Events of erased persons are gone from the feed.
    """
    after = int(query.cursor) if query.cursor else query.after
    rows = list(history.feed(session, call.controller_id, after=after, limit=query.limit + 1))
    shown = rows[: query.limit]
    keys = contacts.open_keys(session, sorted({contact_id for _, contact_id, _, _ in shown if contact_id}))
    items = []
    for seq, contact_id, payload, sealed in shown:
        if payload is not None and (not sealed or contact_id in keys):
            plain = session.keys.unseal(keys[contact_id or ""], payload) if sealed else payload
            envelope = json.loads(plain)
            items.append(FeedEvent(seq=seq, **{**envelope, "timestamp": datetime.fromisoformat(envelope["timestamp"])}))
    return Page(items, str(shown[-1][0]) if len(rows) > query.limit else None)
