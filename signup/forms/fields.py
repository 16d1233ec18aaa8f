"""Fields that a form asks for beside the address: typed, with a stated purpose, never more than declared."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from enum import Enum
from functools import lru_cache
from typing import Any

from babel import Locale
from werkzeug.datastructures import MultiDict

from signup.core.values import clean_text

MAX_LENGTH = 200
MAX_FIELDS = 20
MAX_OPTIONS = 300
# Nobody lives longer, and a typing error of the century is found.
EARLIEST = date(1900, 1, 1)
LATEST = date(2199, 12, 31)
NAME = re.compile(r"[a-z][a-z0-9_]{0,39}")
# Words of the public contract, and of what this service or a browser puts into a form.
RESERVED = (
    *("email", "purpose", "form_version", "render_id", "altcha", "nonce", "src", "action", "id", "name", "type"),
    *("rendered", "second_look", "as_typed", "zq_k7", "email_instead", "challenge"),
    *("fields", "handle", "hp", "website", "code", "resend", "contact", "token", "locale", "origin"),
)
RESERVED_PREFIXES = ("utm_", "doi_")
# What browsers and password managers fill in for their owners.
AUTOCOMPLETE = ("given-name", "family-name", "organization", "organization-title", "tel")
ATTRIBUTION = ("utm_source", "utm_medium", "utm_campaign", "utm_term", "utm_content", "src")
_TEL = re.compile(r"\+?[0-9][0-9 ()/.-]{1,30}")
# How a ticked box is sent: by our own markup, and by a box without a value.
TICKED = ("yes", "on", "true", "1")


class FieldType(Enum):
    TEXT = "text"
    SELECT = "select"
    CHECKBOX = "checkbox"
    DATE = "date"
    COUNTRY = "country"
    TEL = "tel"


@dataclass(frozen=True)
class FieldError:
    field: str
    code: str
    label: str = ""  # of a declared field, for its message


def told(
    declared: Iterable[Mapping[str, Any]], data: MultiDict[str, str]
) -> tuple[dict[str, Any], dict[str, str], list[FieldError]]:
    """What a visitor said in the declared fields; every other name is ignored.

    Returns:
        The values by name, without empty ones; the texts as typed; and what is wrong.

    Rule: GDPR 5(1)(c), no more than was asked for.
    """
    values: dict[str, Any] = {}
    typed: dict[str, str] = {}
    errors: list[FieldError] = []
    for field in declared:
        name = field["name"]
        # Longer than any limit, and no longer than what a page can bear to show again.
        text = clean_text(unicodedata.normalize("NFC", data.get(name) or ""), 2 * MAX_LENGTH).strip()
        typed[name] = text
        if not text:
            if field["required"]:
                errors.append(FieldError(name, _MISSING.get(field["type"], "required"), field["label"]))
            continue
        value, code = _CHECKS[FieldType(field["type"])](text, field)
        if code:
            errors.append(FieldError(name, code, field["label"]))
        else:
            values[name] = value
    return values, typed, errors


_MISSING = {"checkbox": "unticked", "select": "unchosen", "country": "unchosen"}


def attribution(allowed: Iterable[str], data: MultiDict[str, str]) -> dict[str, str]:
    """Where a visitor came from, as far as the form's allow-list lets anybody say."""
    found = {name: clean_text(data.get(name) or "", 2 * MAX_LENGTH).strip()[:MAX_LENGTH] for name in allowed}
    return {name: value for name, value in found.items() if value}


def prefilled(declared: Iterable[Mapping[str, Any]], query: MultiDict[str, str]) -> dict[str, str]:
    """What a link may put into the declared fields. Boxes are ticked by people only."""
    return {
        field["name"]: clean_text(query[field["name"]], int(field["max_length"]))
        for field in declared
        if field["type"] != FieldType.CHECKBOX.value and query.get(field["name"])
    }


Check = Callable[[str, Mapping[str, Any]], tuple[Any, str]]


def _text(text: str, field: Mapping[str, Any]) -> tuple[Any, str]:
    return text, "too_long" if len(text) > field["max_length"] else ""


def _select(text: str, field: Mapping[str, Any]) -> tuple[Any, str]:
    return text, "" if any(text == option["value"] for option in field["options"]) else "unchosen"


def _checkbox(text: str, _field: Mapping[str, Any]) -> tuple[Any, str]:
    return True, "" if text.lower() in TICKED else "unticked"


def _date(text: str, _field: Mapping[str, Any]) -> tuple[Any, str]:
    if not re.fullmatch(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", text, re.ASCII):
        return text, "no_date"
    try:
        day = date.fromisoformat(text)
    except ValueError:
        return text, "no_date"
    return text, "" if EARLIEST <= day <= LATEST else "no_date"


def _country(text: str, _field: Mapping[str, Any]) -> tuple[Any, str]:
    return text, "" if text in country_codes() else "unchosen"


def _tel(text: str, _field: Mapping[str, Any]) -> tuple[Any, str]:
    digits = sum(letter in "0123456789" for letter in text)
    return text, "" if _TEL.fullmatch(text) and digits >= 3 else "no_number"


_CHECKS: dict[FieldType, Check] = {
    FieldType.TEXT: _text,
    FieldType.SELECT: _select,
    FieldType.CHECKBOX: _checkbox,
    FieldType.DATE: _date,
    FieldType.COUNTRY: _country,
    FieldType.TEL: _tel,
}

# Codes that CLDR names and that are no countries: unions, outlying groups, the unknown.
_NO_COUNTRIES = frozenset(["EU", "EZ", "UN", "ZZ", "QO", "XA", "XB", "AC", "CP", "CQ", "DG", "EA", "IC", "TA"])


@lru_cache(maxsize=1)
def country_codes() -> frozenset[str]:
    """The two-letter codes that a country field takes.

    Rule: ISO 3166-1 alpha-2, as CLDR lists it.
    """
    codes = map(str, Locale("en").territories)
    return frozenset(code for code in codes if len(code) == 2 and code.isalpha() and code not in _NO_COUNTRIES)


@lru_cache(maxsize=8)
def countries(locale: str) -> tuple[tuple[str, str], ...]:
    """Code and name of every country, in the order in which a reader looks for them."""
    names = Locale(locale).territories
    return tuple(sorted(((code, names[code]) for code in country_codes()), key=lambda pair: _collated(pair[1])))


def _collated(name: str) -> str:
    return "".join(letter for letter in unicodedata.normalize("NFKD", name) if letter.isalnum()).casefold()
