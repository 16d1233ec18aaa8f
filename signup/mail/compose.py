"""Mails as exact bytes: a template is rendered once per language and wording, then only values are put in.

Building MIME with the email package costs some twenty times the SMTP dialogue; a skeleton costs two replacements.
"""

from __future__ import annotations

import binascii
import hashlib
import re
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from email.header import Header
from email.utils import format_datetime as rfc5322_date
from email.utils import formataddr
from functools import lru_cache
from typing import Any

import msgspec
from babel.dates import format_datetime, get_timezone
from flask import current_app
from markupsafe import escape
from sqlalchemy import String, and_, literal_column, or_

from signup import jobs
from signup.core.db import Session
from signup.core.values import new_id
from signup.eventlog.record import Subject
from signup.mail import pictures, returns, signing
from signup.mail.models import Message, MessageState
from signup.mail.pictures import Picture
from signup.purposes.actions import ControllerView

JOB_SEND = "mail.send"
# The values that differ between two mails of one skeleton; all else is rendered into it.
# Seconds belong into evidence, not into a letter; the zone belongs into both.
LONG_TIME = {"de": ("de", "d. MMMM y, HH:mm z"), "en": ("en_GB", "d MMMM y, HH:mm z")}
VALUES = (
    "confirm_url",
    "code_url",
    "code",
    "not_me_url",
    "unsubscribe_url",
    "preferences_url",
    "requested_at",
    "page_host",
    "count",
    "period",
    "subscribers",
)


# How a mail lets its reader confirm.
LINK, LINK_OR_CODE, CODE = "link", "link-or-code", "code"

FORMAL, INFORMAL = "formal", "informal"
# Languages that address the reader in two ways have a second set of templates.
INFORMAL_TEMPLATES = {"de": "de-informal"}


@dataclass(frozen=True)
class Letter:
    """What staff wrote for the mail after the confirmation."""

    subject: str
    text: str
    download_url: str = ""

    @property
    def paragraphs(self) -> list[str]:
        return [" ".join(part.split()) for part in re.split(r"\n\s*\n", self.text) if part.strip()]


@dataclass(frozen=True)
class Wording:
    """What one skeleton is made of: all plain text, none of it typed by a visitor."""

    kind: str  # a folder below templates/mail
    locale: str
    controller: ControllerView
    purposes: tuple[tuple[str, str, str], ...]  # label, hint, text
    valid_days: int
    tone: str = FORMAL
    letter: Letter | None = None
    way: str = LINK
    picture: Picture | None = None

    @property
    def template(self) -> str:
        """The file of this language and tone in the folder of each part."""
        return INFORMAL_TEMPLATES.get(self.locale, self.locale) if self.tone == INFORMAL else self.locale


def wording_of(
    kind: str,
    locale: str,
    controller: ControllerView,
    definition: Mapping[str, Any],
    *,
    items: Sequence[Mapping[str, str]] | None = None,
    valid_days: int,
) -> Wording:
    """The wording of one kind of mail of a form's version.

    Args:
        items: the purposes that it is about; all of the version if not given.
    """
    letter = letter_of(definition) if kind == "welcome" else None
    tone = str(definition.get("tone") or FORMAL)
    asked = purposes_of(definition["purposes"] if items is None else items)
    return Wording(kind, locale, controller, asked, valid_days, tone, letter, way_of(definition))


def pictured(wording: Wording, picture: Picture | None) -> Wording:
    """The wording with the controller's picture, if it has one."""
    return replace(wording, picture=picture) if picture else wording


def letter_of(definition: Mapping[str, Any]) -> Letter | None:
    """What the form's version says after a confirmation; None when it says nothing."""
    own = definition.get("welcome")
    if not own:
        return None
    return Letter(str(own["subject"]), str(own["text"]), str(own.get("download_url") or ""))


def way_of(definition: Mapping[str, Any]) -> str:
    """How this version of a form lets people confirm."""
    if definition.get("strict"):
        return CODE
    return LINK_OR_CODE if definition.get("code", True) else LINK


@dataclass(frozen=True)
class Skeleton:
    head: str  # the header lines that are the same in every mail of this wording
    text: str
    html: str
    boundary: str


