"""What a mail that came back says, read without a database. A pure function over bytes; it never raises."""

from __future__ import annotations

import email
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from email.message import Message

from signup.intake.kinds import Kind

# More than any report says; a whole mail of ours is not needed a second time.
MAX_TEXT_CHARACTERS = 8000
MAX_DIAGNOSTIC_CHARACTERS = 500
# RFC 5322 2.1.1 allows 998 in a line.
MAX_ID_CHARACTERS = 998
# Forwarding wraps a report in a few layers; more is an attack on whoever unwraps them.
MAX_PARTS = 200
# The parser asks each layer about each line, so layers are counted before it sees any.
MAX_LAYERS = 20
# What a report says stands in front; behind it comes the mail that it is about, of which the headers are enough.
MAX_READ_BYTES = 256 * 1024
# A report is about one mail, and each name that it could be of ours is looked up.
MAX_NAMES = 20


@dataclass(frozen=True)
class Report:
    """What was read. Only ids and tokens of ours decide whom it is about; the recipient is what it claims.

    Args:
        addresses: to which it came back, or which it calls the return path.
        message_ids: of the mail that it is about.
        reason: why it is unreadable or ignored; names nobody.
    """

    kind: Kind
    addresses: tuple[str, ...] = ()
    message_ids: tuple[str, ...] = ()
    subject: str = ""
    status: str = ""
    recipient: str = ""
    diagnostic: str = ""
    text: str = field(default="", repr=False)
    reason: str = ""


class Malformed(Exception):
    """It says that it is a report, and is none."""


_STATUS = re.compile(r"(?<![\d.])([245])\.(\d{1,3})\.(\d{1,3})(?![\d.])")
_REPLY = re.compile(r"smtp\s*;\s*([45])\d\d\b", re.IGNORECASE)
# Both read each character once: what stands before the @ holds none, and a word is tried from its beginning only.
_MESSAGE_ID = re.compile(r"<[^<>\s@]+@[^<>\s@]+>")
_ADDRESS = re.compile(r"(?<![^\s<>,;:\"()@])[^\s<>,;:\"()@]+@[^\s<>,;:\"()@]+")
_LAYER = re.compile(rb"boundary", re.IGNORECASE)
# Of these only the sending side or the size of a mailbox is to blame: the next mail may get through.
_NOT_THE_ADDRESS = re.compile(r"5\.(?:1\.[78]|2\.[23]|3\.\d+|5\.\d+|6\.\d+|7\.\d+)")
_ACTIONS = {"delivered": Kind.IGNORED, "relayed": Kind.IGNORED, "expanded": Kind.IGNORED, "delayed": Kind.DELAYED}
_WORST = (Kind.HARD, Kind.SOFT, Kind.DELAYED, Kind.IGNORED)
_COMPLAINTS = ("abuse", "fraud", "opt-out", "opt-out-list")
_NO_COMPLAINTS = ("not-spam", "virus", "other", "auth-failure", "dkim", "dmarc")
_TO = ("Delivered-To", "X-Original-To", "Envelope-To", "To", "Cc")


def read(raw: bytes, recipients: Sequence[str] = ()) -> Report:
    """What the mail says, whatever it is made of.

    Args:
        recipients: of the envelope, if they are known; the headers are read too.

    Rule: RFC 3464 delivery reports, RFC 5965 complaints, RFC 3834 automatic answers.
    """
    try:
        mail = email.message_from_bytes(_bounded(raw))
        parts = list(_parts(mail))
        return _read(mail, parts, [*recipients, *_recipients(mail)])
    except Malformed as malformed:
        return Report(Kind.UNREADABLE, tuple(recipients[:MAX_NAMES]), reason=str(malformed))
    except Exception as unexpected:
        # Whatever a stranger can send, the next mail must still be read.
        return Report(Kind.UNREADABLE, tuple(recipients[:MAX_NAMES]), reason=f"not a mail: {type(unexpected).__name__}")


def _bounded(raw: bytes) -> bytes:
    """As much of a mail as is read, when that takes no more than a moment."""
    content = raw[:MAX_READ_BYTES]
    if sum(1 for _ in _LAYER.finditer(content)) > MAX_LAYERS:
        raise Malformed("too many layers")
    return content


