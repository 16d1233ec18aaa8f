"""A whole form as one JSON file: what staff keep beside their site, hand in and get back."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from signup.core.errors import Invalid
from signup.forms import fields
from signup.forms.definition import Field, NewForm, Redirects, Welcome, wrong
from signup.forms.rules import FormView

# What a file that does not say them is taken to say: locale and tone to the words of a form.
_WORDS = {
    "de": {"email_label": "E-Mail-Adresse", "submit_label": "Anmelden"},
    "en": {"email_label": "E-mail address", "submit_label": "Sign up"},
}
_NOTES = {
    ("de", "formal"): "Wir schicken Ihnen eine Mail mit einem Link. Erst wenn Sie ihn bestätigen, sind Sie angemeldet. "
    "Widerruf jederzeit.",
    ("de", "informal"): "Wir schicken dir eine Mail mit einem Link. Erst wenn du ihn bestätigst, bist du angemeldet. "
    "Widerruf jederzeit.",
    ("en", "formal"): "We send you a mail with a link. You are signed up only once you confirm it. "
    "Withdraw at any time.",
}


class Strict(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A part of a file: a name that nobody knows is an error, not a wish that is silently ignored."""


class OptionPart(Strict, frozen=True):
    value: str
    label: str


class FieldPart(Strict, frozen=True):
    name: str
    type: str
    label: str
    purpose: str
    required: bool = False
    max_length: int = fields.MAX_LENGTH
    autocomplete: str | None = None
    options: list[OptionPart] = []


class PurposePart(Strict, frozen=True):
    """A purpose with its wording in the language of the form; made, or worded anew, when the form is published."""

    slug: str
    label: str
    text: str
    hint: str = ""


class ThemePart(Strict, frozen=True):
    accent: str | None = None


class RedirectsPart(Strict, frozen=True):
    allowed: list[str] = []
    after_signup: str | None = None
    after_confirm: str | None = None


class WelcomePart(Strict, frozen=True):
    subject: str
    text: str
    download_url: str | None = None


class FormFile(Strict, frozen=True):
    slug: str
    title: str
    purposes: list[str | PurposePart]
    locale: str = "de"
    tone: str = "formal"
    name: str = ""
    intro: str = ""
    email_label: str = ""
    submit_label: str = ""
    note: str = ""
    allowed_origins: list[str] = []
    theme: ThemePart = ThemePart()
    redirects: RedirectsPart = RedirectsPart()
    welcome: WelcomePart | None = None
    strict: bool = False
    fields: list[FieldPart] = []
    attribution: list[str] = []


def read(content: bytes) -> FormFile:
    """The form that a file describes.

    Raises:
        Invalid: it is no JSON, or a key is missing, unknown or of the wrong kind; the message names the key.
    """
    try:
        return msgspec.json.decode(content, type=FormFile)
    except msgspec.ValidationError as error:
        raise Invalid(f"The form's file: {error}.") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Invalid(f"The form's file is no JSON: {error}.") from None


def write(file: FormFile) -> str:
    """The file as text; reading it gives the same form."""
    return msgspec.json.format(msgspec.json.encode(file), indent=2).decode()


def stored(file: FormFile) -> dict[str, Any]:
    """The file as a draft keeps it."""
    found: dict[str, Any] = msgspec.to_builtins(file)
    return found


def restored(draft: dict[str, Any]) -> FormFile:
    """The file that a draft keeps."""
    return msgspec.convert(draft, FormFile)


def form_of(file: FormFile) -> NewForm:
    """What the file says, with the usual words where it says none.

    Raises:
        Invalid: a purpose stands twice.
    """
    words = _WORDS.get(file.locale, _WORDS["en"])
    note = _NOTES.get((file.locale, file.tone)) or _NOTES["en", "formal"]
    slugs = tuple(item if isinstance(item, str) else item.slug for item in file.purposes)
    if len(set(slugs)) < len(slugs):
        raise wrong("purposes", "Each purpose stands once.")
    return NewForm(
        slug=file.slug,
        name=file.name or file.title,
        locale=file.locale,
        title=file.title,
        intro=file.intro,
        email_label=file.email_label or words["email_label"],
        submit_label=file.submit_label or words["submit_label"],
        note=file.note or note,
        purposes=slugs,
        allowed_origins=tuple(file.allowed_origins),
        tone=file.tone,
        accent=file.theme.accent,
        redirects=msgspec.convert(file.redirects, Redirects, from_attributes=True),
        welcome=msgspec.convert(file.welcome, Welcome, from_attributes=True) if file.welcome else None,
        strict=file.strict,
        fields=tuple(msgspec.convert(item, Field, from_attributes=True) for item in file.fields),
        attribution=tuple(file.attribution),
    )


def file_of(view: FormView, name: str) -> FormFile:
    """The file that would make this version."""
    definition = view.definition
    keys = ("title", "intro", "email_label", "submit_label", "note", "tone", "theme", "redirects", "welcome", "strict")
    said = {key: definition[key] for key in (*keys, "fields", "attribution")}
    boxes = [{key: item[key] for key in ("slug", "label", "hint", "text")} for item in view.purposes]
    here = {"slug": view.slug, "name": name, "locale": view.locale, "allowed_origins": list(view.allowed_origins)}
    return msgspec.convert({**here, **said, "purposes": boxes}, FormFile)
