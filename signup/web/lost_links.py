"""The page for whoever has no link that works: it says nothing about anybody, and offers to mail a new one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from flask import g, make_response, render_template
from werkzeug.wrappers import Response

from signup.core.db import database, reading
from signup.core.values import utc_now
from signup.forms import pages, stepup
from signup.forms.rules import FieldError
from signup.mail.compose import INFORMAL
from signup.purposes import actions as purposes
from signup.purposes.actions import ControllerView
from signup.subscriptions import newlinks, tone
from signup.web.request import SECOND_CSP

UNKNOWN, ASK, ASKED = "unknown", "ask", "asked"


def owner(slug: str = "") -> ControllerView | None:
    """The controller with this slug, or without one the only controller. The page speaks as its forms do.

    Returns:
        None when several might be meant.

    Raises:
        NotFound: none has this slug.
    """
    with reading() as session:
        found = purposes.find_controller(session, slug) if slug else purposes.only_controller(session)
        if found is not None:
            g.informal = tone.of_controller(session, found.id) == INFORMAL
            g.timezone, g.accent = found.timezone, found.accent
    return found


def challenge_url(controller: ControllerView) -> str:
    return f"/preferences/challenge?of={controller.slug}"


def page(
    controller: ControllerView | None,
    state: str,
    status: int,
    *,
    typed: str = "",
    errors: Sequence[FieldError] = (),
    notice: str | None = None,
    second: bool = False,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The page, with a field for the address where it is clear whose mails are meant.

    Args:
        second: the browser is to solve a puzzle first; without scripts, sending it once more will do.
    """
    values: dict[str, Any] = {"typed": typed, "errors": pages.messages(errors), "notice": notice}
    values |= {"hidden": {}, "challenge": None}
    if controller is not None:
        desk, now = newlinks.desk(controller.id), utc_now()
        values["hidden"] = {"of": controller.slug, **stepup.hidden(database().keys, desk, None, now=now)}
        if second:
            values["hidden"] |= stepup.second(database().keys, desk, now=now)
            values["challenge"] = challenge_url(controller)
    html = render_template("subscriptions/unknown.html", controller=controller, state=state, **values)
    policy = {"Content-Security-Policy": SECOND_CSP} if second else {}
    return make_response(html, status, {**policy, **(headers or {})})
