"""Making, publishing and finding forms."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Text, bindparam, literal_column, select

from signup.core.db import Prepared, Session, database
from signup.core.errors import Conflict, Invalid, NotFound
from signup.core.values import Actor, new_id
from signup.eventlog.kinds import EventType
from signup.eventlog.record import canonical, record
from signup.forms.definition import NewForm, check, settings, wrong
from signup.forms.models import Form, FormVersion
from signup.forms.rules import FormView, whole
from signup.mail import pictures, preview
from signup.purposes import actions as purposes
from signup.purposes.actions import ControllerView, PurposeView, TextView
from signup.purposes.models import Controller


def create(session: Session, controller: ControllerView, new: NewForm, *, now: datetime) -> str:
    """The form exists, without a version, so nobody can use it before it is published.

    Returns:
        Its id.

    Raises:
        Invalid, Conflict: the message says what to mend.
    """
    check(new)
    if session.scalar(select(Form.id).where(Form.slug == new.slug)):
        raise Conflict(f"There is a form {new.slug!r} already.")
    form = Form(
        id=new_id("frm", now),
        controller_id=controller.id,
        slug=new.slug,
        name=new.name,
        closed=False,
        allowed_origins=list(new.allowed_origins),
        live_version=0,
        created_at=now,
    )
    session.add(form)
    session.flush()
    return form.id


def define(session: Session, controller: ControllerView, new: NewForm) -> dict[str, Any]:
    """The frozen definition of the next version: texts and notice as they are in force now.

    Raises:
        Invalid: a purpose does not exist, or has no consent text in the form's language.
    """
    check(new)
    known = purposes.named(session, controller.id, new.purposes)
    items = []
    for slug in new.purposes:
        if slug not in known:
            raise Invalid(f"There is no purpose {slug!r}.")
        purpose = known[slug]
        text = _text(session, controller.id, purpose, new.locale)
        items.append(
            {
                "id": purpose.id,
                "slug": slug,
                "topic": purpose.topic,
                "label": purpose.label[new.locale],
                "hint": purpose.hint.get(new.locale, ""),
                "text": text.text,
                "text_sha256": text.sha256,
                "text_version": text.version,
            }
        )
    if not items:
        raise Invalid("A form needs at least one purpose.")
    if not controller.privacy_url.strip():
        raise wrong("privacy", "The controller has no privacy notice: flask controller set --privacy URL.")
    return {
        **settings(new),
        "title": new.title,
        "intro": new.intro,
        "email_label": new.email_label,
        "submit_label": new.submit_label,
        "note": new.note,
        "purposes": items,
        "privacy_url": controller.privacy_url,
        "notice": {"url": controller.privacy_url, "controller": controller.name, "address": controller.address},
    }


def _text(session: Session, controller_id: str, purpose: PurposeView, locale: str) -> TextView:
    """The wording in the form's language, and no other.

    Raises:
        Invalid: nobody has worded the purpose in it.

    Rule: GDPR 4(11) and 7(2), consent to words that one understands.
    """
    try:
        text = purposes.text_in_force(session, controller_id, purpose.id, locale)
    except NotFound:
        raise wrong("purposes", f"{purpose.slug!r} has no consent text in {locale!r}.") from None
    if not text.text.strip() or not purpose.label.get(locale, "").strip():
        raise wrong("purposes", f"{purpose.slug!r} has no label or no consent text in {locale!r}.")
    return text


@dataclass(frozen=True)
class Rendered:
    """One version as it will be shown: its definition, and the page with every box unticked."""

    locale: str
    definition: dict[str, Any]
    html: str
    css_sha256: str


class Published(NamedTuple):
    """The version that is in force after publishing."""

    version: int
    is_new: bool


def publish(
    session: Session, controller: ControllerView, form_id: str, page: Rendered, *, actor: Actor, now: datetime
) -> Published:
    """The version in force shows what `page` shows and never changes; only what differs makes a new one.

    Returns:
        The version in force, and whether it is new.

    Raises:
        Invalid: a mail of the form could not go out like this; the errors say what and where.

    Rule: GDPR 7(1) and EDPB 05/2020 no. 108, a copy of the information presented.
    """
    form = session.scalars(select(Form).where(Form.id == form_id).with_for_update()).one()
    preview.refuse_unfit(sample_of(session, controller, form.slug, page.locale, page.definition), now=now)
    content = canonical(
        {"css": page.css_sha256, "definition": page.definition, "html": page.html, "locale": page.locale}
    )
    digest = hashlib.sha256(content).hexdigest()
    # A number for nothing would call every pasted copy outdated.
    if digest == session.scalar(
        select(FormVersion.sha256).where(FormVersion.form_id == form_id, FormVersion.number == form.live_version)
    ):
        return Published(form.live_version, is_new=False)
    number = form.live_version + 1
    session.add(
        FormVersion(
            id=new_id("fv", now),
            controller_id=controller.id,
            form_id=form_id,
            number=number,
            locale=page.locale,
            definition=page.definition,
            html=page.html,
            css_sha256=page.css_sha256,
            sha256=digest,
            created_at=now,
        )
    )
    form.live_version = number
    session.flush()
    fields = {"form": form.slug, "form_version": number, "form_sha256": digest}
    record(session, controller.id, EventType.FORM_PUBLISHED, fields, now=now, actor=actor)
    return Published(number, is_new=True)


def sample_of(
    session: Session, controller: ControllerView, slug: str, locale: str, definition: Mapping[str, Any]
) -> preview.Sample:
    """What the mails of a form, or of a draft of it, are rendered from."""
    config = session.config
    picture = pictures.of(session, controller)
    return preview.Sample(slug, locale, controller, definition, config.public_url, config.token_days, picture)


def owner(session: Session, slug: str) -> ControllerView:
    """The controller of the form `slug`: no two forms share a slug.

    Raises:
        NotFound: there is no such form.
    """
    controller_id = session.scalar(select(Form.controller_id).where(Form.slug == slug))
    if controller_id is None:
        raise NotFound(f"There is no form {slug!r}.")
    return purposes.get_controller(session, controller_id)


def set_closed(session: Session, controller_id: str, slug: str, closed: bool) -> None:
    """The form answers 410 from now on, or takes sign-ups again."""
    form = session.scalars(select(Form).where(Form.controller_id == controller_id, Form.slug == slug)).first()
    if form is None:
        raise NotFound(f"There is no form {slug!r}.")
    form.closed = closed


_CONTROLLER_FIELDS = tuple(ControllerView.__dataclass_fields__)
_WORDING = "SELECT v.sha256 FROM form_version v WHERE v.form_id = form.id AND v.number = form.live_version"
# Everything of a form that may change, as one text: two equal stamps are the same form.
_STAMP = " || '\n' || ".join(
    [
        "CAST(form.closed AS TEXT)",
        "form.allowed_origins",
        "CAST(form.live_version AS TEXT)",
        # A restored database may count up to the same number again, with other words.
        f"coalesce(({_WORDING}), '')",
        *(f"controller.{name}" for name in _CONTROLLER_FIELDS),
    ]
)
_VIEW = (
    Form.id,
    Form.slug,
    Form.closed,
    Form.allowed_origins,
    Form.live_version,
    FormVersion.id,
    FormVersion.number,
    FormVersion.locale,
    FormVersion.definition,
    FormVersion.sha256,
    literal_column(_STAMP),
    *(getattr(Controller, name) for name in _CONTROLLER_FIELDS),
)


def _view(row: Sequence[Any]) -> FormView:
    form, controller = row[: -len(_CONTROLLER_FIELDS)], row[-len(_CONTROLLER_FIELDS) :]
    values = (*form[:3], tuple(form[3]), *form[4:8], whole(form[8]), *form[9:], ControllerView(*controller))
    return FormView(*values)


# How many forms one process remembers.
MAX_RECENT = 1000


def recent(slug: str) -> FormView | None:
    """The form as this process read it last. It may have changed since; its `stamp` tells."""
    found: FormView | None = database().memory.get(("form", slug))
    return found


def read_again(session: Session, slug: str) -> FormView:
    """Like `in_force`, and remembered for `recent`."""
    memory = database().memory
    memory.pop(("form", slug), None)
    view = in_force(session, slug)
    if len(memory) >= MAX_RECENT:
        memory.clear()
    memory["form", slug] = view
    return view


# The stamp that a form has now, for queries that ask more at once: bind form_id. It is `FormView.stamp` unless the
# form has changed since.
STAMP_NOW = (
    select(literal_column(_STAMP, Text))
    .select_from(Form)
    .join(Controller, Controller.id == Form.controller_id)
    .where(Form.id == bindparam("form_id"))
    .scalar_subquery()
)


def in_force(session: Session, slug: str) -> FormView:
    """The form with its version in force.

    Raises:
        NotFound: no such form, or it was never published.
    """
    return _only(session.rows(_IN_FORCE, {"slug": slug}, keep_queue=True))


def version(session: Session, slug: str, number: int) -> FormView:
    """The form with its version `number`, in force or archived.

    Raises:
        NotFound: there is no such version.
    """
    return _only(session.rows(_VERSION, {"slug": slug, "number": number}, keep_queue=True))


def by_version_id(session: Session, version_id: str) -> FormView:
    """The form with the version that a confirmation points at."""
    return _only(session.rows(_BY_VERSION, {"version_id": version_id}, keep_queue=True))


_FORMS = (
    select(*_VIEW)
    .join(FormVersion, FormVersion.form_id == Form.id)
    .join(Controller, Controller.id == Form.controller_id)
)
_IN_FORCE = Prepared(_FORMS.where(Form.slug == bindparam("slug"), FormVersion.number == Form.live_version))
_VERSION = Prepared(_FORMS.where(Form.slug == bindparam("slug"), FormVersion.number == bindparam("number")))
_BY_VERSION = Prepared(_FORMS.where(FormVersion.id == bindparam("version_id")))


def _only(rows: Sequence[Sequence[Any]]) -> FormView:
    if not rows:
        raise NotFound("There is no such form.")
    return _view(rows[0])


def listed(session: Session, controller_id: str, *, after: str = "", limit: int = 100) -> list[FormView]:
    """The controller's published forms in the order of their slugs, after the slug `after`."""
    rows = session.execute(
        select(*_VIEW)
        .join(FormVersion, (FormVersion.form_id == Form.id) & (FormVersion.number == Form.live_version))
        .join(Controller, Controller.id == Form.controller_id)
        .where(Form.controller_id == controller_id, Form.slug > after)
        .order_by(Form.slug)
        .limit(limit)
    )
    return [_view(row) for row in rows]
