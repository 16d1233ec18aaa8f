"""What was not sent, and why."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select

from signup.contacts.models import Contact
from signup.core.db import Session
from signup.mail.models import Message, MessageState


@dataclass(frozen=True)
class Held:
    to: str
    reason: str
    at: datetime


def newest(session: Session, *, limit: int = 50) -> list[Held]:
    """The newest mails that a cap or a suppression held back, over all controllers."""
    rows = session.execute(
        select(Contact.email, Message.reason, Message.created_at)
        .join(Contact, Contact.id == Message.contact_id)
        .where(Message.state.in_([MessageState.HELD, MessageState.FAILED]))
        .order_by(Message.id.desc())
        .limit(limit)
    )
    return [Held(email, reason or "", created_at) for email, reason, created_at in rows]
