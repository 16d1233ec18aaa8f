"""What is still known of a mail that somebody brings back, though the address it went to is gone."""

from __future__ import annotations

import email
import json
import quopri
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import select

from signup.core.db import Session
from signup.core.signing import token_hash
from signup.core.values import Actor, ClientInfo
from signup.eventlog.kinds import EventType
from signup.eventlog.models import Checkpoint, Disclosure, Event
from signup.eventlog.record import client_fields, record
from signup.forms import actions as forms
from signup.forms.rules import FormView
from signup.mail.models import Message
from signup.subscriptions.models import Confirmation

# A confirmation mail has some ten kilobytes; one that was forwarded with everything around it, a few hundred.
MAX_READ_BYTES = 2 * 1024 * 1024
# The parser asks each layer about each line.
MAX_LAYERS = 20
# A mail in a mail: attached by one colleague, forwarded by the next.
MAX_WRAPPINGS = 3
MAX_NAMES = 50
PURPOSES = ("confirm", "not-me", "code")
_MESSAGE_ID = re.compile(r"<[^<>\s@]{1,300}@[^<>\s@]{1,255}>")
_QUOTED = re.compile(rb"^(?:> ?)+", re.MULTILINE)
_TOKEN = re.compile(r"/(" + "|".join(PURPOSES) + r")/([A-Za-z0-9_-]{16,60}\.[A-Za-z0-9_-]{16,60})")


@dataclass(frozen=True)
class Trace:
    """One event of the sign-up, with what it still discloses."""

    id: str
    type: str
    occurred_at: datetime
    fields: dict[str, Any]
    leaf_index: int | None
    sealed_by: int | None  # size of the first checkpoint over it
    sealed_at: datetime | None


@dataclass(frozen=True)
class Residue:
    """A mail of ours and the sign-up that it asked about.

    Args:
        matched: what of the file is ours: `message-id`, `token`, or both.
        contact_id: whom it went to; None once the person's data is gone.
        outcome: open, confirmed, expired, refused, replaced or cancelled; None when the mail asked nothing.
    """

    matched: tuple[str, ...]
    contact_id: str | None
    message_id: str | None
    mail_sha256: str | None
    mail_state: str | None
    accepted_at: datetime | None
    form: str | None
    form_version: int | None
    form_sha256: str | None
    asked_at: datetime | None
    outcome: str | None
    closed_at: datetime | None
    traces: list[Trace] = field(default_factory=list)


def search(
    session: Session, controller_id: str, raw: bytes, *, client: ClientInfo | None, actor: Actor, now: datetime
) -> list[Residue]:
    """Like `find`, and it is on record that somebody looked."""
    found = find(session, controller_id, raw)
    fields = {"rows": len(found), **client_fields(client)}
    record(session, controller_id, EventType.EVIDENCE_READ, fields, now=now, actor=actor)
    return found


def find(session: Session, controller_id: str, raw: bytes) -> list[Residue]:
    """What is known of the mails of this controller that the file `raw` is, quotes or carries.

    Nothing personal is needed for it: Message-IDs and the hashes of tokens name nobody, and stay.

    Args:
        raw: the disputed mail as a file, or any text with its headers or its link.

    Returns:
        One for each mail or question; nothing when none is ours.

    Rule: GDPR 17(3)(e) and 5(2): whoever is asked "why did you write to me" years later can still answer.
    """
    texts = list(_texts(raw[:MAX_READ_BYTES]))
    messages = _messages(session, controller_id, texts)
    questions = _questions(session, controller_id, texts)
    asked = {row.confirmation_id for row in messages}
    found = [_of_message(session, row, questions) for row in messages]
    return found + [_of_question(session, item) for item in questions if item.id not in asked]


def _texts(raw: bytes, depth: int = 0) -> Iterator[str]:
    """The file in all readings that may show an id or a link: as it is, and without what mail wraps it in."""
    # Who answers a mail quotes it.
    plain = _QUOTED.sub(b"", raw)
    yield plain.decode("latin-1")
    yield quopri.decodestring(plain).decode("latin-1")
    if raw.lower().count(b"boundary") > MAX_LAYERS:
        return
    for part in email.message_from_bytes(raw).walk():
        content: object = part.get_payload(decode=True)
        if not isinstance(content, bytes):
            continue
        if depth < MAX_WRAPPINGS and content != raw:
            yield from _texts(content, depth + 1)
        else:
            yield content.decode("latin-1")


def _messages(session: Session, controller_id: str, texts: Sequence[str]) -> Sequence[Message]:
    named = list(dict.fromkeys(ident for text in texts for ident in _MESSAGE_ID.findall(text)))[:MAX_NAMES]
    query = select(Message).where(Message.controller_id == controller_id, Message.message_id.in_(named))
    return session.scalars(query.order_by(Message.id)).all()


