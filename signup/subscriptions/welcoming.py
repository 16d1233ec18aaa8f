"""The mail that follows a confirmation, when the form has one."""

from __future__ import annotations

from datetime import datetime, timedelta

from signup.consents import actions as consents
from signup.consents.models import ConsentState
from signup.contacts.actions import Found
from signup.core.db import Session
from signup.forms.rules import FormView
from signup.mail import compose
from signup.subscriptions import links

# A greeting that is days late only puzzles.
WELCOME_DAYS = 2


def queue_welcome(session: Session, view: FormView, found: Found, order: tuple[str, int], *, now: datetime) -> None:
    """The form's mail after the confirmation is queued, if it has one.

    Args:
        order: id and epoch of the subscription that its links end.

    Rule: RFC 8058 3.1, both headers; whoever confirmed a moment ago can leave with one click.
    """
    if not view.welcome:
        return
    headers = (
        ("List-Unsubscribe", links.list_unsubscribe(session, *order)),
        ("List-Unsubscribe-Post", links.ONE_CLICK),
    )
    held = consents.of_contact(session, view.controller.id, found.contact_id)
    items = [item.shown(view.locale) for item in held if item.state is ConsentState.GIVEN]
    values = {
        "unsubscribe_url": links.unsubscribe_url(session, *order),
        "requested_at": compose.local_time(now, view.locale, view.controller.timezone),
    }
    wording = compose.wording_of(
        "welcome", view.locale, view.controller, view.definition, items=items, valid_days=session.config.token_days
    )
    give_up_at = now + timedelta(days=WELCOME_DAYS)
    draft = compose.Draft(found.subject, found.email, wording, values, None, give_up_at, headers)
    compose.queue(session, draft, now=now)