@lru_cache(maxsize=512)
def skeleton(wording: Wording) -> Skeleton:
    """The rendered templates with a mark where each value goes."""
    context: dict[str, Any] = {
        "locale": wording.locale,
        "controller": {**wording.controller.__dict__, "email": wording.controller.reply_to},
        "purposes": [dict(zip(("label", "hint", "text"), item, strict=True)) for item in wording.purposes],
        "valid_days": wording.valid_days,
        "letter": wording.letter,
        "way": wording.way,
        "picture": wording.picture,
        **{name: _mark(name) for name in VALUES},
    }
    subject, text, html = (_render(wording, part, context) for part in ("subject.txt", "body.txt", "body.html"))
    boundary = "=_" + hashlib.sha256((text + html).encode()).hexdigest()[:24]
    head = [
        f"From: {formataddr((wording.controller.name, wording.controller.sender), 'utf-8')}",
        f"Reply-To: {wording.controller.reply_to}",
        f"Subject: {_subject(' '.join(subject.split()))}",
        "MIME-Version: 1.0",
        "Auto-Submitted: auto-generated",
        f'Content-Type: multipart/alternative; boundary="{boundary}"',
    ]
    return Skeleton("\r\n".join(head), _crlf(text), _crlf(html), boundary)


def _render(wording: Wording, part: str, context: Mapping[str, Any]) -> str:
    template = current_app.jinja_env.get_template(f"mail/{wording.kind}/{part}/{wording.template}")
    return template.render(context)


def _mark(name: str) -> str:
    return f"@@{name}@@"


def _crlf(text: str) -> str:
    return "\r\n".join(text.strip().splitlines()) + "\r\n"


def mail_bytes(
    wording: Wording,
    values: Mapping[str, str],
    *,
    recipient: str,
    message_id: str,
    now: datetime,
    headers: Sequence[tuple[str, str]] = (),
) -> bytes:
    """The mail exactly as it will be handed to the mail server.

    Args:
        headers: more header lines, written raw on one line each.

    Rule: RFC 5322, RFC 2045 6.7 (quoted-printable), RFC 3834 (Auto-Submitted); no List-* header, since nobody
    is subscribed by being asked.
    """
    frame = skeleton(wording)
    text, html = frame.text, frame.html
    for name, value in values.items():
        text = text.replace(_mark(name), value)
        html = html.replace(_mark(name), str(escape(value)))
    lines = [f"To: {recipient}", f"Date: {rfc5322_date(now)}", f"Message-ID: {message_id}", frame.head]
    lines += [*(f"{name}: {value}" for name, value in headers), ""]
    pages = [("text/plain", text, None), ("text/html", html, wording.picture)]
    for content_type, body, picture in pages:
        page = [f"Content-Type: {content_type}; charset=utf-8", _QP, "", _quoted(body)]
        lines += [f"--{frame.boundary}", *(_with_picture(page, picture, frame.boundary) if picture else page)]
    return "\r\n".join([*lines, f"--{frame.boundary}--", ""]).encode("ascii")


def _with_picture(page: Sequence[str], picture: Picture, boundary: str) -> list[str]:
    """A part and the picture that it shows.

    Rule: RFC 2387; RFC 2046 5.1.1, no boundary may begin like another.
    """
    inner = boundary.replace("=_", "=.", 1)
    return [
        f'Content-Type: multipart/related; type="text/html"; boundary="{inner}"',
        "",
        f"--{inner}",
        *page,
        f"--{inner}",
        "Content-Type: image/png",
        "Content-Transfer-Encoding: base64",
        f"Content-ID: <{picture.cid}>",
        'Content-Disposition: inline; filename="logo.png"',
        "",
        f"{picture.content}--{inner}--",
    ]


_QP = "Content-Transfer-Encoding: quoted-printable"


def _quoted(body: str) -> str:
    return binascii.b2a_qp(body.encode(), istext=True).decode("ascii")


def _subject(text: str) -> str:
    return text if text.isascii() else Header(text, "utf-8", header_name="Subject").encode(linesep="\r\n")


def local_time(moment: datetime, locale: str, timezone: str) -> str:
    """`moment` in words of the controller's zone, such as `23. November 2026, 10:14 MEZ`."""
    return _minute(moment.replace(second=0, microsecond=0), locale, timezone)


