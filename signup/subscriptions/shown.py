"""What a page tells of a question: the same behind its link and after its code."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from signup.core.db import Session
from signup.subscriptions import links
from signup.subscriptions.answers import Question
from signup.subscriptions.rules import Link


def onward(asked: Question) -> str | None:
    """Where its form leads somebody who has just confirmed."""
    return asked.view.after_confirm if asked.link is Link.CONFIRMED else None


def has_receipt(asked: Question, *, now: datetime) -> bool:
    """Whether its link leads to a receipt too: once it is confirmed, until it would have run out."""
    return asked.link is Link.CONFIRMED and now < asked.confirmation.expires_at


def question(session: Session, asked: Question) -> dict[str, Any]:
    """The values of `subscriptions/confirm.html` that do not depend on the way there."""
    confirmation, held = asked.confirmation, asked.subscription
    withdraw = preferences = None
    if held is not None and asked.link is Link.CONFIRMED:
        ident = links.unsubscribe_id(session, held.id, held.epoch)
        withdraw = links.unsubscribe_url(session, held.id, held.epoch)
        preferences = links.preferences_url(session, ident)
    return {
        "state": asked.link.value,
        "controller": asked.view.controller,
        "address": asked.masked,
        "purposes": asked.purposes,
        "requested_at": confirmation.created_at,
        "page_host": confirmation.page_host,
        "expires_at": confirmation.expires_at,
        "confirmed_at": confirmation.closed_at,
        "form_url": None if asked.view.closed else f"/f/{asked.view.slug}",
        "unsubscribe_url": withdraw,
        "preferences_url": preferences,
        "leads_on": asked.view.after_confirm is not None,
        "onward_url": onward(asked),
        "receipt_url": None,
        "nonce": None,
        "action": None,
        "not_me_url": None,
        "may_resend": False,
        "young": False,
    }
