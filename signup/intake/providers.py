"""Notices of mail providers, by table: where each says what happened to which mail.

A new one is an entry, a recorded sample and who may send it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import msgspec

from signup.intake.kinds import Kind, Way
from signup.intake.reports import MAX_DIAGNOSTIC_CHARACTERS, MAX_ID_CHARACTERS, MAX_TEXT_CHARACTERS, Report


@dataclass(frozen=True)
class Provider:
    """One provider.

    A path is names joined by dots; a number takes one of a list, `name=X` of a list the item of that name.

    Args:
        kind: paths whose values, joined by a slash as far as there are any, say what happened.
        kinds: what that means; the longest beginning that is listed counts, and what is not listed is ignored.
        message_ids: paths to the Message-ID of our mail.
        return_paths: paths to the address that it would have returned to.
    """

    way: Way
    kind: tuple[str, ...]
    kinds: Mapping[str, Kind]
    message_ids: tuple[str, ...]
    return_paths: tuple[str, ...] = ()
    recipient: tuple[str, ...] = ()
    status: tuple[str, ...] = ()
    diagnostic: tuple[str, ...] = ()


PROVIDERS: dict[str, Provider] = {
    # https://docs.aws.amazon.com/ses/latest/dg/notification-contents.html
    "ses": Provider(
        way=Way.SES,
        kind=("notificationType", "eventType", "bounce.bounceType", "complaint.complaintFeedbackType"),
        kinds={
            "Bounce/Permanent": Kind.HARD,
            "Bounce": Kind.SOFT,
            "Complaint": Kind.COMPLAINT,
            "Complaint/not-spam": Kind.IGNORED,
            "DeliveryDelay": Kind.DELAYED,
        },
        message_ids=("mail.headers.name=Message-ID.value", "mail.commonHeaders.messageId"),
        return_paths=("mail.source",),
        recipient=("bounce.bouncedRecipients.0.emailAddress", "complaint.complainedRecipients.0.emailAddress"),
        status=("bounce.bouncedRecipients.0.status",),
        diagnostic=("bounce.bouncedRecipients.0.diagnosticCode", "complaint.complaintFeedbackType"),
    ),
    # https://developers.brevo.com/docs/transactional-webhooks
    "brevo": Provider(
        way=Way.BREVO,
        kind=("event",),
        kinds={
            "hard_bounce": Kind.HARD,
            "invalid_email": Kind.HARD,
            "soft_bounce": Kind.SOFT,
            "blocked": Kind.SOFT,
            "deferred": Kind.DELAYED,
            "spam": Kind.COMPLAINT,
            "complaint": Kind.COMPLAINT,
            "unsubscribed": Kind.UNSUBSCRIBE,
        },
        message_ids=("message-id", "X-Mailin-custom"),
        recipient=("email",),
        diagnostic=("reason",),
    ),
}

_STATUS = re.compile(r"[245]\.\d{1,3}\.\d{1,3}")
_MESSAGE_ID = re.compile(r"<?([^<>\s@]+@[^<>\s@]+)>?")


def read(provider: Provider, raw: bytes) -> Report:
    """What a notice says; one that says nothing we can read is unreadable, and never an error."""
    try:
        notice = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return Report(Kind.UNREADABLE, reason="a notice that is not JSON")
    happened = "/".join(_texts(notice, provider.kind))
    if not happened:
        return Report(Kind.UNREADABLE, reason="a notice that does not say what happened")
    kind = _kind(provider.kinds, happened)
    ids = [found[1] for text in _texts(notice, provider.message_ids) if (found := _MESSAGE_ID.fullmatch(text.strip()))]
    status = next((text for text in _texts(notice, provider.status) if _STATUS.fullmatch(text)), "")
    return Report(
        kind,
        _texts(notice, provider.return_paths),
        tuple(f"<{ident}>" for ident in dict.fromkeys(ids)),
        status=status,
        recipient=_first(notice, provider.recipient)[:MAX_ID_CHARACTERS],
        diagnostic=_first(notice, provider.diagnostic)[:MAX_DIAGNOSTIC_CHARACTERS],
        text=raw.decode("utf-8", "replace")[:MAX_TEXT_CHARACTERS],
        reason=f"the event {happened[:80]}" if kind is Kind.IGNORED else "",
    )


def _kind(kinds: Mapping[str, Kind], happened: str) -> Kind:
    while happened:
        if happened in kinds:
            return kinds[happened]
        happened = happened.rpartition("/")[0]
    return Kind.IGNORED


def _first(notice: Any, paths: Iterable[str]) -> str:
    return next(iter(_texts(notice, paths)), "")


def _texts(notice: Any, paths: Iterable[str]) -> tuple[str, ...]:
    found = (_at(notice, path) for path in paths)
    return tuple(text.replace("\x00", "") for text in found if isinstance(text, str) and text)


def _at(value: Any, path: str) -> Any:
    for step in path.split("."):
        name, named, wanted = step.partition("=")
        if named:
            items = value if isinstance(value, list) else []
            value = next((item for item in items if isinstance(item, dict) and _is_called(item, name, wanted)), None)
        elif isinstance(value, list) and step.isdigit() and int(step) < len(value):
            value = value[int(step)]
        else:
            value = value.get(step) if isinstance(value, dict) else None
    return value


def _is_called(item: Mapping[str, Any], name: str, wanted: str) -> bool:
    return str(item.get(name, "")).lower() == wanted.lower()
