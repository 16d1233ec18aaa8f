"""The mails that asked, as text that can be read on paper."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from email.utils import parsedate_to_datetime
from typing import Any

from signup.evidence.bundle import Bundle
from signup.evidence.files import MAIL_FIELDS
from signup.evidence.telling import Step
from signup.evidence.words import Words

# A confirmation mail has some 1,500 characters.
BODY_CHARACTERS = 12_000
HEADERS = (("from", "From"), ("to", "To"), ("subject", "Subject"))


def told(bundle: Bundle, steps: list[Step], words: Words) -> dict[str, Any]:
    """Every mail of the bundle with its headers, and what is left out with the reason."""
    items = list(_letters(bundle, steps, words))
    left = [words("mails.open", sha256=item.sha256) for item in bundle.left_out if item.shown_as is None]
    lead = [words("mails.lead" if items else "mails.none"), *left]
    return {"title": words("mails.title"), "lead": lead, "items": items}


def _letters(bundle: Bundle, steps: list[Step], words: Words) -> Iterator[dict[str, Any]]:
    blanked = {item.shown_as for item in bundle.left_out}
    named = [step.fields.get(name) for step in steps for name in MAIL_FIELDS]
    found = [sha256 for sha256 in dict.fromkeys(named) if sha256 in bundle.blobs]
    for number, sha256 in enumerate(found, start=1):
        file = "confirmation.eml" if number == 1 else f"confirmation-{number}.eml"
        yield _letter(base64.b64decode(bundle.blobs[sha256]), file, sha256 in blanked, words)


def _letter(raw: bytes, file: str, blanked: bool, words: Words) -> dict[str, Any]:
    message = message_from_bytes(raw, policy=default)
    body = _text(message)
    rows: list[dict[str, Any]]
    rows = [{"label": words(f"mails.{key}"), "value": words.typed(str(message.get(name, "")))} for key, name in HEADERS]
    rows.append({"label": "Message-ID", "value": words.typed(str(message.get("Message-ID", ""))), "mono": True})
    rows.append({"label": words("mails.file"), "value": file})
    notes = [words("mails.more")] if len(body) > BODY_CHARACTERS else []
    return {
        "title": words("mails.item", date=_date(message, words)),
        "rows": rows,
        "body": words.lines(body, BODY_CHARACTERS),
        "notes": notes + ([words("mails.blanked")] if blanked else []),
    }


def _text(message: EmailMessage) -> str:
    part = message.get_body(("plain",))
    return str(part.get_content()) if part is not None else ""


def _date(message: EmailMessage, words: Words) -> str:
    try:
        return words.moment(parsedate_to_datetime(str(message["Date"])))
    except ValueError:
        return words("unstated")
