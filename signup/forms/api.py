"""Forms, read by programs."""

from __future__ import annotations

from msgspec import Struct

from signup.core.db import Session
from signup.core.errors import NotFound
from signup.forms import actions as forms
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


class FormField(Struct):
    name: str
    type: str
    label: str
    required: bool
    repeated: bool


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


def _shown(view: FormView, public_url: str) -> Form:
    boxes = [
        FormPurpose(item["slug"], item["topic"], item["label"], item["text"], item["text_sha256"])
        for item in view.purposes
    ]
    label = str(view.definition["email_label"])
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
            FormField("email", "email", label, required=True, repeated=False),
            FormField("purpose", "checkbox", "", required=True, repeated=True),
        ],
    )
