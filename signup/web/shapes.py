"""Pieces that the bodies of several calls share."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from signup.core.values import EmailAddress, has_happened, rfc3339
from signup.web.api import Line, field_invalid

Email = Annotated[
    str, Meta(min_length=1, max_length=320, extra_json_schema={"format": "email"}, description="An e-mail address.")
]
Slug = Annotated[str, Meta(min_length=1, max_length=60, pattern=r"^[a-z0-9-]+(?![\s\S])")]
Locale = Literal["de", "en"]
Basis = Annotated[
    Literal["gdpr-6-1-a", "gdpr-6-1-b", "gdpr-6-1-f", "eprivacy-13-2"],
    Meta(description="Consent, contract, legitimate interest, or soft opt-in of a customer."),
]


CollectedAt = Annotated[datetime, Meta(tz=True)]


class Origin(Struct, forbid_unknown_fields=True):
    """How the contact came about."""

    type: Annotated[
        str,
        Meta(
            pattern=r"^[a-z][a-z0-9-]{0,39}(?![\s\S])",
            description="Such as `form`, `fair`, `business-card`, `phone`, `shop`.",
            examples=["fair"],
        ),
    ]
    detail: Annotated[Line, Meta(description="Which one: the fair and its day, the order, the page.")]
    collected_by: Annotated[Line | None, Meta(description="Who took it down, if a person did.")] = None
    collected_at: Annotated[
        CollectedAt | None, Meta(description="When that was, if it was before you tell it; the proof keeps both times.")
    ] = None


def as_dict(origin: Origin, *, now: datetime) -> dict[str, Any]:
    """The origin as it is kept.

    Raises:
        Invalid: it lies ahead.
    """
    if origin.collected_at is not None and not has_happened(origin.collected_at, now):
        raise field_invalid("origin.collected_at", "range", "Tell when it came about: not ahead, and not before 1970.")
    plain: dict[str, Any] = msgspec.to_builtins(origin)
    if origin.collected_at is None:
        del plain["collected_at"]
    else:
        plain["collected_at"] = rfc3339(origin.collected_at)
    return plain


def address(email: str | None) -> EmailAddress | None:
    """The checked address of a filter; None filters nothing."""
    return EmailAddress.parse(email) if email is not None else None
