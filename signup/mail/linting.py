"""What a confirmation mail must not hold: a pure check of its finished bytes.

Rule: UWG 7(2) no. 2; OLG München 29 U 1682/12: whoever only asks does not advertise.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from email.message import EmailMessage
from html.parser import HTMLParser
from urllib.parse import urlsplit

# The button, the way out, imprint, privacy notice, and the page on which the sign-up was made.
MAX_LINKS = 5
MAX_HTML_BYTES = 15 * 1024
MAX_SUBJECT = 60
MAX_LOGOS = 1
# Greetings and calls to buy make a question an advertisement, wherever they stand.
SLOGANS = re.compile(
    r"\b(?:herzlich )?willkommen\b|\bwelcome\b|\bglückwunsch\b|\bcongratulations?\b|\b(?:buy|save|shop|order) now\b"
    r"|\bjetzt (?:kaufen|sparen|sichern|bestellen|zugreifen)\b|\bsicher(?:n sie sich| dir)\b|\bnur heute\b"
    r"|\bnur für kurze zeit\b|\blimited time\b|\d+ ?(?:%|prozent\b|percent\b)",
    re.IGNORECASE,
)
# A consent text has to name what will be sent, so these may stand in what is asked, and nowhere else.
OFFERS = re.compile(
    r"\b\w*(?:rabatt|angebot|gutschein|schnäppchen|gewinnspiel|sonderpreis|prämie)\w*\b|\baktionen\b"
    r"|\b(?:discount|offer|voucher|coupon|sale|deal|bargain|giveaway)s?\b|\bgratis\b|\bkostenlos\w*\b|\bfree\b",
    re.IGNORECASE,
)
_URL = re.compile(r"""https?://[^\s<>"']+|\bwww\.[^\s<>"']+""", re.IGNORECASE)
# Each of these fetches something when the mail is opened, runs something, or asks for input.
_ACTIVE = frozenset(
    ("script", "link", "iframe", "frame", "object", "embed", "video", "audio", "source", "svg", "form", "input", "base")
)
_FETCHES = re.compile(r"url\(|@import|@font-face", re.IGNORECASE)


@dataclass(frozen=True)
class Problem:
    """One thing that must go: where it stands, a stable code, and what it is."""

    place: str
    code: str
    text: str


@dataclass(frozen=True)
class Allowed:
    """What this mail may say beyond the ordinary.

    Args:
        name: of the controller; a firm may be called anything.
        asked: labels and consent texts, which name what will be sent.
        links: every address that it needs.
        typed: what a visitor typed, which must not be repeated.
        logo: Content-ID of the one picture that it carries; empty when it carries none.
    """

    name: str
    asked: tuple[str, ...]
    links: frozenset[str]
    typed: tuple[str, ...] = ()
    logo: str = ""


def problems(raw: bytes, allowed: Allowed) -> list[Problem]:
    """Everything that must not be in this confirmation mail, in the order of the mail; none when it may go."""
    message = message_from_bytes(raw, policy=policy.default)
    assert isinstance(message, EmailMessage)  # noqa: S101 - policy.default makes no other
    subject = str(message["Subject"] or "")
    text, html = _part(message, "plain"), _part(message, "html")
    page = _Reader()
    page.feed(html)
    page.close()
    found = [*_headers(message, subject)]
    found += [Problem(place, "part-missing", "empty") for place, part in (("text", text), ("html", html)) if not part]
    for place, words in (("subject", subject), ("text", text), ("html", page.words)):
        found += _phrases(place, words, allowed)
        found += [Problem(place, "typed-text", "what a visitor typed") for typed in allowed.typed if typed in words]
    found += _links(text, page, allowed)
    return list(dict.fromkeys([*found, *_content(html, page), *_pictures(message, page, allowed)]))


def _part(message: EmailMessage, kind: str) -> str:
    body = message.get_body((kind,))
    return str(body.get_content()) if body is not None else ""


def _headers(message: EmailMessage, subject: str) -> Iterator[Problem]:
    for name in message:
        if name.lower().startswith("list-") or name.lower() == "precedence":
            yield Problem("headers", "list-header", name)
    if not subject.strip():
        yield Problem("subject", "part-missing", "empty")
    if len(subject) > MAX_SUBJECT:
        yield Problem("subject", "too-long", f"{len(subject)} characters, at most {MAX_SUBJECT}")


