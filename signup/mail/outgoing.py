"""Leased mails, opened: what is about to be handed over, or why it will not be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec
from sqlalchemy import BindParameter, bindparam, func, select

from signup import jobs
from signup.contacts import actions as contacts
from signup.core.db import Session
from signup.eventlog.record import Subject
from signup.mail import compose
from signup.mail.models import Message, MessageState

ERASED = "the person was erased"
EXPIRED = "the link in it has expired"
UNREADABLE = "its sealed bytes cannot be opened"


@dataclass(frozen=True)
class Outgoing:
    """A mail, opened and ready to go.

    Args:
        stop: why it must not go any more.
        broken: why it cannot go, now or later.
    """

    message_id: str
    controller_id: str
    confirmation_id: str | None
    subject: Subject | None
    header_id: str
    sender: str
    sha256: str
    recipient: str = ""
    raw: bytes = b""
    stop: str | None = None
    broken: str | None = None


def open_all(
    session: Session, leased: Sequence[jobs.Job], *, now: datetime
) -> tuple[list[tuple[jobs.Job, Outgoing | None]], datetime]:
    """Each leased job with its mail; None if that is not queued any more.

    Returns:
        The pairs in the order of the mails, and when the first lease ends.
    """
    ours = {"ids": [job.id for job in leased], "tokens": sorted({job.lease_token for job in leased})}
    ends = session.scalar(_FIRST_END, ours)
    by_message: dict[str, jobs.Job] = {str(job.payload["message"]): job for job in leased}
    rows = session.execute(_QUEUED, {"ids": list(by_message)}).all()
    keys, unreadable = _keys(session, sorted({row.contact_id for row in rows if row.contact_id}))
    opened = {row.id: _opened(session, row, keys, unreadable, now=now) for row in rows}
    return [(by_message[ident], opened.get(ident)) for ident in sorted(by_message)], ends or now


_COLUMNS = (
    Message.id,
    Message.controller_id,
    Message.contact_id,
    Message.confirmation_id,
    Message.message_id,
    Message.envelope_from,
    Message.sha256,
    Message.sealed,
    Message.give_up_at,
)


# Built once: building them for each batch would cost more than the database does.
_IDS: BindParameter[list[str]] = bindparam("ids", expanding=True)
_FIRST_END = select(func.min(jobs.JobRow.next_at)).where(
    jobs.JobRow.id.in_(_IDS), jobs.JobRow.lease_token.in_(bindparam("tokens", expanding=True))
)
_QUEUED = select(*_COLUMNS).where(Message.id.in_(_IDS), Message.state == MessageState.QUEUED)


def _keys(session: Session, contact_ids: Sequence[str]) -> tuple[dict[str, bytes], set[str]]:
    """The data keys that open, and whose key does not: one that is damaged must not hide the others."""
    try:
        return contacts.open_keys(session, contact_ids), set()
    except ValueError:
        keys: dict[str, bytes] = {}
        unreadable: set[str] = set()
    for contact_id in contact_ids:
        try:
            keys |= contacts.open_keys(session, [contact_id])
        except ValueError:
            unreadable.add(contact_id)
    return keys, unreadable


def _opened(session: Session, row: Any, keys: dict[str, bytes], unreadable: set[str], *, now: datetime) -> Outgoing:
    # Whoever was erased has no sealed mail any more, so one without a contact is to staff.
    key = keys.get(row.contact_id) if row.contact_id else compose.staff_key(session, row.controller_id)
    recipient, raw, stop, broken = "", b"", None, None
    if row.contact_id in unreadable:
        broken = UNREADABLE
    elif row.sealed is None or key is None:
        stop = ERASED
    elif now >= row.give_up_at:
        stop = EXPIRED
    else:
        try:
            recipient, raw = compose.opened(session, key, row.sealed)
        except (ValueError, msgspec.DecodeError):
            broken = UNREADABLE
    return Outgoing(
        message_id=row.id,
        controller_id=row.controller_id,
        confirmation_id=row.confirmation_id,
        subject=Subject(row.contact_id, key) if row.contact_id and key else None,
        header_id=row.message_id or "",
        sender=row.envelope_from or "",
        sha256=row.sha256 or "",
        recipient=recipient,
        raw=raw,
        stop=stop,
        broken=broken,
    )
