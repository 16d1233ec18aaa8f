"""What people say in declared fields: sealed with the question, and the contact's once they confirm."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from flask_babel import force_locale
from werkzeug.datastructures import MultiDict

from signup.core.db import Session
from signup.core.errors import Invalid
from signup.eventlog.record import Subject, canonical
from signup.forms import fields, pages
from signup.forms.rules import FormView

# A program says yes and no where a box is ticked or not sent.
_AS_TYPED = {True: fields.TICKED[0], False: ""}


def checked(view: FormView, said: Mapping[str, str | bool]) -> dict[str, Any]:
    """What a program says for somebody, as the form itself would have taken it.

    Raises:
        Invalid: naming each field that breaks a rule of the form, or that it does not ask for, as `fields.size`.

    Rule: GDPR 5(1)(c), no more than was asked for.
    """
    typed = {name: value if isinstance(value, str) else _AS_TYPED[value] for name, value in said.items()}
    values, _, wrong = fields.told(view.fields, MultiDict(typed))
    names = {field["name"] for field in view.fields}
    with force_locale("en"):
        errors = [{**item, "field": f"fields.{item['field']}"} for item in pages.messages(wrong)]
    errors += [_unknown(name) for name in said if name not in names]
    if errors:
        raise Invalid(errors[0]["message"], errors=errors)
    return values


def _unknown(name: str) -> dict[str, str]:
    return {"field": f"fields.{name}", "code": "unknown", "message": "The form does not ask for this field."}


def sealed(session: Session, subject: Subject, held: bytes | None, said: Mapping[str, Any] | None) -> bytes | None:
    """What was said before and now, the newer word counting, under the person's key."""
    if not said:
        return held
    return session.keys.seal(subject.data_key, canonical({**opened(session, subject, held), **said}))


def opened(session: Session, subject: Subject, held: bytes | None) -> dict[str, Any]:
    """What was said, by name of the field."""
    found: dict[str, Any] = json.loads(session.keys.unseal(subject.data_key, held)) if held else {}
    return found
