"""What happened, step by step, in words for somebody who was not there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from signup.evidence.bundle import SealedEvent
from signup.evidence.checked import Checker, NotProven, Place
from signup.evidence.words import Words

# Nobody reads more; openings of a link alone may be fifty for each mail.
STEPS_TOLD = 200
MINOR_TOLD = 25
MINOR = frozenset({"link.opened", "link.asked", "evidence.read", "mail.delayed", "contact.used", "consent.used"})
# A step up to this many characters fits on any page, so it is not torn in two.
SHORT = 2000
STRONG = frozenset(
    {
        "subscription.requested",
        "mail.accepted",
        "subscription.confirmed",
        "consent.withdrawn",
        "subscription.unsubscribed",
        "subscription.refused",
        "confirmation.contradicted",
        "contact.objected",
    }
)
# In the order in which a judge asks: who, from where, by what, with which answer.
ROWS = (
    "email",
    "recipient",
    "purposes",
    "ip",
    "user_agent",
    "page",
    "origin_header",
    "smtp_server",
    "smtp_reply",
    "method",
    "scanner_sign",
    "seconds_since_sent",
    "page_seconds",
    "granted_at",
    "used_at",
    "campaign",
    "sender",
    "channel",
    "reason",
    "report",
    "hold_reason",
    "fields",
    "expires_at",
    "message_id",
    "mail_sha256",
    "form_sha256",
    "token_sha256",
    "actor",
)
MACHINE = frozenset({"smtp_reply", "message_id", "mail_sha256", "form_sha256", "token_sha256", "ip", "user_agent"})
MOMENTS = frozenset({"expires_at", "granted_at", "used_at"})
SECONDS = frozenset({"seconds_since_sent", "page_seconds"})


@dataclass(frozen=True)
class Step:
    """One event with what it tells and where it stands in the log.

    Args:
        trouble: why it cannot be called proven; None when nothing contradicts it.
    """

    number: int
    event: SealedEvent
    fields: dict[str, Any]
    redacted: int
    place: Place | None
    trouble: str | None

    @property
    def kind(self) -> str:
        return str(self.fields.get("type", "?"))

    @property
    def time(self) -> datetime | None:
        return datetime.fromisoformat(self.fields["time"]) if "time" in self.fields else None

    @property
    def minor(self) -> bool:
        """Whether it says nothing about the consent, such as that somebody read the evidence a moment ago."""
        return self.kind in MINOR

    @property
    def proven(self) -> bool:
        return self.place is not None


def steps(events: list[SealedEvent], checker: Checker) -> list[Step]:
    """Every event, checked."""
    return [_step(number, event, checker) for number, event in enumerate(events, start=1)]


def _step(number: int, event: SealedEvent, checker: Checker) -> Step:
    fields = {name: value for _, name, value in map(json.loads, event.disclosures)}
    redacted = len(json.loads(event.leaf)["sd"]) - len(event.disclosures)
    try:
        return Step(number, event, fields, redacted, checker.place(event), None)
    except NotProven as contradiction:
        return Step(number, event, fields, redacted, None, str(contradiction))


def chosen(every: list[Step]) -> list[Step]:
    """The steps that are told on paper: all that matter, and the first of those that do not."""
    minor = [step.number for step in every if step.minor]
    left = set(minor[MINOR_TOLD:])
    return [step for step in every if step.number not in left][:STEPS_TOLD]


def told(step: Step, words: Words) -> dict[str, Any]:
    """One step as the template sets it."""
    rows = list(_rows(step, words))
    return {
        "short": sum(len(row["value"]) for row in rows) < SHORT,
        "time": words.with_utc(step.time) if step.time else words("unknown"),
        "title": _title(step, words),
        "strong": step.kind in STRONG,
        "rows": rows,
        "seal": list(_seal(step, words)),
    }


def _title(step: Step, words: Words) -> str:
    fields, key = step.fields, f"event.{step.kind}"
    if step.kind == "subscription.requested" and "form" not in fields:
        key += ".plain"
    if step.kind == "link.opened" and fields.get("scanner"):
        key += ".scanner"
    if words.has(f"{key}.{fields.get('act')}"):
        key += f".{fields['act']}"
    if not words.has(key):
        return words("event.other", type=step.kind)
    return words(key, form=fields.get("form", "?"), form_version=fields.get("form_version", "?"))


def _rows(step: Step, words: Words) -> Iterator[dict[str, Any]]:
    for name in ROWS:
        value = step.fields.get(name)
        if value is None or value == [] or value == {}:
            continue
        row: dict[str, Any] = {"label": words(f"row.{name}"), "value": _value(name, value, words)}
        if name in MACHINE:
            row["mono"] = True
        if name == "ip" and step.fields.get("ip_source"):
            row["note"] = ip_source(step.fields["ip_source"], words)
        yield row


def ip_source(source: str, words: Words) -> str:
    """How the service knows the address."""
    return words("row.ip_source.connection") if source == "connection" else words.typed(source)


def _value(name: str, value: Any, words: Words) -> str:
    if name in SECONDS:
        return words("seconds", count=value)
    if name == "actor" and words.has(f"actor.{value}"):
        return words(f"actor.{value}")
    if name in MOMENTS:
        return words.moment(datetime.fromisoformat(value))
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        return words("and").join(map(words.typed, value))
    return words.typed(value)


def _seal(step: Step, words: Words) -> Iterator[str]:
    place = step.place
    if step.trouble is not None:
        yield words("seal.broken", reason=step.trouble)
    elif place is None:
        yield words("seal.waiting")
    else:
        stamp = _stamp(place, words)
        yield words("seal.place", index=place.index, size=place.size) + " " + stamp
    if step.fields.get("sealed_late"):
        yield words("seal.late")
    if step.redacted:
        yield words("seal.redacted_one") if step.redacted == 1 else words("seal.redacted", count=step.redacted)


def _stamp(place: Place, words: Words) -> str:
    if place.stamped_at is None:
        return words("seal.unchecked" if place.has_token else "seal.unstamped")
    moment = words.moment(place.stamped_at)
    if place.after is None:
        return words("seal.stamped", moment=moment)
    return words("seal.bracket", moment=moment, after=words.moment(place.after))
