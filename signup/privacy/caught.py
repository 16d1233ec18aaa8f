"""Mails of the erased in the development mailbox: files that no database forgets."""

from __future__ import annotations

import re
from pathlib import Path

from sqlalchemy import select

from signup.core.db import Session
from signup.mail.models import Message

# The headers come first, and of ours the Message-ID is the third.
HEAD_BYTES = 4096
BATCH = 500
_MESSAGE_ID = re.compile(rb"^Message-ID:\s*(<[^<>\s]+>)", re.IGNORECASE | re.MULTILINE)


def stale(session: Session, folder: Path) -> list[Path]:
    """The files of caught mails whose recipient is erased."""
    files = {ident: path for path in sorted(folder.glob("*.eml")) if (ident := _ident(path))}
    named, found = list(files), []
    for start in range(0, len(named), BATCH):
        gone = select(Message.message_id).where(
            Message.message_id.in_(named[start : start + BATCH]),
            Message.contact_id.is_(None),
            Message.kind != "staff-notice",
        )
        found += [files[ident] for ident in session.scalars(gone) if ident]
    return found


def remove(paths: list[Path]) -> None:
    """These mails, and what the mailbox noted of their delivery, are gone."""
    for path in paths:
        path.unlink(missing_ok=True)
        path.with_suffix(".json").unlink(missing_ok=True)


def _ident(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            found = _MESSAGE_ID.search(file.read(HEAD_BYTES))
    except FileNotFoundError:
        return None
    return found[1].decode("latin-1") if found else None
