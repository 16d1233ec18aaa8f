"""Setting up controllers, topics, purposes and consent texts; reading them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import bindparam, func, select

from signup.core.db import Prepared, Session
from signup.core.errors import Conflict, Invalid, NotFound
from signup.core.values import EmailAddress, clean_text, new_id
from signup.purposes.colours import is_colour
from signup.purposes.models import ConsentText, Controller, LegalBasis, Purpose, Topic

LEGAL_BASES = {item.value: item for item in LegalBasis}
MAX_TEXT = 300
SLUG = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,58}[a-z0-9])?")


@dataclass(frozen=True)
class ControllerView:
    """Who is responsible, as pages and mails name them."""

    id: str
    slug: str
    name: str
    address: str
    sender: str
    reply_to: str
    imprint_url: str
    privacy_url: str
    accent: str
    timezone: str
    logo: str = ""  # name under /brand/, or none
    mail_logo: str = ""  # name of the picture that mails carry; empty for none
    dkim_key: str = ""  # id of the key that signs its mails; empty for none


_CONTROLLER = tuple(getattr(Controller, name) for name in ControllerView.__dataclass_fields__)


@dataclass(frozen=True)
class NewController:
    """What a controller needs before it may ask anybody for consent."""

    slug: str
    name: str
    address: str
    sender: str
    imprint_url: str
    privacy_url: str
    reply_to: str = ""
    accent: str = "#0b5d6b"
    timezone: str = "Europe/Berlin"


def check_slug(slug: str, what: str) -> None:
    """Raise unless `slug` can stand in a URL."""
    if not SLUG.fullmatch(slug):
        raise Invalid(f"The {what} {slug!r} must be 1 to 60 lower-case letters, digits and inner hyphens.")


def create_controller(session: Session, new: NewController, *, now: datetime) -> ControllerView:
    """The controller exists.

    Raises:
        Invalid: a value cannot be used; the message says which and why.
        Conflict: the slug is taken.
    """
    check_slug(new.slug, "controller slug")
    values = _checked(new)
    if session.scalar(select(Controller.id).where(Controller.slug == new.slug)):
        raise Conflict(f"There is a controller {new.slug!r} already.")
    row = Controller(id=new_id("ctl", now), slug=new.slug, **values, created_at=now)
    session.add(row)
    session.flush()
    return get_controller(session, row.id)


def change_controller(session: Session, controller_id: str, changes: Mapping[str, str]) -> None:
    """Pages and mails name the controller like this from now on; published versions of forms keep what they showed.

    Args:
        changes: names of `NewController` but the slug, with their new values.

    Raises:
        Invalid: a value cannot be used; the message says which and why.
    """
    view = get_controller(session, controller_id)
    held = {name: getattr(view, name) for name in NewController.__dataclass_fields__}
    session.change(Controller, {"id": controller_id}, _checked(NewController(**{**held, **changes})))


def _checked(new: NewController) -> dict[str, str]:
    sender = EmailAddress.parse(new.sender).normalised
    reply_to = EmailAddress.parse(new.reply_to or new.sender).normalised
    for name in ("name", "address", "imprint_url", "privacy_url"):
        value = getattr(new, name)
        if not value.strip() or clean_text(value, MAX_TEXT) != value:
            raise Invalid(f"The {name.replace('_', ' ')} must be one line of 1 to {MAX_TEXT} characters.")
    for name in ("imprint_url", "privacy_url"):
        if not getattr(new, name).startswith(("https://", "http://")):
            raise Invalid(f"The {name.replace('_', ' ')} must be a web address.")
    if not is_colour(new.accent):
        raise Invalid("The accent must be a colour like #0b5d6b.")
    return {
        "name": new.name,
        "address": new.address,
        "sender": sender,
        "reply_to": reply_to,
        "imprint_url": new.imprint_url,
        "privacy_url": new.privacy_url,
        "accent": new.accent,
        "timezone": new.timezone,
    }


def get_controller(session: Session, controller_id: str) -> ControllerView:
    """The controller with this id.

    Raises:
        NotFound: there is none.
    """
    rows = session.rows(_BY_ID, {"controller_id": controller_id}, keep_queue=True)
    if not rows:
        raise NotFound("There is no such controller.")
    return ControllerView(*rows[0])


_BY_ID = Prepared(select(*_CONTROLLER).where(Controller.id == bindparam("controller_id")))


def find_controller(session: Session, slug: str) -> ControllerView:
    """The controller with this slug.

    Raises:
        NotFound: there is none.
    """
    row = session.execute(select(*_CONTROLLER).where(Controller.slug == slug)).first()
    if row is None:
        raise NotFound(f"There is no controller {slug!r}.")
    return ControllerView(*row)


def only_controller(session: Session) -> ControllerView | None:
    """The controller, if there is but one: then it is clear who is meant."""
    rows = session.execute(select(*_CONTROLLER).limit(2)).all()
    return ControllerView(*rows[0]) if len(rows) == 1 else None


def list_controllers(session: Session) -> list[ControllerView]:
    return [ControllerView(*row) for row in session.execute(select(*_CONTROLLER).order_by(Controller.slug).limit(1000))]


@dataclass(frozen=True)
class PurposeView:
    id: str
    slug: str
    topic: str
    channel: str
    label: dict[str, str]
    hint: dict[str, str]


def create_purpose(
    session: Session,
    controller_id: str,
    slug: str,
    *,
    label: Mapping[str, str],
    hint: Mapping[str, str],
    text: Mapping[str, str],
    now: datetime,
) -> PurposeView:
    """The purpose exists with a topic of the same slug and the first version of its consent text per locale."""
    check_slug(slug, "purpose slug")
    topic = Topic(id=new_id("top", now), controller_id=controller_id, slug=slug, label=dict(label), created_at=now)
    purpose = Purpose(
        id=new_id("pur", now),
        controller_id=controller_id,
        topic_id=topic.id,
        slug=slug,
        channel="email",
        label=dict(label),
        hint=dict(hint),
        created_at=now,
    )
    session.add(topic)
    session.flush()
    session.add(purpose)
    session.flush()
    for locale, sentence in text.items():
        add_text(session, controller_id, purpose.id, locale, sentence, now=now)
    return PurposeView(purpose.id, slug, slug, "email", dict(label), dict(hint))


@dataclass(frozen=True)
class Words:
    """A purpose in one language."""

    locale: str
    label: str
    hint: str
    text: str


def word_purpose(session: Session, controller_id: str, slug: str, words: Words, *, now: datetime) -> None:
    """The purpose exists and its texts in force in this language are these; the same words change nothing."""
    found = named(session, controller_id, [slug]).get(slug)
    label, hint = {words.locale: words.label}, {words.locale: words.hint}
    if found is None:
        text = {words.locale: words.text}
        create_purpose(session, controller_id, slug, label=label, hint=hint, text=text, now=now)
        return
    session.change(Purpose, {"id": found.id}, {"label": {**found.label, **label}, "hint": {**found.hint, **hint}})
    try:
        same = text_in_force(session, controller_id, found.id, words.locale).text == words.text
    except NotFound:
        same = False
    if not same:
        add_text(session, controller_id, found.id, words.locale, words.text, now=now)


def add_text(session: Session, controller_id: str, purpose_id: str, locale: str, text: str, *, now: datetime) -> int:
    """The next version of the consent text exists; earlier versions stay as they are.

    Returns:
        The new version's number.
    """
    last = session.scalar(
        select(func.max(ConsentText.version)).where(ConsentText.purpose_id == purpose_id, ConsentText.locale == locale)
    )
    version = (last or 0) + 1
    session.add(
        ConsentText(
            id=new_id("txt", now),
            controller_id=controller_id,
            purpose_id=purpose_id,
            locale=locale,
            version=version,
            text=text,
            sha256=text_sha256(text),
            created_at=now,
        )
    )
    session.flush()
    return version


def text_sha256(text: str) -> str:
    """SHA-256 of a consent text's UTF-8 bytes, in hex."""
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True)
class TextView:
    text: str
    sha256: str
    version: int


