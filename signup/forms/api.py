"""Forms, read by programs."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated

from msgspec import Meta, Struct, field

from signup.core.db import Session
from signup.core.errors import NotFound
from signup.forms import actions as forms
from signup.forms import embedding, views
from signup.forms.embedding import Kind
from signup.forms.rules import FormView
from signup.web import api
from signup.web.api import Call, ListQuery, Page

blueprint = api.blueprint("forms")


class FormPurpose(Struct):
    """One box of a form, with the exact wording that people agree to."""

    slug: str
    topic: str
    label: str
    text: str
    text_sha256: str


class FieldOption(Struct):
    value: str
    label: str


class FormField(Struct):
    """A field of the form by the name under which it is sent."""

    name: str
    type: str
    label: str
    required: bool
    repeated: bool
    purpose: Annotated[str | None, Meta(description="Why a declared field is asked for.")] = None
    max_length: int | None = None
    autocomplete: str | None = None
    options: list[FieldOption] = []


class Form(Struct):
    """A form with its version in force."""

    slug: str
    version: int
    sha256: str
    locale: str
    title: str
    closed: bool
    url: str
    purposes: list[FormPurpose]
    fields: list[FormField]


@api.operation(blueprint, "GET", "/forms", scope="forms.read")
def list_forms(session: Session, call: Call, query: ListQuery) -> Page[Form]:
    """List the forms."""
    found = forms.listed(session, call.controller_id, after=api.position("forms", query), limit=query.limit + 1)
    shown = [_shown(view, session.config.public_url) for view in found]
    return api.page("forms", query, shown, lambda form: form.slug)


@api.operation(blueprint, "GET", "/forms/<slug>", scope="forms.read")
def get_form(session: Session, call: Call, slug: str) -> Form:
    """Read one form: its version in force, purposes with wording, fields."""
    view = forms.in_force(session, slug)
    if view.controller.id != call.controller_id:
        raise NotFound("There is no such form.")
    return _shown(view, session.config.public_url)


class EmbedQuery(Struct, forbid_unknown_fields=True):
    kind: Annotated[Kind, Meta(description="Which way to embed the form.")] = field(name="as", default="script")
    source: Annotated[str, Meta(max_length=200, description="For links and QR codes: which poster or hall.")] = ""


class FormEmbed(Struct):
    """HTML to paste, and what the host page's Content-Security-Policy must allow for it."""

    kind: str = field(name="as")
    html: str
    csp: list[str]


@api.operation(blueprint, "GET", "/forms/<slug>/embed", scope="forms.read")
def get_embed(session: Session, call: Call, query: EmbedQuery, slug: str) -> FormEmbed:
    """Read what to paste into a page for this form."""
    view = forms.in_force(session, slug)
    if view.controller.id != call.controller_id:
        raise NotFound("There is no such form.")
    made = embedding.embed(view, query.kind, session.config.public_url, source=query.source)
    return FormEmbed(made.kind, made.html, list(made.csp))


class ViewsQuery(Struct, forbid_unknown_fields=True):
    days: Annotated[int, Meta(ge=1, le=400, description="How far back.")] = 30


class FormViews(Struct):
    """How often a form was seen, on its own page and on other sites: nothing is known of who saw it.

    Mail scanners, link previews and other machines that say so are left out.
    """

    since: datetime
    views: int


@api.operation(blueprint, "GET", "/forms/<slug>/views", scope="forms.read")
def get_views(session: Session, call: Call, query: ViewsQuery, slug: str) -> FormViews:
    """Read how often a form was seen."""
    view = forms.in_force(session, slug)
    if view.controller.id != call.controller_id:
        raise NotFound("There is no such form.")
    since = call.now - timedelta(days=query.days)
    return FormViews(since, views.total(session, call.controller_id, view.id, since=since))


def _shown(view: FormView, public_url: str) -> Form:
    boxes = [
        FormPurpose(item["slug"], item["topic"], item["label"], item["text"], item["text_sha256"])
        for item in view.purposes
    ]
    label = str(view.definition["email_label"])
    declared = [
        FormField(
            item["name"],
            item["type"],
            item["label"],
            required=item["required"],
            repeated=False,
            purpose=item["purpose"],
            max_length=item["max_length"] if item["type"] == "text" else None,
            autocomplete=item["autocomplete"],
            options=[FieldOption(option["value"], option["label"]) for option in item["options"]],
        )
        for item in view.fields
    ]
    return Form(
        slug=view.slug,
        version=view.version,
        sha256=view.sha256,
        locale=view.locale,
        title=str(view.definition["title"]),
        closed=view.closed,
        url=f"{public_url}/f/{view.slug}",
        purposes=boxes,
        fields=[
            FormField("email", "email", label, required=True, repeated=False, autocomplete="email"),
            *declared,
            FormField("purpose", "checkbox", "", required=True, repeated=True),
        ],
    )
