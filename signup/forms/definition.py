"""What staff say of a form, checked: everything that a version freezes but the wording of its purposes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlsplit

from signup.core.errors import Invalid
from signup.core.values import LOCALES, clean_text
from signup.forms import fields
from signup.forms.fields import FieldType
from signup.forms.rules import TONES, origin_of
from signup.purposes.actions import check_slug
from signup.purposes.colours import is_colour

MAX_LINE = 300
MAX_TEXT = 4000
MAX_URL = 500
MAX_REDIRECTS = 20


@dataclass(frozen=True)
class Redirects:
    """Pages of the controller that a visitor may be sent to: exactly these, with nothing added."""

    allowed: tuple[str, ...] = ()
    after_signup: str | None = None
    after_confirm: str | None = None


@dataclass(frozen=True)
class Welcome:
    """The mail after the confirmation."""

    subject: str
    text: str
    download_url: str | None = None


@dataclass(frozen=True)
class Option:
    value: str
    label: str


@dataclass(frozen=True)
class Field:
    """Something a form asks for beside the address, and why."""

    name: str
    type: str
    label: str
    purpose: str  # shown beside it
    required: bool = False
    max_length: int = fields.MAX_LENGTH
    autocomplete: str | None = None
    options: tuple[Option, ...] = ()


@dataclass(frozen=True)
class NewForm:
    """What staff say of a form; wording of the purposes comes from the texts in force."""

    slug: str
    name: str
    locale: str
    title: str
    intro: str
    email_label: str
    submit_label: str
    note: str
    purposes: tuple[str, ...]
    allowed_origins: tuple[str, ...] = ()
    tone: str = "formal"
    accent: str | None = None  # None: the controller's
    redirects: Redirects = Redirects()
    welcome: Welcome | None = None
    strict: bool = False
    fields: tuple[Field, ...] = ()
    attribution: tuple[str, ...] = ()


def settings(new: NewForm) -> dict[str, Any]:
    """The keys of a definition that `rules.DEFAULTS` knows, as this form says them."""
    return {
        "tone": new.tone,
        "theme": {"accent": new.accent},
        "redirects": {**asdict(new.redirects), "allowed": list(new.redirects.allowed)},
        "welcome": _given(asdict(new.welcome)) if new.welcome else None,
        "strict": new.strict,
        "fields": [{**asdict(item), "options": [asdict(option) for option in item.options]} for item in new.fields],
        "attribution": list(new.attribution),
    }


def _given(values: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in values.items() if value is not None}


def check(new: NewForm) -> None:
    """Raise unless every part of the form can be used; the error names the key.

    Raises:
        Invalid: which key, and what to mend.
    """
    check_slug(new.slug, "form slug")
    if new.locale not in LOCALES:
        raise wrong("locale", f"The locale must be one of {', '.join(LOCALES)}.")
    if new.tone not in TONES:
        raise wrong("tone", f"The tone must be one of {', '.join(TONES)}.")
    for key in ("name", "title", "email_label", "submit_label"):
        check_line(key, getattr(new, key))
    for key in ("intro", "note"):
        if len(getattr(new, key)) > MAX_TEXT:
            raise wrong(key, f"At most {MAX_TEXT} characters.")
    _check_origins(new.allowed_origins)
    if new.accent is not None and not is_colour(new.accent):
        raise wrong("theme.accent", "The accent must be a colour like #0b5d6b.")
    _check_redirects(new.redirects)
    _check_welcome(new.welcome)
    _check_attribution(new.attribution)
    _check_fields(new.fields)


def _check_attribution(names: tuple[str, ...]) -> None:
    for at, name in enumerate(names):
        if name not in fields.ATTRIBUTION:
            raise wrong(f"attribution[{at}]", f"{name!r} must be one of {', '.join(fields.ATTRIBUTION)}.")


def _check_fields(declared: tuple[Field, ...]) -> None:
    if len(declared) > fields.MAX_FIELDS:
        raise wrong("fields", f"At most {fields.MAX_FIELDS} fields.")
    seen: set[str] = set()
    for at, item in enumerate(declared):
        key = f"fields[{at}]"
        reserved = item.name in fields.RESERVED or item.name.startswith(fields.RESERVED_PREFIXES)
        if not fields.NAME.fullmatch(item.name) or reserved:
            raise wrong(f"{key}.name", f"{item.name!r} is reserved, or not 1 to 40 of a-z, 0-9 and _ after a letter.")
        if item.name in seen:
            raise wrong(f"{key}.name", f"{item.name!r} stands twice.")
        seen.add(item.name)
        _check_field(key, item)


def _check_field(key: str, item: Field) -> None:
    """A field says what it is, and why it is asked.

    Rule: GDPR 5(1)(b) and 13(1)(c), the purpose of each piece of data.
    """
    kinds = [kind.value for kind in FieldType]
    if item.type not in kinds:
        raise wrong(f"{key}.type", f"The type must be one of {', '.join(kinds)}.")
    check_line(f"{key}.label", item.label)
    check_line(f"{key}.purpose", item.purpose)
    if not 1 <= item.max_length <= fields.MAX_LENGTH:
        raise wrong(f"{key}.max_length", f"From 1 to {fields.MAX_LENGTH}.")
    if item.autocomplete is not None and item.autocomplete not in fields.AUTOCOMPLETE:
        raise wrong(f"{key}.autocomplete", f"One of {', '.join(fields.AUTOCOMPLETE)}.")
    if bool(item.options) != (item.type == FieldType.SELECT.value):
        raise wrong(f"{key}.options", "A select has options, and nothing else has.")
    if len({option.value for option in item.options}) < len(item.options) or len(item.options) > fields.MAX_OPTIONS:
        raise wrong(f"{key}.options", f"At most {fields.MAX_OPTIONS} options, each value once.")
    for option in item.options:
        check_line(f"{key}.options", option.value, fields.MAX_LENGTH)
        check_line(f"{key}.options", option.label)
        if option.value != option.value.strip():
            raise wrong(f"{key}.options", f"{option.value!r} begins or ends with a blank.")


def _check_origins(origins: tuple[str, ...]) -> None:
    for origin in origins:
        if origin_of(origin.replace("*.", "")) != origin.replace("*.", ""):
            raise wrong("allowed_origins", f"{origin!r} is not an origin such as https://example.org.")


def _check_redirects(redirects: Redirects) -> None:
    """A redirect leads to a page that staff listed, never to what a visitor asks for."""
    if len(redirects.allowed) > MAX_REDIRECTS:
        raise wrong("redirects.allowed", f"At most {MAX_REDIRECTS} pages.")
    for url in redirects.allowed:
        check_url("redirects.allowed", url)
    for key in ("after_signup", "after_confirm"):
        url = getattr(redirects, key)
        if url is not None and url not in redirects.allowed:
            raise wrong(f"redirects.{key}", f"{url!r} is not in redirects.allowed, which must name it exactly.")


def _check_welcome(welcome: Welcome | None) -> None:
    if welcome is None:
        return
    check_line("welcome.subject", welcome.subject)
    if not welcome.text.strip() or len(welcome.text) > MAX_TEXT:
        raise wrong("welcome.text", f"1 to {MAX_TEXT} characters.")
    if welcome.download_url is not None:
        check_url("welcome.download_url", welcome.download_url)


def check_line(key: str, text: str, limit: int = MAX_LINE) -> None:
    """Raise unless `text` is one line that says something."""
    if not text.strip() or clean_text(text, limit) != text:
        raise wrong(key, f"One line of 1 to {limit} characters.")


def check_url(key: str, url: str) -> None:
    """Raise unless `url` is a web address that can be sent to a browser as it is."""
    parts = urlsplit(url) if url.isascii() and url.isprintable() and " " not in url else None
    if parts is None or len(url) > MAX_URL or not origin_of(url) or parts.username is not None:
        raise wrong(key, f"{url!r} is not a web address of at most {MAX_URL} ASCII characters.")


def wrong(key: str, message: str) -> Invalid:
    """The error for one key of a form."""
    return Invalid(f"{key}: {message}", errors=[{"field": key, "code": "invalid", "message": message}])