def _read(mail: Message, parts: Sequence[Message], recipients: Sequence[str]) -> Report:
    addresses = tuple(dict.fromkeys(recipients))[:MAX_NAMES]
    for part in parts:
        content_type = part.get_content_type()
        if content_type in ("message/delivery-status", "message/global-delivery-status"):
            return _delivery(part, parts, addresses)
        if content_type == "message/feedback-report":
            return _feedback(part, parts, addresses)
    if mail.get_content_type() == "multipart/report":
        raise Malformed("a report without its machine-readable part")
    if not mail.keys():
        raise Malformed("not a mail: no headers")
    subject = _header(mail, "Subject")
    automatic = _automatic(mail)
    if automatic:
        return Report(Kind.IGNORED, addresses, subject=subject, reason=automatic)
    return Report(Kind.UNSUBSCRIBE, addresses, subject=subject, text=_headers_text(mail))


def _parts(mail: Message) -> Iterator[Message]:
    """Every part that belongs to this mail, and none of the mail that it quotes."""
    stack, seen = [mail], 0
    while stack:
        part = stack.pop()
        seen += 1
        if seen > MAX_PARTS:
            raise Malformed("too many parts")
        yield part
        inner = part.get_payload()
        if part.get_content_maintype() == "multipart" and isinstance(inner, list):
            stack.extend(item for item in reversed(inner) if isinstance(item, Message))


def _delivery(part: Message, parts: Sequence[Message], addresses: tuple[str, ...]) -> Report:
    blocks = _blocks(part)
    found = [(_kind_of(block), block) for block in blocks if block.get("Action") or block.get("Status")]
    if not found:
        raise Malformed("a delivery report that names no recipient's status")
    kind, worst = min(found, key=lambda item: _WORST.index(item[0]))
    return Report(
        kind,
        addresses,
        _message_ids(parts),
        status=_status(worst),
        recipient=_typed(_header(worst, "Original-Recipient") or _header(worst, "Final-Recipient")),
        diagnostic=_header(worst, "Diagnostic-Code")[:MAX_DIAGNOSTIC_CHARACTERS],
        text=_text(blocks, parts),
    )


def _blocks(part: Message) -> list[Message]:
    """The groups of fields of a report; some senders encode the part, and then it is read a second time."""
    inner = part.get_payload()
    blocks = [block for block in inner if isinstance(block, Message)] if isinstance(inner, list) else []
    if any(block.keys() for block in blocks):
        return blocks
    # The parser took encoded lines for the fields themselves.
    encoded = Message()
    encoded["Content-Transfer-Encoding"] = _header(part, "Content-Transfer-Encoding")
    encoded.set_payload("".join(block.as_string() for block in blocks) if blocks else str(inner or ""))
    decoded = encoded.get_payload(decode=True)
    groups = re.split(rb"\r?\n[ \t]*\r?\n", decoded.strip()) if isinstance(decoded, bytes) else []
    return [email.message_from_bytes(group) for group in groups if group.strip()]


def _kind_of(block: Message) -> Kind:
    action = _header(block, "Action").lower()
    if action in _ACTIONS:
        return _ACTIONS[action]
    return bounce_kind(_status(block))


def bounce_kind(status: str) -> Kind:
    """Whether a failure with this status says that the address is gone.

    Rule: RFC 3463 2: class 5 is permanent, class 4 is not; the sender's address (3.2), a full mailbox (3.3), 3.4, 3.6,
    3.7 and 3.8 do not speak of the address.

    Raises:
        Malformed: it is no status of a failure.
    """
    found = _STATUS.fullmatch(status)
    if not found or found[1] == "2":
        raise Malformed("a delivery report without a status of failure")
    return Kind.SOFT if found[1] == "4" or _NOT_THE_ADDRESS.fullmatch(status) else Kind.HARD


def _status(block: Message) -> str:
    diagnostic = _header(block, "Diagnostic-Code")
    found = _STATUS.search(_header(block, "Status")) or _STATUS.search(diagnostic)
    if found:
        return found[0]
    code = _REPLY.match(diagnostic)
    return f"{code[1]}.0.0" if code else ""


