"""Drafts of forms, and the step that makes one the version in force."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select

from signup.core.db import Session
from signup.core.errors import Conflict, NotFound
from signup.core.values import Actor
from signup.forms import actions as forms
from signup.forms import files, pages
from signup.forms.definition import NewForm, check, wrong
from signup.forms.files import FormFile, PurposePart
from signup.forms.models import Form
from signup.mail import senders
from signup.purposes import actions as purposes
from signup.purposes.actions import ControllerView


@dataclass(frozen=True)
class Standing:
    """A form as staff see it in a list."""

    slug: str
    name: str
    live_version: int  # 0: never published
    closed: bool
    has_draft: bool


def standings(session: Session, controller_id: str) -> list[Standing]:
    """All forms of the controller, published or not, in the order of their slugs."""
    query = select(Form.slug, Form.name, Form.live_version, Form.closed, Form.draft.is_not(None))
    rows = session.execute(query.where(Form.controller_id == controller_id).order_by(Form.slug))
    return [Standing(*row) for row in rows]


def create(session: Session, controller: ControllerView, file: FormFile, *, now: datetime) -> None:
    """The form exists with this draft; nobody can use it before it is published.

    Raises:
        Invalid, Conflict: the message says what to mend.
    """
    forms.create(session, controller, files.form_of(file), now=now)
    set_draft(session, controller, file.slug, file)


def set_draft(session: Session, controller: ControllerView, slug: str, file: FormFile) -> None:
    """The form's next version will be this one; the version in force stays until it is published.

    Raises:
        Invalid: a key cannot be used; the error names it.
        NotFound: the controller has no such form.
    """
    if file.slug != slug:
        raise wrong("slug", f"The file is about {file.slug!r}, not {slug!r}. A form keeps its slug.")
    check(files.form_of(file))
    _form(session, controller, slug).draft = files.stored(file)
    session.flush()


def described(session: Session, controller: ControllerView, slug: str) -> FormFile:
    """The draft of the form, or else the version in force, as a file.

    Raises:
        NotFound: the controller has no such form.
    """
    form = _form(session, controller, slug)
    if form.draft is not None:
        return files.restored(form.draft)
    return files.file_of(forms.in_force(session, slug), form.name)


def publish(session: Session, controller: ControllerView, slug: str, *, actor: Actor, now: datetime) -> forms.Published:
    """The draft is in force, with HTML, texts and notice frozen; purposes that it words exist.

    Without a draft, the version in force is published anew with the texts that are in force now.

    Returns:
        The version in force; it is a new one if anything differs from the one before.

    Raises:
        Invalid: a text, a reason or the privacy notice is missing, or a mail could not go out like this.
        NotFound: the controller has no such form.
        Conflict: its sender has yet to be checked, where that is required.

    Rule: GDPR 7(1), 7(2) and 13; what people see is what is on record.
    """
    senders.refuse_unchecked(session, controller, now=now)
    form = _form(session, controller, slug)
    if form.draft is None and not form.live_version:
        raise Conflict(f"The form {slug!r} has no draft.")
    file = described(session, controller, slug)
    new = files.form_of(file)
    if form.draft is not None:
        _word(session, controller.id, new.locale, file.purposes, now=now)
        form.name, form.allowed_origins, form.draft = new.name, list(new.allowed_origins), None
        session.flush()
    return publish_as(session, controller, form.id, new, actor=actor, now=now)


def publish_as(
    session: Session, controller: ControllerView, form_id: str, new: NewForm, *, actor: Actor, now: datetime
) -> forms.Published:
    """What `new` says is in force, as the form's next version if it differs from the one before.

    Returns:
        The version in force.
    """
    definition = forms.define(session, controller, new)
    html, css_sha256 = pages.snapshot(definition, new.locale, controller)
    rendered = forms.Rendered(new.locale, definition, html, css_sha256)
    return forms.publish(session, controller, form_id, rendered, actor=actor, now=now)


def _word(
    session: Session, controller_id: str, locale: str, parts: Sequence[str | PurposePart], *, now: datetime
) -> None:
    """Purposes that a file words exist, in these words."""
    for part in parts:
        if isinstance(part, PurposePart):
            words = purposes.Words(locale, part.label, part.hint, part.text)
            purposes.word_purpose(session, controller_id, part.slug, words, now=now)


def _form(session: Session, controller: ControllerView, slug: str) -> Form:
    form = session.scalars(select(Form).where(Form.controller_id == controller.id, Form.slug == slug)).first()
    if form is None:
        raise NotFound(f"There is no form {slug!r}.")
    return form
