"""A form's mails, for programs that help to write them."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta, Struct

from signup.core.db import Session
from signup.core.errors import NotFound
from signup.core.values import EmailAddress
from signup.forms import actions as forms
from signup.forms import mailing
from signup.forms.rules import FormView
from signup.mail import preview
from signup.web import api
from signup.web.api import Call
from signup.web.shapes import Email

blueprint = api.blueprint("mails")

Name = Annotated[Literal["confirm", "already", "welcome"], Meta(description="Which of the form's mails.")]


class PreviewQuery(Struct, forbid_unknown_fields=True):
    name: Name = "confirm"


class MailProblem(Struct):
    """One thing that a confirmation mail must not hold."""

    place: str
    code: str
    text: str


class MailPreview(Struct):
    """A mail with links that lead nowhere."""

    subject: str
    text: str
    html: str
    problems: Annotated[list[MailProblem], Meta(description="What stands against the confirmation mail.")]


class MailTest(Struct, forbid_unknown_fields=True):
    name: Name = "confirm"
    email: Annotated[Email | None, Meta(description="One of the controller's own addresses; null: its reply-to.")] = (
        None
    )


class MailQueued(Struct):
    status: Literal["queued"]
    message_id: str


@api.operation(blueprint, "GET", "/forms/<slug>/mail-preview", scope="forms.read")
def preview_mail(session: Session, call: Call, query: PreviewQuery, slug: str) -> MailPreview:
    """Read one of a form's mails."""
    shown = mailing.sample(session, _view(session, call, slug))
    raw = preview.rendered(shown, query.name, now=call.now)
    problems = preview.problems(shown, now=call.now) if query.name == "confirm" else []
    return MailPreview(
        preview.subject(raw),
        preview.part(raw, "text"),
        preview.part(raw, "html"),
        [MailProblem(item.place, item.code, item.text) for item in problems],
    )


@api.operation(blueprint, "POST", "/forms/<slug>/mail-test", scope="mail.test", status=202)
def test_mail(session: Session, call: Call, body: MailTest, slug: str) -> MailQueued:
    """Send one of a form's mails to the controller itself.

    Its links lead nowhere. Ten an hour, counted apart from what the public may cause.
    """
    view = _view(session, call, slug)
    address = EmailAddress.parse(body.email or view.controller.reply_to)
    return MailQueued("queued", mailing.send_test(session, view, body.name, address, now=call.now))


def _view(session: Session, call: Call, slug: str) -> FormView:
    view = forms.in_force(session, slug)
    if view.controller.id != call.controller_id:
        raise NotFound("There is no such form.")
    return view
