"""The mails that asked somebody, as far as they may be shown now."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select

from signup.core.db import Session
from signup.mail import compose
from signup.mail.blanking import blanked
from signup.mail.models import Message, MessageState
from signup.subscriptions import answers
from signup.subscriptions.models import Confirmation
from signup.subscriptions.rules import Link, NotMe

KIND = "confirm"
# What still waits, or was never sent, asked nobody.
HANDED_OVER = (MessageState.ACCEPTED, MessageState.FAILED)


@dataclass(frozen=True)
class Shown:
    """One mail.

    Args:
        sha256: of the bytes that were handed over.
        content: those bytes; or the same with the tokens of its links blanked; None when not even that may be shown.
        why: what keeps the bytes back.
    """

    sha256: str
    content: bytes | None
    why: str | None = None

    @property
    def content_sha256(self) -> str | None:
        return hashlib.sha256(self.content).hexdigest() if self.content is not None else None


def asked(session: Session, controller_id: str, contact_id: str, data_key: bytes, *, now: datetime) -> Iterator[Shown]:
    """Every mail that was handed over to ask this person for a confirmation, oldest first.

    While a question is open its mail stays shut: link and code in it would answer for whoever reads them here. Once
    it is answered, "that was not me" still ends what was confirmed, so the tokens are blanked until it no longer does.

    Rule: GDPR 7(1), the declaration as it was asked for; GDPR 32.
    """
    query = (
        select(Message.sha256, Message.sealed, Confirmation.token_hash)
        .join(Confirmation, Confirmation.id == Message.confirmation_id)
        .where(Message.contact_id == contact_id, Message.controller_id == controller_id, Message.kind == KIND)
        .where(Message.sealed.is_not(None), Message.state.in_(HANDED_OVER))
        .order_by(Message.id)
    )
    for sha256, sealed, token_hash in session.execute(query).all():
        why = _kept_back(session, bytes(token_hash), now=now)
        if why == "question-open":
            yield Shown(sha256 or "", None, why)
            continue
        _, raw = compose.opened(session, data_key, sealed or b"")
        yield Shown(sha256 or "", blanked(raw) if why else raw, why)


def _kept_back(session: Session, token_hash: bytes, *, now: datetime) -> str | None:
    question = answers.look_up(session, token_hash, now=now)
    if question is None:
        return None
    if question.link in (Link.OPEN, Link.REPLACED):
        return "question-open"
    return "link-acts" if question.not_me in (NotMe.OPEN, NotMe.AFTER_CONFIRM) else None