def _feedback(part: Message, parts: Sequence[Message], addresses: tuple[str, ...]) -> Report:
    blocks = _blocks(part)
    block = next((item for item in blocks if item.get("Feedback-Type")), None)
    if block is None:
        raise Malformed("a complaint that does not say what it is")
    kind_of_feedback = _header(block, "Feedback-Type").lower()
    if kind_of_feedback not in _COMPLAINTS + _NO_COMPLAINTS:
        raise Malformed("a complaint of an unknown kind")
    complaint = kind_of_feedback in _COMPLAINTS
    sender = _found(_ADDRESS, [_header(block, "Original-Mail-From")])
    return Report(
        Kind.COMPLAINT if complaint else Kind.IGNORED,
        (*addresses, *sender),
        _message_ids(parts),
        recipient=_typed(_header(block, "Original-Rcpt-To")),
        diagnostic=kind_of_feedback,
        text=_text(blocks, parts),
        reason="" if complaint else f"feedback of the kind {kind_of_feedback}",
    )


def _message_ids(parts: Iterable[Message]) -> tuple[str, ...]:
    """The Message-ID of the mail that is quoted, whole or by its headers."""
    ids: list[str] = []
    for part in parts:
        content_type = part.get_content_type()
        if content_type in ("message/rfc822", "message/global"):
            quoted = part.get_payload()
            ids += [_header(item, "Message-ID") for item in quoted if isinstance(item, Message)] if quoted else []
            ids += _quoted_ids(part)
        elif content_type in ("text/rfc822-headers", "message/global-headers", "message/rfc822-headers"):
            ids += _quoted_ids(part)
    return _found(_MESSAGE_ID, ids)


def _quoted_ids(part: Message) -> list[str]:
    inner = part.get_payload(decode=True)
    if not isinstance(inner, bytes):
        payload = part.get_payload()
        inner = payload.encode("utf-8", "replace") if isinstance(payload, str) else b""
    return [_header(email.message_from_bytes(inner), "Message-ID")] if inner else []


def _automatic(mail: Message) -> str:
    """Why nobody meant this mail for us, or nothing.

    Some mail clients mark the mail by which they unsubscribe as generated; a holiday notice is marked as a reply.

    Rule: RFC 3834 2 and 5.
    """
    submitted = _header(mail, "Auto-Submitted").partition(";")[0].strip().lower()
    if submitted not in ("", "no", "auto-generated"):
        return "an automatic answer"
    if _header(mail, "Return-Path").strip() == "<>":
        return "from the null sender"
    if any(mail.get(name) is not None for name in ("X-Autoreply", "X-Autorespond", "X-Auto-Response-From")):
        return "an automatic answer"
    if _header(mail, "Precedence").strip().lower() in ("auto_reply", "bulk", "junk", "list"):
        return "bulk mail or an automatic answer"
    return ""


def _recipients(mail: Message) -> list[str]:
    return [address for name in _TO for value in mail.get_all(name, []) for address in _ADDRESS.findall(str(value))]


def _header(mail: Message, name: str) -> str:
    value = mail.get(name)
    return " ".join(str(value).split()) if value is not None else ""


def _typed(value: str) -> str:
    """`rfc822; anna@kunde.example` without its type."""
    found = _ADDRESS.search(value.partition(";")[2] or value)
    return found[0][:MAX_ID_CHARACTERS] if found else ""


def _found(pattern: re.Pattern[str], values: Iterable[str]) -> tuple[str, ...]:
    found = [match for value in values for match in pattern.findall(value) if len(match) <= MAX_ID_CHARACTERS]
    return tuple(dict.fromkeys(found))[:MAX_NAMES]


def _text(blocks: Iterable[Message], parts: Sequence[Message]) -> str:
    """What the report says, for people: its fields, and the words before them."""
    said = [_headers_text(block) for block in blocks]
    for part in parts:
        content = part.get_payload(decode=True) if part.get_content_type() == "text/plain" else None
        if isinstance(content, bytes):
            said.append(content.decode("utf-8", "replace"))
    return _clean("\n\n".join(said))


def _headers_text(mail: Message) -> str:
    return _clean("\n".join(f"{name}: {' '.join(str(value).split())}" for name, value in mail.items()))


def _clean(text: str) -> str:
    # No lone surrogate and no NUL: what is sealed is UTF-8 and may be shown.
    kept = text.replace("\x00", "").encode("utf-8", "replace").decode()
    return kept[:MAX_TEXT_CHARACTERS]