def _questions(session: Session, controller_id: str, texts: Sequence[str]) -> Sequence[Confirmation]:
    named = list(dict.fromkeys(found for text in texts for found in _TOKEN.findall(text)))[:MAX_NAMES]
    opened = (session.keys.open_token(purpose, token) for purpose, token in named)
    hashes = {token_hash(ident) for ident in opened if ident is not None}
    query = select(Confirmation).where(
        Confirmation.controller_id == controller_id, Confirmation.token_hash.in_(list(hashes))
    )
    return session.scalars(query.order_by(Confirmation.id)).all()


def _of_message(session: Session, message: Message, questions: Sequence[Confirmation]) -> Residue:
    question = session.get(Confirmation, message.confirmation_id) if message.confirmation_id else None
    matched = ("message-id", "token") if question in questions and question is not None else ("message-id",)
    return _residue(session, matched, message, question)


def _of_question(session: Session, question: Confirmation) -> Residue:
    """The mail of a question is named by the event of its hand-over."""
    traces = _traces(session, question.controller_id, None, question)
    header = next((trace.fields["message_id"] for trace in traces if "message_id" in trace.fields), None)
    message = session.scalars(select(Message).where(Message.message_id == header)).first() if header else None
    return _residue(session, ("token",), message, question)


def _residue(
    session: Session, matched: tuple[str, ...], message: Message | None, question: Confirmation | None
) -> Residue:
    view: FormView | None = forms.by_version_id(session, question.form_version_id) if question else None
    owner = (question.contact_id if question else None) or (message.contact_id if message else None)
    controller_id = question.controller_id if question else message.controller_id if message else ""
    return Residue(
        matched=matched,
        contact_id=owner,
        message_id=message.message_id if message else None,
        mail_sha256=message.sha256 if message else None,
        mail_state=message.state.value if message else None,
        accepted_at=message.accepted_at if message else None,
        form=view.slug if view else None,
        form_version=view.version if view else None,
        form_sha256=view.sha256 if view else None,
        asked_at=question.created_at if question else None,
        outcome=question.state.value if question else None,
        closed_at=question.closed_at if question else None,
        traces=_traces(session, controller_id, message, question),
    )


def _traces(
    session: Session, controller_id: str, message: Message | None, question: Confirmation | None
) -> list[Trace]:
    """The events of the sign-up, found by when things happened to it: no event says any more whom it was about."""
    moments = {message.created_at, message.accepted_at} if message else set()
    moments |= {question.created_at, question.sent_at, question.closed_at} if question else set()
    events = session.execute(
        select(Event.id, Event.kind, Event.occurred_at, Event.leaf_index)
        .where(Event.controller_id == controller_id, Event.occurred_at.in_([at for at in moments if at is not None]))
        .order_by(Event.occurred_at, Event.id)
    ).all()
    known = _names(message, question)
    disclosed = _open_fields(session, [event.id for event in events])
    return [
        _trace(session, event, disclosed[event.id])
        for event in events
        if known & {str(value) for value in disclosed[event.id].values()}
    ]


def _names(message: Message | None, question: Confirmation | None) -> set[str]:
    """By what an event of this sign-up names it; all of it random, so that another cannot have the same."""
    found = {message.message_id} if message else set()
    if question:
        found |= {question.id, question.token_hash.hex()}
        # Its end may be told by the subscription alone.
        found |= {question.subscription_id, question.act_id}
    return {name for name in found if name}


def _open_fields(session: Session, event_ids: Sequence[str]) -> dict[str, dict[str, Any]]:
    """What the events disclose to whoever has no person's key."""
    fields: dict[str, dict[str, Any]] = {ident: {} for ident in event_ids}
    query = select(Disclosure.event_id, Disclosure.data)
    for ident, data in session.execute(query.where(Disclosure.event_id.in_(list(event_ids)), ~Disclosure.sealed)):
        for line in bytes(data).split(b"\n"):
            _, name, value = json.loads(line)
            fields[ident][name] = value
    return fields


def _trace(session: Session, event: Any, fields: dict[str, Any]) -> Trace:
    seal = None
    if event.leaf_index is not None:
        over = select(Checkpoint.size, Checkpoint.created_at).where(Checkpoint.size > event.leaf_index)
        seal = session.execute(over.order_by(Checkpoint.size).limit(1)).first()
    return Trace(
        event.id,
        event.kind.value,
        event.occurred_at,
        dict(sorted(fields.items())),
        event.leaf_index,
        seal.size if seal else None,
        seal.created_at if seal else None,
    )