def _phrases(place: str, words: str, allowed: Allowed) -> Iterator[Problem]:
    rest = " ".join(words.split()).replace(" ".join(allowed.name.split()), " ")
    for match in SLOGANS.finditer(rest):
        yield Problem(place, "promotion", match[0])
    for asked in sorted(allowed.asked, key=len, reverse=True):
        rest = rest.replace(" ".join(asked.split()), " ") if asked.strip() else rest
    for match in OFFERS.finditer(rest):
        yield Problem(place, "promotion", match[0])


def _links(text: str, page: _Reader, allowed: Allowed) -> Iterator[Problem]:
    in_text, in_html = _URL.findall(text), [*page.links, *_URL.findall(page.words)]
    every = {_bare(url) for url in (*in_text, *in_html)}
    if len(every) > MAX_LINKS:
        yield Problem("links", "too-many-links", f"{len(every)}, at most {MAX_LINKS}")
    known = {_bare(url) for url in allowed.links}
    for place, urls in (("text", in_text), ("html", in_html)):
        for url in urls:
            if _bare(url) not in known:
                # The path of a link may hold a token.
                yield Problem(place, "foreign-link", urlsplit(url).netloc or url.partition("/")[0])


def _bare(url: str) -> str:
    return url.rstrip(".,;:!?)“”\"'").rstrip("/").lower()


def _content(html: str, page: _Reader) -> list[Problem]:
    found = [Problem("html", "active-content", f"<{tag}>") for tag in page.active]
    found += [Problem("html", "remote-content", host) for host in page.remote]
    if _FETCHES.search(html):
        found.append(Problem("html", "remote-content", "a style that fetches something"))
    if len(html.encode()) > MAX_HTML_BYTES:
        found.append(Problem("html", "too-long", f"{len(html.encode())} bytes, at most {MAX_HTML_BYTES}"))
    return found


def _pictures(message: EmailMessage, page: _Reader, allowed: Allowed) -> Iterator[Problem]:
    """What is shown or attached beside the one logo, if that is switched on."""
    attached = [part for part in message.walk() if part.get_content_maintype() not in ("text", "multipart")]
    names = [str(part["Content-ID"] or "").strip("<> ") for part in attached]
    count = max(len(page.images), len(attached))
    if count > MAX_LOGOS:
        yield Problem("html", "too-many-images", f"{count}, at most {MAX_LOGOS} inline logo")
    for shown in page.images:
        if not allowed.logo or shown != f"cid:{allowed.logo}":
            yield Problem("html", "foreign-image", shown[:40] or "a picture without a source")
    for part, name in zip(attached, names, strict=True):
        if not allowed.logo or name != allowed.logo or part.get_content_type() != "image/png":
            yield Problem("html", "attachment", part.get_content_type())
    if allowed.logo and allowed.logo not in names:
        yield Problem("html", "part-missing", "the logo")


@dataclass
class _Found:
    links: list[str] = field(default_factory=list)
    active: list[str] = field(default_factory=list)
    remote: list[str] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    images: list[str] = field(default_factory=list)


class _Reader(HTMLParser):
    """What an HTML part shows, links to and would fetch."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self._found = _Found()
        self._inside: str | None = None

    @property
    def words(self) -> str:
        return " ".join(self._found.texts)

    @property
    def links(self) -> list[str]:
        return self._found.links

    @property
    def active(self) -> list[str]:
        return self._found.active

    @property
    def remote(self) -> list[str]:
        return self._found.remote

    @property
    def images(self) -> list[str]:
        return self._found.images

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        if tag == "style":
            self._inside = tag
        if tag in _ACTIVE or (tag == "meta" and "http-equiv" in values):
            self._found.active.append(tag)
        if tag == "a" and values.get("href"):
            self._found.links.append(values["href"])
        if tag == "img" and not values.get("src"):
            self._found.images.append("")
        for name in ("src", "srcset", "background", "poster"):
            if values.get(name, "").startswith(("cid:", "data:image/")):
                self._found.images.append(values[name])
            elif values.get(name):
                self._found.remote.append(urlsplit(values[name]).netloc or name)

    def handle_endtag(self, tag: str) -> None:
        if tag == self._inside:
            self._inside = None

    def handle_data(self, data: str) -> None:
        if self._inside is None:
            self._found.texts.append(data)
