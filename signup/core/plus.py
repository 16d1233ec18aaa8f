"""Mail addresses with a token behind a plus sign: who the mail is about is in the address it comes back to."""

from __future__ import annotations

from base64 import b32decode, b32encode

# RFC 5321 4.5.3.1.1.
MAX_LOCAL_CHARACTERS = 64
# The longest token: an id of ours and its check in base32.
TOKEN_CHARACTERS = 42


def with_token(mailbox: str, token: str) -> str:
    """`name+token@host`.

    Rule: RFC 5233, subaddressing.
    """
    local, _, host = mailbox.partition("@")
    return f"{local}+{token}@{host}"


def token_in(address: str, mailbox: str) -> str | None:
    """The token in an address of this mailbox, in lower case: mail servers change the case as they like."""
    local, _, host = address.strip().strip("<>").lower().rpartition("@")
    name, plus, token = local.partition("+")
    return token if plus and f"{name}@{host}" == mailbox and token else None


def is_mailbox(address: str, mailbox: str) -> bool:
    """Whether the address is the mailbox itself, without a token."""
    return address.strip().strip("<>").lower() == mailbox


def spelled(data: bytes) -> str:
    """`data` in letters and digits that survive a change of case."""
    return b32encode(data).decode().rstrip("=").lower()


def unspelled(text: str) -> bytes | None:
    """What was spelled, or None when it is not the one spelling of anything."""
    try:
        data = b32decode(text.upper() + "=" * (-len(text) % 8))
    except ValueError:
        return None
    return data if spelled(data) == text else None
