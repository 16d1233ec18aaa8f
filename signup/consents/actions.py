"""The only writer of consents: ask, give, withdraw, restore."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, select

from signup.consents.models import Consent, ConsentState
from signup.core.db import Prepared, Session
from signup.core.signing import token_hash
from signup.core.values import new_id
from signup.purposes.models import Purpose, Topic

EMAIL = "email"
LINK_PURPOSE = "unsubscribe"


@dataclass(frozen=True)
class Held:
    """A consent as it stands, with the words of its purpose."""

    id: str
    purpose_id: str
    slug: str
    topic: str
    topic_label: dict[str, str]
    label: dict[str, str]
    hint: dict[str, str]
    state: ConsentState
    act_id: str
    legal_basis: str
    origin: dict[str, Any]
    text: str
    text_sha256: str
    requested_at: datetime
    given_at: datetime | None
    ended_at: datetime | None
    ended_by: str | None

    def shown(self, locale: str) -> dict[str, str]:
        """The purpose in the words that the person was shown, as a mail or a page needs them."""
        return {
            "id": self.purpose_id,
            "slug": self.slug,
            "topic": self.topic,
            "label": self.label.get(locale, self.slug),
            "hint": self.hint.get(locale, ""),
            "text": self.text,
            "text_sha256": self.text_sha256,
        }


_HELD = (
    Consent.id,
    Consent.purpose_id,
    Purpose.slug,
    Topic.slug,
    Topic.label,
    Purpose.label,
    Purpose.hint,
    Consent.state,
    Consent.act_id,
    Consent.legal_basis,
    Consent.origin,
    Consent.text,
    Consent.text_sha256,
    Consent.requested_at,
    Consent.given_at,
    Consent.ended_at,
    Consent.ended_by,
)


def of_contact(session: Session, controller_id: str, contact_id: str) -> list[Held]:
    """All consents of one contact, in the order of their purposes."""
    rows = session.rows(_OF_CONTACT, {"controller_id": controller_id, "contact_id": contact_id})
    return [Held(*row) for row in rows]


_OF_CONTACT = Prepared(
    select(*_HELD)
    .join(Purpose, Purpose.id == Consent.purpose_id)
    .join(Topic, Topic.id == Purpose.topic_id)
    .where(Consent.controller_id == bindparam("controller_id"), Consent.contact_id == bindparam("contact_id"))
    .order_by(Purpose.slug)
)


def link_id(session: Session, subscription_id: str, topic: str, epoch: int) -> bytes:
    """The id behind the link that ends just one topic."""
    return session.keys.derived_id(f"{LINK_PURPOSE}:{topic}", subscription_id, epoch)


@dataclass(frozen=True)
class Ask:
    """What one sign-up asks: the same act for all of its purposes."""

    contact_id: str
    subscription_id: str
    epoch: int
    act_id: str
    legal_basis: str
    origin: Mapping[str, Any]
    form_version_id: str | None
    purposes: Sequence[Mapping[str, str]]  # id, topic, text, text_sha256


def ask(session: Session, controller_id: str, question: Ask, *, given: bool = False, now: datetime) -> None:
    """The consents are requested; one that is given already stays given.

    Args:
        given: the basis needs no confirmation, so they count at once.

    Rule: GDPR 7(1); each purpose on its own, GDPR recital 43.
    """
    state = ConsentState.GIVEN if given else ConsentState.REQUESTED
    for item in question.purposes:
        session.put(
            Consent,
            {
                "id": new_id("cns", now),
                "controller_id": controller_id,
                "contact_id": question.contact_id,
                "purpose_id": item["id"],
                "channel": EMAIL,
                "state": state,
                "act_id": question.act_id,
                "legal_basis": question.legal_basis,
                "origin": dict(question.origin),
                "text": item["text"],
                "text_sha256": item["text_sha256"],
                "form_version_id": question.form_version_id,
                "link_hash": token_hash(link_id(session, question.subscription_id, item["topic"], question.epoch)),
                "requested_at": now,
                "given_at": now if given else None,
                "ended_at": None,
                "ended_by": None,
            },
            on_conflict="ON CONFLICT (contact_id, purpose_id, channel) DO UPDATE SET "
            + ", ".join(f"{name} = excluded.{name}" for name in _ASKED_AGAIN)
            + " WHERE consent.state <> 'given'",
        )


_ASKED_AGAIN = (
    "state",
    "act_id",
    "legal_basis",
    "origin",
    "text",
    "text_sha256",
    "form_version_id",
    "requested_at",
    "given_at",
    "ended_at",
    "ended_by",
)


@dataclass(frozen=True)
class Answered:
    """The question to which somebody said yes, and the wording that it showed for each of its purposes."""

    act_id: str
    form_version_id: str
    purpose_ids: Sequence[str]
    wording: Mapping[str, Mapping[str, str]]  # purpose id to text, text_sha256


def give(session: Session, controller_id: str, contact_id: str, answered: Answered, *, now: datetime) -> None:
    """The requested consents for these purposes are given from `now` on, in the words that were answered.

    A later sign-up on another form may have asked the same in other words; nobody said yes to those.

    Rule: GDPR 7(1); only the explicit confirmation makes a consent.
    """
    for purpose_id in answered.purpose_ids:
        words = answered.wording.get(purpose_id, {})
        values = {name: words[name] for name in ("text", "text_sha256") if name in words}
        if values:
            values["form_version_id"] = answered.form_version_id
        _move(
            session,
            controller_id,
            contact_id,
            [purpose_id],
            ConsentState.REQUESTED,
            state=ConsentState.GIVEN,
            given_at=now,
            act_id=answered.act_id,
            **values,
        )


def withdraw(
    session: Session, controller_id: str, contact_id: str, purpose_ids: Sequence[str], by: str, *, now: datetime
) -> None:
    """The given consents for these purposes have ended; what was sent before stays lawful.

    Args:
        by: the way it came: page, one-click, api, not-me.

    Rule: GDPR 7(3), as easy as giving.
    """
    values = {"state": ConsentState.WITHDRAWN, "ended_at": now, "ended_by": by}
    _move(session, controller_id, contact_id, purpose_ids, ConsentState.GIVEN, **values)


def void(session: Session, controller_id: str, contact_id: str, purpose_ids: Sequence[str], *, now: datetime) -> None:
    """The given consents for these purposes lead nowhere any more, such as to a mailbox that is gone."""
    values = {"state": ConsentState.EXPIRED, "ended_at": now, "ended_by": "bounce"}
    _move(session, controller_id, contact_id, purpose_ids, ConsentState.GIVEN, **values)


def restore(session: Session, controller_id: str, contact_id: str, purpose_ids: Sequence[str]) -> None:
    """The withdrawal of these consents is undone: they count as given when they were given."""
    values = {"state": ConsentState.GIVEN, "ended_at": None, "ended_by": None}
    _move(session, controller_id, contact_id, purpose_ids, ConsentState.WITHDRAWN, **values)


def reopen(session: Session, controller_id: str, contact_id: str, purpose_ids: Sequence[str]) -> None:
    """Consents whose question expired are requested again, because the person asked for a new link."""
    _move(
        session,
        controller_id,
        contact_id,
        purpose_ids,
        ConsentState.EXPIRED,
        state=ConsentState.REQUESTED,
        ended_at=None,
    )


def close_requests(
    session: Session, controller_id: str, contact_id: str, state: ConsentState, *, now: datetime
) -> None:
    """Consents that nobody confirmed are closed as expired or refused."""
    asked = {"controller_id": controller_id, "contact_id": contact_id, "state": ConsentState.REQUESTED}
    session.change(Consent, asked, {"state": state, "ended_at": now})


def _move(
    session: Session,
    controller_id: str,
    contact_id: str,
    purpose_ids: Sequence[str],
    before: ConsentState,
    **values: Any,
) -> None:
    for purpose_id in purpose_ids:
        key = {"controller_id": controller_id, "contact_id": contact_id, "purpose_id": purpose_id, "state": before}
        session.change(Consent, key, values)


def behind_link(session: Session, ident: bytes) -> tuple[str, str, str] | None:
    """Controller, contact and purpose of the consent whose own link has this id."""
    row = session.execute(
        select(Consent.controller_id, Consent.contact_id, Consent.purpose_id).where(
            Consent.link_hash == token_hash(ident)
        )
    ).first()
    return (row[0], row[1], row[2]) if row else None
