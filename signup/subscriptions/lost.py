"""Asking for a new link: the same answer for every address, and the link itself by mail."""

from __future__ import annotations

from flask import Blueprint, jsonify, make_response, redirect, request
from flask_babel import gettext as _
from werkzeug.wrappers import Response

from signup.abuse import admission, challenge, flows
from signup.core.db import reading, transaction
from signup.core.errors import Invalid, NetworkSpent, SecondLook
from signup.core.values import EmailAddress, utc_now
from signup.forms import stepup
from signup.forms.rules import FieldError
from signup.purposes.actions import ControllerView
from signup.subscriptions import newlinks, presses
from signup.web import lost_links
from signup.web.request import client_info, config
from signup.web.token_pages import UnknownLink, keys, protect

blueprint = Blueprint("lost", __name__)
protect(blueprint)


@blueprint.get("/preferences")
def show() -> Response:
    owner = _owner(request.args.get("of", ""))
    asked = lost_links.ASKED in request.args
    return lost_links.page(owner, lost_links.ASKED if asked else lost_links.ASK, 200)


@blueprint.get("/preferences/challenge")
def puzzle() -> Response:
    desk, now = newlinks.desk(_owner(request.args.get("of", "")).id), utc_now()
    with reading() as session:
        cost = admission.cost(session, desk.id, now=now)
    made = challenge.issue(keys(), desk.id, cost=cost, now=now)
    return make_response(jsonify(made), 200)


@blueprint.post("/preferences")
def ask() -> Response:
    owner = _owner(request.form.get("of", ""))
    try:
        email = EmailAddress.parse(request.form.get("email", ""))
    except Invalid as wrong:
        return _again(owner, FieldError("email", wrong.errors[0]["code"]))
    desk, origin, now = newlinks.desk(owner.id), request.headers.get("Origin"), utc_now()
    look = stepup.look(keys(), desk, request.form, email, unlisted=False, origin=origin, now=now)
    try:
        with transaction() as session:
            newlinks.ask(session, owner.id, email, look, client=client_info(request), now=now)
    except SecondLook as doubt:
        return _second(owner, doubt)
    except NetworkSpent as spent:
        return _later(owner, spent)
    return redirect(f"/preferences?of={owner.slug}&{lost_links.ASKED}", 303)


def _owner(slug: str) -> ControllerView:
    found = lost_links.owner(slug)
    if found is None:
        raise UnknownLink
    return found


def _again(owner: ControllerView, problem: FieldError) -> Response:
    """The page with what was typed; very many mistakes from one network have to wait."""
    client = client_info(request)
    try:
        if not presses.is_developer(config(), client):
            with transaction() as session:
                admission.refuse_rejected(session, client, now=utc_now())
    except NetworkSpent as spent:
        return _later(owner, spent)
    return lost_links.page(owner, lost_links.ASK, 422, typed=request.form.get("email", ""), errors=[problem])


def _second(owner: ControllerView, doubt: SecondLook) -> Response:
    """The page lets the browser prove that a person is there; without scripts sending it again will do."""
    if doubt.owed:
        with transaction() as session:
            flows.keep(session, doubt.owed)
    if "by-hand" in doubt.reasons:
        notice = _("Please wait a little and send the form again.")
    else:
        notice = _("Please check your entries and send the form once more. That keeps robots out.")
    wait, typed = doubt.retry_after_seconds, request.form.get("email", "")
    status, headers = (429, {"Retry-After": str(wait)}) if wait else (422, {})
    return lost_links.page(owner, lost_links.ASK, status, typed=typed, notice=notice, second=True, headers=headers)


def _later(owner: ControllerView, spent: NetworkSpent) -> Response:
    notice = _("Many requests have come from your network. Please wait a few minutes and send the form again.")
    headers = {"Retry-After": str(spent.retry_after_seconds)}
    typed = request.form.get("email", "")
    return lost_links.page(owner, lost_links.ASK, 429, typed=typed, notice=notice, headers=headers)
