"""Topics and purposes, read by programs."""

from __future__ import annotations

from msgspec import Struct

from signup.core.db import Session
from signup.purposes import actions as purposes
from signup.web import api
from signup.web.api import Call, ListQuery, Page

blueprint = api.blueprint("topics")


class Topic(Struct):
    """What people choose."""

    id: str
    slug: str
    label: dict[str, str]


class Purpose(Struct):
    """One reason to write, on one channel."""

    id: str
    slug: str
    topic: str
    channel: str
    label: dict[str, str]
    hint: dict[str, str]


@api.operation(blueprint, "GET", "/topics", scope="topics.read")
def list_topics(session: Session, call: Call, query: ListQuery) -> Page[Topic]:
    """List the topics."""
    after = api.position("topics", query)
    found = purposes.list_topics(session, call.controller_id, after=after, limit=query.limit + 1)
    return api.page("topics", query, [Topic(it.id, it.slug, it.label) for it in found], lambda topic: topic.slug)


@api.operation(blueprint, "GET", "/purposes", scope="topics.read")
def list_purposes(session: Session, call: Call, query: ListQuery) -> Page[Purpose]:
    """List the purposes."""
    after = api.position("purposes", query)
    found = purposes.list_purposes(session, call.controller_id, after=after, limit=query.limit + 1)
    shown = [Purpose(it.id, it.slug, it.topic, it.channel, it.label, it.hint) for it in found]
    return api.page("purposes", query, shown, lambda purpose: purpose.slug)
