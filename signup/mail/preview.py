"""A form's mails as their readers will get them, with links that lead nowhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from email import message_from_bytes, policy
from email.message import EmailMessage
from typing import Any

from signup.core.errors import Invalid
from signup.mail import compose, linting
from signup.mail.linting import Allowed, Problem
from signup.mail.pictures import Picture
from signup.purposes.actions import ControllerView

KINDS = ("confirm", "already", "welcome")
# As long as a real token; not signed by anybody, so it opens nothing.
SAMPLE_TOKEN = "Muster-" + "0" * 59
SAMPLE_CODE = "000000"
# Nobody's address, and easy to find again where it must not be.
SAMPLE_RECIPIENT = "muster.empfang@example.org"


@dataclass(frozen=True)
class Sample:
    """One version of a form, as far as its mails need it."""

    slug: str
    locale: str
    controller: ControllerView
    definition: Mapping[str, Any]
    public_url: str
    valid_days: int
    picture: Picture | None = None


def values(sample: Sample, *, now: datetime) -> dict[str, str]:
    """What stands for the values that differ from mail to mail."""
    root = sample.public_url
    return {
        "confirm_url": f"{root}/confirm/{SAMPLE_TOKEN}",
        "code_url": f"{root}/code/{SAMPLE_TOKEN}",
        "code": SAMPLE_CODE,
        "not_me_url": f"{root}/not-me/{SAMPLE_TOKEN}",
        "unsubscribe_url": f"{root}/unsubscribe/{SAMPLE_TOKEN}",
        "preferences_url": f"{root}/preferences/{SAMPLE_TOKEN}",
        "requested_at": compose.local_time(now, sample.locale, sample.controller.timezone),
        "page_host": f"{root}/f/{sample.slug}",
    }


def wording(sample: Sample, kind: str) -> compose.Wording:
    """The wording of one of the form's mails.

    Raises:
        Invalid: the form has no such mail.
    """
    if kind not in KINDS or (kind == "welcome" and compose.letter_of(sample.definition) is None):
        raise Invalid(f"This form has no mail {kind!r}.")
    words = compose.wording_of(kind, sample.locale, sample.controller, sample.definition, valid_days=sample.valid_days)
    return compose.pictured(words, sample.picture)


def rendered(sample: Sample, kind: str, *, now: datetime) -> bytes:
    """The mail's exact bytes, to nobody.

    Raises:
        Invalid: the form has no such mail.
    """
    words = wording(sample, kind)
    return compose.mail_bytes(
        words, values(sample, now=now), recipient=SAMPLE_RECIPIENT, message_id="<sample@example.org>", now=now
    )


def _parsed(raw: bytes) -> EmailMessage:
    message = message_from_bytes(raw, policy=policy.default)
    assert isinstance(message, EmailMessage)  # noqa: S101 - policy.default makes no other
    return message


def subject(raw: bytes) -> str:
    return str(_parsed(raw)["Subject"] or "")


def part(raw: bytes, kind: str) -> str:
    """The `html` or `text` part of a mail."""
    body = _parsed(raw).get_body(("html" if kind == "html" else "plain",))
    return str(body.get_content()).replace("\r\n", "\n") if body is not None else ""


def problems(sample: Sample, *, now: datetime) -> list[Problem]:
    """What stands against the form's confirmation mail; none when it may be sent."""
    shown = values(sample, now=now)
    asked = tuple(
        text for label, _hint, text in compose.purposes_of(sample.definition["purposes"]) for text in (label, text)
    )
    links = {shown["confirm_url"], shown["code_url"], shown["not_me_url"], shown["page_host"]}
    links |= {sample.controller.imprint_url, sample.controller.privacy_url}
    logo = sample.picture.cid if sample.picture else ""
    allowed = Allowed(sample.controller.name, asked, frozenset(links), typed=(SAMPLE_RECIPIENT,), logo=logo)
    return linting.problems(rendered(sample, "confirm", now=now), allowed)


def refuse_unfit(sample: Sample, *, now: datetime) -> None:
    """Raise unless the form's mails may be sent as they are.

    Raises:
        Invalid: naming each problem and where it stands.

    Rule: UWG 7(2) no. 2; a confirmation mail that advertises is advertising without consent.
    """
    errors = [
        {"field": f"mail.{item.place}", "code": item.code, "message": item.text} for item in problems(sample, now=now)
    ]
    if errors:
        raise Invalid("The form's mails cannot go out like this.", errors=errors)