@lru_cache(maxsize=256)
def _minute(moment: datetime, locale: str, timezone: str) -> str:
    dialect, pattern = LONG_TIME[locale]
    return format_datetime(moment, pattern, tzinfo=get_timezone(timezone), locale=dialect)


@dataclass(frozen=True)
class Draft:
    """One mail before it is queued or held.

    Args:
        subject: the person it goes to; None for a mail to the controller's own staff.
    """

    subject: Subject | None
    recipient: str
    wording: Wording
    values: Mapping[str, str]
    confirmation_id: str | None
    give_up_at: datetime
    headers: tuple[tuple[str, str], ...] = ()


def queue(session: Session, draft: Draft, *, now: datetime, waits: str | None = None) -> str:
    """The mail will be handed over once the caller commits; its bytes are final now.

    Args:
        waits: why it is held until somebody releases it; None if it may go.

    Returns:
        Its Message-ID, which never changes: sending twice is seen as the same mail.
    """
    if picture := pictures.of(session, draft.wording.controller):
        draft = replace(draft, wording=pictured(draft.wording, picture))
    ident = new_id("mail", now)
    message_id = f"<{ident}.{secrets.token_hex(4)}@{draft.wording.controller.sender.rpartition('@')[2]}>"
    raw = mail_bytes(
        draft.wording,
        draft.values,
        recipient=draft.recipient,
        message_id=message_id,
        now=now,
        headers=(*draft.headers, *returns.marks(session, message_id)),
    )
    raw = signing.sign(session, draft.wording.controller, raw, now=now)
    content = msgspec.json.encode({"recipient": draft.recipient, "raw": raw.decode("ascii")})
    row = {
        **_row(draft, ident, now=now),
        "state": MessageState.HELD if waits else MessageState.QUEUED,
        "reason": waits,
        "message_id": message_id,
        "envelope_from": returns.path(session, ident) or draft.wording.controller.sender,
        "sealed": session.keys.seal(_key(session, draft), content),
        "sha256": hashlib.sha256(raw).hexdigest(),
    }
    session.put(Message, row)
    if not waits:
        jobs.enqueue(session, JOB_SEND, {"message": ident}, now=now)
    return message_id


def _key(session: Session, draft: Draft) -> bytes:
    return draft.subject.data_key if draft.subject else staff_key(session, draft.wording.controller.id)


def staff_key(session: Session, controller_id: str) -> bytes:
    """What seals a controller's mails to its own staff, who have no data key."""
    return session.keys.keyed_hash("mail to staff", controller_id)


# With bytes it may still be released; without, it is only on record.
# Spelled out, not bound: a database uses a partial index only when the query repeats its condition.
QUARANTINED = and_(Message.state == literal_column("'held'", String), Message.sealed.is_not(None))
UNSENT = or_(Message.state == MessageState.QUEUED, QUARANTINED)


def hold(session: Session, draft: Draft, reason: str, *, now: datetime) -> None:
    """It is on record that a mail was not sent, and why. It is not sent later."""
    row = _row(draft, new_id("mail", now), now=now)
    session.put(Message, {**row, "state": MessageState.HELD, "reason": reason})


def _row(draft: Draft, ident: str, *, now: datetime) -> dict[str, Any]:
    return {
        "id": ident,
        "controller_id": draft.wording.controller.id,
        "contact_id": draft.subject.contact_id if draft.subject else None,
        "confirmation_id": draft.confirmation_id,
        "kind": draft.wording.kind,
        "locale": draft.wording.locale,
        "give_up_at": draft.give_up_at,
        "created_at": now,
    }


def opened(session: Session, data_key: bytes, sealed: bytes) -> tuple[str, bytes]:
    """Recipient and exact bytes of a queued mail."""
    content = msgspec.json.decode(session.keys.unseal(data_key, sealed))
    return content["recipient"], content["raw"].encode("ascii")


def purposes_of(items: Sequence[Mapping[str, str]]) -> tuple[tuple[str, str, str], ...]:
    """The purposes of a form version as a wording wants them."""
    return tuple((item["label"], item["hint"], item["text"]) for item in items)
