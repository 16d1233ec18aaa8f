"""The URLs we mail, and the ready header values for those who mail on our behalf."""

from __future__ import annotations

from signup.consents import actions as consents
from signup.core import plus
from signup.core.db import Session

CONFIRM = "confirm"
NOT_ME = "not-me"
CODE = "code"
PREFERENCES = "preferences"
UNSUBSCRIBE = consents.LINK_PURPOSE
ONE_CLICK = "List-Unsubscribe=One-Click"


def confirm_url(session: Session, ident: bytes) -> str:
    return f"{session.config.public_url}/confirm/{session.keys.token(CONFIRM, ident)}"


def not_me_url(session: Session, ident: bytes) -> str:
    return f"{session.config.public_url}/not-me/{session.keys.token(NOT_ME, ident)}"


def code_url(session: Session, ident: bytes) -> str:
    """Where the code of a mail can be typed on any device. The link itself confirms nothing."""
    return f"{session.config.public_url}/code/{session.keys.token(CODE, ident)}"


def unsubscribe_id(session: Session, subscription_id: str, epoch: int) -> bytes:
    """The id behind the link that ends everything; derivable for as long as the epoch lasts."""
    return session.keys.derived_id(UNSUBSCRIBE, subscription_id, epoch)


def preferences_url(session: Session, ident: bytes) -> str:
    """Where topics, frequency and pause are set.

    Args:
        ident: of the link that ends everything: both stand for the subscription, and go with its epoch.
    """
    return f"{session.config.public_url}/preferences/{session.keys.token(PREFERENCES, ident)}"


def unsubscribe_url(session: Session, subscription_id: str, epoch: int, topic: str | None = None) -> str:
    """The link that ends the subscription, or just one topic."""
    return _url(session, _id(session, subscription_id, epoch, topic))


def _id(session: Session, subscription_id: str, epoch: int, topic: str | None) -> bytes:
    if topic:
        return consents.link_id(session, subscription_id, topic, epoch)
    return unsubscribe_id(session, subscription_id, epoch)


def _url(session: Session, ident: bytes) -> str:
    return f"{session.config.public_url}/unsubscribe/{session.keys.token(UNSUBSCRIBE, ident)}"


def list_unsubscribe(session: Session, subscription_id: str, epoch: int, topic: str | None = None) -> str:
    """The value of a List-Unsubscribe header, to be written raw and signed by DKIM.

    The https link comes first; with a mailbox for it, an address follows whose mails do the same.

    Rule: RFC 8058 3.1, exactly one HTTPS URI; RFC 2369 2, the first that a mail client can use.
    """
    return _header(session, _id(session, subscription_id, epoch, topic))


def _header(session: Session, ident: bytes) -> str:
    mailbox = session.config.intake.unsubscribe_mailbox
    if mailbox is None:
        return f"<{_url(session, ident)}>"
    return f"<{_url(session, ident)}>, <mailto:{plus.with_token(mailbox, plus.spelled(ident))}?subject=unsubscribe>"


def of_all(session: Session, subscription_id: str, epoch: int) -> tuple[str, str]:
    """The header value that ends everything, and the URL of the preferences; their id is derived once."""
    ident = unsubscribe_id(session, subscription_id, epoch)
    return _header(session, ident), preferences_url(session, ident)