def text_in_force(session: Session, controller_id: str, purpose_id: str, locale: str) -> TextView:
    """The newest consent text of a purpose in one language; it never falls back to another.

    Raises:
        NotFound: nobody wrote one in this language.
    """
    row = session.execute(
        select(ConsentText.text, ConsentText.sha256, ConsentText.version)
        .where(
            ConsentText.controller_id == controller_id,
            ConsentText.purpose_id == purpose_id,
            ConsentText.locale == locale,
        )
        .order_by(ConsentText.version.desc())
        .limit(1)
    ).first()
    if row is None:
        raise NotFound(f"There is no consent text in {locale!r} for this purpose.")
    return TextView(*row)


def list_purposes(session: Session, controller_id: str, *, after: str = "", limit: int = 200) -> list[PurposeView]:
    """The controller's purposes in the order of their slugs, after the slug `after`."""
    rows = session.execute(
        select(Purpose.id, Purpose.slug, Topic.slug, Purpose.channel, Purpose.label, Purpose.hint)
        .join(Topic, Topic.id == Purpose.topic_id)
        .where(Purpose.controller_id == controller_id, Purpose.slug > after)
        .order_by(Purpose.slug)
        .limit(limit)
    )
    return [PurposeView(*row) for row in rows]


def named(session: Session, controller_id: str, slugs: Collection[str]) -> dict[str, PurposeView]:
    """Those of the controller's purposes that `slugs` name."""
    rows = session.execute(
        select(Purpose.id, Purpose.slug, Topic.slug, Purpose.channel, Purpose.label, Purpose.hint)
        .join(Topic, Topic.id == Purpose.topic_id)
        .where(Purpose.controller_id == controller_id, Purpose.slug.in_(list(slugs)))
    )
    return {row[1]: PurposeView(*row) for row in rows}


@dataclass(frozen=True)
class TopicView:
    id: str
    slug: str
    label: dict[str, str]


def list_topics(session: Session, controller_id: str, *, after: str = "", limit: int = 200) -> list[TopicView]:
    """The controller's topics in the order of their slugs, after the slug `after`."""
    rows = session.execute(
        select(Topic.id, Topic.slug, Topic.label)
        .where(Topic.controller_id == controller_id, Topic.slug > after)
        .order_by(Topic.slug)
        .limit(limit)
    )
    return [TopicView(*row) for row in rows]
