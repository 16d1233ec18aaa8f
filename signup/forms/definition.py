"""What staff say of a form, checked: everything that a version freezes but the wording of its purposes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any
from urllib.parse import urlsplit

from signup.core.errors import Invalid
from signup.core.values import LOCALES, clean_text
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


def settings(new: NewForm) -> dict[str, Any]:
    """The keys of a definition that `rules.DEFAULTS` knows, as this form says them."""
    return {
        "tone": new.tone,
        "theme": {"accent": new.accent},
        "redirects": {**asdict(new.redirects), "allowed": list(new.redirects.allowed)},
        "welcome": _given(asdict(new.welcome)) if new.welcome else None,
        "strict": new.strict,
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
    for origin in new.allowed_origins:
        if origin_of(origin.replace("*.", "")) != origin.replace("*.", ""):
            raise wrong("allowed_origins", f"{origin!r} is not an origin such as https://example.org.")
    if new.accent is not None and not is_colour(new.accent):
        raise wrong("theme.accent", "The accent must be a colour like #0b5d6b.")
    _check_redirects(new.redirects)
    _check_welcome(new.welcome)


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
