"""What a form accepts: pure decisions on one immutable version."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache
from types import MappingProxyType
from typing import Any, cast
from urllib.parse import urlsplit

from werkzeug.datastructures import MultiDict
from wtforms import Form as WtForm
from wtforms import SelectMultipleField, StringField

from signup.core.errors import Invalid
from signup.core.values import EmailAddress
from signup.eventlog.record import spelled
from signup.forms import fields
from signup.purposes.actions import ControllerView

# A render id is a UUID; anything longer is not ours.
MAX_RENDER_ID = 64

FieldError = fields.FieldError

TONES = ("formal", "informal")

# What a version says that was published before it could say these things. The one place: every reader of a stored
# definition gets it completed (`whole`).
DEFAULTS: Mapping[str, Any] = {
    "tone": "formal",  # how German addresses the reader: Sie or Du
    "theme": {"accent": None},  # None: the controller's
    "redirects": {"allowed": [], "after_signup": None, "after_confirm": None},
    "welcome": None,  # {"subject", "text", "download_url"}: a mail after the confirmation
    "strict": False,  # confirmed by a typed code only
    "fields": [],
    "attribution": [],
}


def whole(definition: Mapping[str, Any]) -> dict[str, Any]:
    """A stored definition with everything that a version can say."""
    return {**DEFAULTS, **definition}


@dataclass(frozen=True)
class FormView:
    """A form with one of its versions and its controller: all that a page or a sign-up needs."""

    id: str
    slug: str
    closed: bool
    allowed_origins: tuple[str, ...]
    live_version: int
    version_id: str
    version: int
    locale: str
    definition: Mapping[str, Any]
    sha256: str
    stamp: str  # changes with anything of the form or its controller
    controller: ControllerView

    @cached_property
    def purposes(self) -> list[dict[str, str]]:
        return cast(list[dict[str, str]], self.definition["purposes"])

    @cached_property
    def fields(self) -> list[dict[str, Any]]:
        """The fields that this version asks for beside the address."""
        return cast(list[dict[str, Any]], self.definition["fields"])

    @property
    def informal(self) -> bool:
        """Whether German says Du."""
        return bool(self.definition["tone"] == "informal")

    @property
    def strict(self) -> bool:
        """Whether only a typed code confirms."""
        return bool(self.definition["strict"])

    @property
    def welcome(self) -> Mapping[str, str] | None:
        """The mail after the confirmation: subject, text and perhaps download_url."""
        return cast(Mapping[str, str] | None, self.definition["welcome"])

    @property
    def accent(self) -> str:
        """The colour that this form asked for, or its controller's; `purposes.colours` makes it readable."""
        return str(self.definition["theme"]["accent"] or self.controller.accent)

    @property
    def after_signup(self) -> str | None:
        """Where a visitor is sent instead of our own page; nothing about the person is added."""
        return self._redirect("after_signup")

    @property
    def after_confirm(self) -> str | None:
        """Where a visitor may go on to from the page of a confirmed subscription."""
        return self._redirect("after_confirm")

    def _redirect(self, name: str) -> str | None:
        redirects = self.definition["redirects"]
        url = redirects[name]
        return str(url) if url in redirects["allowed"] else None

    @cached_property
    def disclosed(self) -> dict[str, Any]:
        """What every sign-up's evidence repeats of this version: each wording with its hash, and the notice."""
        texts = [
            {"purpose": item["slug"], "text": item["text"], "sha256": item["text_sha256"]} for item in self.purposes
        ]
        return {"consent_texts": spelled(texts), "notice": spelled(dict(self.definition["notice"]))}


class SignupForm(WtForm):  # type: ignore[misc] # WTForms ships no types
    """The fields of every sign-up form; the choices come from the form's version."""

    typed: Mapping[str, str] = MappingProxyType({})  # in the declared fields
    came_by: Mapping[str, str] = MappingProxyType({})  # attribution, carried on by the page

    email = StringField()
    purpose = SelectMultipleField(validate_choice=False)


@dataclass(frozen=True)
class Checked:
    """Input after the check: either `errors`, or an address and at least one purpose."""

    form: SignupForm
    errors: tuple[FieldError, ...]
    email: EmailAddress | None
    purposes: tuple[str, ...]
    fields: Mapping[str, Any] | None = None
    attribution: Mapping[str, str] | None = None


def check(view: FormView, data: MultiDict[str, str]) -> Checked:
    """Decide whether `data` can be a sign-up on this version of the form.

    Unknown fields are ignored. A box that is not there is a no.

    Rule: GDPR 4(11), an unambiguous act; CJEU C-673/17, no ticked box by default.
    """
    form = SignupForm(formdata=data)
    errors: list[FieldError] = []
    email: EmailAddress | None = None
    try:
        email = EmailAddress.parse(form.email.data or "")
    except Invalid as invalid:
        errors.append(FieldError("email", invalid.errors[0]["code"]))
    wanted = list(dict.fromkeys(form.purpose.data or []))
    offered = [item["slug"] for item in view.purposes]
    if not wanted:
        errors.append(FieldError("purpose", "required"))
    elif any(slug not in offered for slug in wanted):
        errors.append(FieldError("purpose", "unknown"))
    chosen = tuple(slug for slug in offered if slug in wanted)
    if not view.fields and not view.definition["attribution"]:
        return Checked(form, tuple(errors), email, chosen)
    values, form.typed, wrong = fields.told(view.fields, data)
    form.came_by = fields.attribution(view.definition["attribution"], data)
    return Checked(form, (*errors, *wrong), email, chosen, values, form.came_by)


def linked(view: FormView, query: MultiDict[str, str]) -> SignupForm:
    """An empty form with what a link to it may bring: never the address, never a ticked box."""
    form = SignupForm(formdata=MultiDict())
    form.typed = fields.prefilled(view.fields, query)
    form.came_by = fields.attribution(view.definition["attribution"], query)
    return form


# What browsers send: international names in their ASCII form, addresses of version 6 without brackets here.
_HOST = re.compile(r"[a-z0-9_](?:[a-z0-9._-]{0,251}[a-z0-9_])?|[0-9a-f:]{2,45}")


def origin_of(url: str) -> str | None:
    """Scheme, host and port of `url` as a browser writes an Origin header."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not parts.hostname or not _HOST.fullmatch(parts.hostname):
        return None
    default = 443 if parts.scheme == "https" else 80
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{parts.scheme}://{host}" + (f":{port}" if port and port != default else "")


@lru_cache(maxsize=256)
def _own_origin(public_url: str) -> str | None:
    return origin_of(public_url)


def origin_allowed(allowed: tuple[str, ...], origin: str | None, public_url: str) -> bool:
    """Whether a sign-up may come from `origin` without a second look.

    An empty list means every origin. `*.example.org` covers its subdomains. Our own page always may.
    """
    if not allowed:
        return True
    if not origin or origin_of(origin) != origin:
        return False
    return origin == _own_origin(public_url) or listed(allowed, origin)


def listed(allowed: tuple[str, ...], origin: str) -> bool:
    """Whether staff named this origin, or a pattern such as `https://*.example.org` that covers it."""
    if origin_of(origin) != origin:
        return False
    if origin in allowed:
        return True
    scheme, _, host = origin.partition("://")
    for entry in allowed:
        entry_scheme, _, entry_host = entry.partition("://")
        if entry_host.startswith("*.") and host.endswith(entry_host[1:]) and entry_scheme == scheme:
            return True
    return False
