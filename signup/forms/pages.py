"""The sign-up form as a page: for visitors, and as the snapshot that evidence keeps."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from flask import render_template
from flask_babel import force_locale
from flask_babel import gettext as _
from werkzeug.datastructures import MultiDict

from signup.forms.rules import FieldError, FormView, SignupForm
from signup.purposes import colours
from signup.purposes.tone import spoken

STYLESHEET = Path(__file__).parents[1] / "static" / "css" / "public.css"


def messages(errors: Sequence[FieldError]) -> list[dict[str, str]]:
    """What is wrong, in words that say what to do."""
    texts = {
        ("email", "required"): _("Please enter your e-mail address."),
        ("email", "missing_at"): _("The e-mail address needs an @, as in name@example.org."),
        ("email", "too_long"): _("This e-mail address is longer than any mailbox allows. Please shorten it."),
        ("email", "non_ascii_local"): _("Please use an address without umlauts or accents before the @."),
        ("email", "invalid"): _("This e-mail address cannot be right. Please check it."),
        ("purpose", "required"): _("Please tick what you would like to receive."),
        ("purpose", "unknown"): _("This choice is no longer offered. Please choose again."),
        ("form_version", "unknown"): _("This form has changed. Please check it and send it again."),
        ("email", "disposable"): _("Please use an address that will still be yours tomorrow."),
        ("altcha", "proof"): _("Please send the form once more from its own page. That keeps robots out."),
        ("origin", "unlisted"): _("Please check your entries and send the form from this page."),
    }
    return [
        {
            "field": error.field,
            "code": error.code,
            "message": texts.get((error.field, error.code)) or _of_declared(error) or error.code,
        }
        for error in errors
    ]


def _of_declared(error: FieldError) -> str | None:
    """The message for a field that staff declared: it names the field, since the summary stands above all."""
    texts = {
        "required": _("Please fill in “%(label)s”."),
        "unticked": _("Please tick “%(label)s”."),
        "unchosen": _("Please choose one of the options of “%(label)s”."),
        "too_long": _("“%(label)s” is too long. Please shorten it."),
        "no_date": _("“%(label)s” needs a date, with day, month and year."),
        "no_number": _("“%(label)s” needs a telephone number, as in +49 30 123456."),
    }
    found = texts.get(error.code)
    return found % {"label": error.label} if found and error.label else None


def form_page(
    view: FormView,
    form: SignupForm | None = None,
    *,
    action: str,
    hidden: Mapping[str, str],
    errors: Sequence[FieldError] = (),
    notice: str | None = None,
    challenge: str | None = None,
    meant: str | None = None,
) -> str:
    """The form; boxes are ticked only when the visitor ticked them a moment ago.

    Args:
        challenge: URL of the puzzle that the browser is to solve.
        meant: the address that a slip of one letter may have hidden.
    """
    form = form or SignupForm(formdata=MultiDict())
    return render_template(
        "forms/form.html",
        form=form,
        definition=view.definition,
        action=action,
        hidden={**form.came_by, **hidden},
        errors=messages(errors),
        notice=notice,
        challenge=challenge,
        meant=meant,
        controller=view.controller,
    )


def snapshot(definition: Mapping[str, Any], locale: str, controller: Any) -> tuple[str, str]:
    """The form as a visitor will see it, and the SHA-256 of its style sheets, one after the other, in hex."""
    accent = definition["theme"]["accent"] or controller.accent
    with force_locale(locale), spoken(informal=definition["tone"] == "informal"):
        html = render_template(
            "forms/form.html",
            form=SignupForm(formdata=MultiDict()),
            definition=definition,
            action="",
            hidden={},
            errors=[],
            notice=None,
            controller=controller,
            locale=locale,
            accent=accent,
        )
    styles = STYLESHEET.read_bytes() + colours.stylesheet(accent).encode()
    return html, hashlib.sha256(styles).hexdigest()
