"""Return paths: each mail has one of its own, so that what comes back says which mail it is about."""

from __future__ import annotations

import hmac

from signup.core import plus
from signup.core.db import Session

PREFIX = "mail_"
# 80 bits: nobody finds one by sending mails.
CHECK_BYTES = 10
CHECK_CHARACTERS = 16


def path(session: Session, message_id: str) -> str | None:
    """Where the mail with this id returns to; None when there is no mailbox for that.

    Rule: RFC 5321 4.4, the return path; RFC 3464 2.1, reports go there.
    """
    mailbox = session.config.intake.bounce_address
    if mailbox is None:
        return None
    return plus.with_token(mailbox, message_id.removeprefix(PREFIX) + _check(session, message_id))


def marks(session: Session, message_id: str) -> tuple[tuple[str, str], ...]:
    """Header lines by which a provider's notices name the mail, should it replace the Message-ID by one of its own."""
    return (("X-Mailin-custom", message_id),) if session.config.intake.brevo_token else ()


def message_behind(session: Session, token: str) -> str | None:
    """The id of the mail whose return path holds this token; None when we never made it."""
    ident = PREFIX + token[:-CHECK_CHARACTERS]
    if not token.isascii() or not hmac.compare_digest(token[-CHECK_CHARACTERS:], _check(session, ident)):
        return None
    return ident


def _check(session: Session, message_id: str) -> str:
    return plus.spelled(session.keys.keyed_hash("return path", message_id)[:CHECK_BYTES])
