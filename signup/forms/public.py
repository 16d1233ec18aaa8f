"""The hosted form and the sign-up POST, for visitors and for forms on other sites."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from flask import Blueprint, g, jsonify, make_response, redirect, render_template, request
from flask_babel import gettext as _
from werkzeug.datastructures import MultiDict
from werkzeug.exceptions import BadRequest, UnsupportedMediaType
from werkzeug.wrappers import Response

from signup.abuse import admission, flows
from signup.core.db import database, reading, transaction
from signup.core.errors import Invalid, NetworkSpent, NotFound, SecondLook
from signup.core.values import EmailAddress, clean_text, utc_now
from signup.forms import actions as forms
from signup.forms import pages, rules, stepup, views
from signup.forms.rules import FieldError, FormView
from signup.subscriptions import presses, requests
from signup.subscriptions.presses import SignupRequest
from signup.web import errors as web_errors
from signup.web.cors import allow_listed
from signup.web.request import SECOND_CSP, client_info, config, is_person, lead_on, speak, wants_json

blueprint = Blueprint("forms", __name__)

MAX_PAGE_CHARACTERS = 500
FORM_TYPES = ("application/x-www-form-urlencoded", "multipart/form-data")
# A day: the list of origins a browser may remember.
PREFLIGHT_SECONDS = 86_400


# Flask would answer OPTIONS itself, without what a foreign script needs.
@blueprint.get("/f/<slug>", provide_automatic_options=False)
def show(slug: str) -> Response:
    with reading() as session:
        view = forms.in_force(session, slug)
    _speak(view)
    if view.closed:
        return _closed(view)
    _count_view(view)
    form = rules.linked(view, request.args)
    html = pages.form_page(view, form, action=f"/f/{view.slug}", hidden=_hidden(view))
    return make_response(html)


def _count_view(view: FormView) -> None:
    """Embedded forms tell theirs themselves."""
    if is_person(request):
        views.note(view.controller.id, view.id, now=utc_now())


@blueprint.route("/f/<slug>", methods=["OPTIONS"])
def preflight(slug: str) -> Response:
    with reading() as session:
        _speak(forms.in_force(session, slug))
    response = make_response("", 204)
    response.headers["Allow"] = "GET, HEAD, OPTIONS, POST"
    response.headers["Access-Control-Allow-Methods"] = "POST"
    response.headers["Access-Control-Allow-Headers"] = "Content-Type, Accept"
    response.headers["Access-Control-Max-Age"] = str(PREFLIGHT_SECONDS)
    return response


@blueprint.post("/f/<slug>", provide_automatic_options=False)
def submit(slug: str) -> Response:
    data = stepup.chosen(_body())
    view = forms.recent(slug)
    if view is not None and (answer := _accept(view, data)) is not None:
        return answer
    # Unknown here, changed since, or refused by what may be an old copy: only the form as it is now can refuse.
    with reading() as session:
        live = forms.read_again(session, slug)
        view, step_up = _version_meant(session, live, data)
    _speak(live)
    if live.closed:
        return _closed(live)
    checked, unlisted = rules.check(view, data), _unlisted(live)
    if unlisted and not stepup.is_vouched(data):
        step_up.append(FieldError("origin", "unlisted"))
    if checked.errors or step_up or checked.email is None:
        return _again(live, checked.form, checked.errors, step_up)
    return _request(live, view, checked, data, unlisted=unlisted)


def _accept(view: FormView, data: MultiDict[str, str]) -> Response | None:
    """The answer, when the form as this process knows it accepts `data` and has not changed meanwhile."""
    stated = data.get("form_version")
    if view.closed or (stated and stated != str(view.version)):
        return None
    checked = rules.check(view, data)
    if checked.email is None or checked.errors:
        return None
    unlisted = _unlisted(view)
    if unlisted and not stepup.is_vouched(data):
        return None
    _speak(view)
    try:
        return _request(view, view, checked, data, unlisted=unlisted)
    except presses.Outdated:
        return None


def _request(
    live: FormView, view: FormView, checked: rules.Checked, data: MultiDict[str, str], *, unlisted: bool
) -> Response:
    assert checked.email is not None  # noqa: S101 - it was checked
    meant = None if wants_json(request) else stepup.suggestion(checked.email, data)
    if meant:
        return _did_you_mean(live, checked, meant)
    now = utc_now()
    ask = _ask(view, checked, data, checked.email, unlisted=unlisted, now=now)
    try:
        with transaction() as session:
            handle = requests.request(session, view, ask, now=now)
    except SecondLook as doubt:
        _count(doubt)
        return _second(live, checked.form, doubt)
    except NetworkSpent as spent:
        return _later(live, checked.form, spent)
    except Invalid as refused:
        return _again(live, checked.form, [FieldError(one["field"], one["code"]) for one in refused.errors], [])
    return _accepted(view, handle)


def _count(doubt: SecondLook) -> None:
    """A flood that is refused is known to all processes, at the price of one small commit a second."""
    if doubt.owed:
        with transaction() as session:
            flows.keep(session, doubt.owed)


def _unlisted(view: FormView) -> bool:
    return not rules.origin_allowed(view.allowed_origins, request.headers.get("Origin"), config().public_url)


def _speak(view: FormView) -> None:
    g.form_view = view
    speak(view)


def _ask(
    view: FormView,
    checked: rules.Checked,
    data: MultiDict[str, str],
    email: EmailAddress,
    *,
    unlisted: bool,
    now: datetime,
) -> SignupRequest:
    origin = request.headers.get("Origin")
    look = stepup.look(database().keys, view, data, email, unlisted=unlisted, origin=origin, now=now)
    return SignupRequest(
        email=email,
        purposes=checked.purposes,
        render_id=_short(data.get("render_id")),
        stated_version=view.version if data.get("form_version") else None,
        client=client_info(request),
        origin_header=_short(origin, MAX_PAGE_CHARACTERS),
        page=_page(),
        fields=checked.fields,
        attribution=checked.attribution,
        look=look,
    )


def _later(view: FormView, form: rules.SignupForm, spent: NetworkSpent) -> Response:
    """The network must wait; what was typed is kept on the page."""
    if wants_json(request):
        raise spent
    notice = _("Many sign-ups have come from your network. Please wait a few minutes and send the form again.")
    html = pages.form_page(view, form, action=f"/f/{view.slug}", hidden=_hidden(view), notice=notice)
    return make_response(html, 429, {"Retry-After": str(spent.retry_after_seconds)})


def _second(view: FormView, form: rules.SignupForm, doubt: SecondLook) -> Response:
    """The same page, which lets the browser prove that a person is there; without scripts sending it again will do."""
    wait = doubt.retry_after_seconds
    status, retry_after = (429, {"Retry-After": str(wait)}) if wait else (422, {})
    url = stepup.challenge_url(view)
    if wants_json(request):
        told = pages.messages([FieldError("altcha", "proof")])
        more = {"challenge": url, "errors": told}
        return web_errors.problem(status, "proof", told[0]["message"], retry_after=wait or None, more=more)
    spent = "by-hand" in doubt.reasons
    notice = _("Please wait a little and send the form again.") if spent else None
    if notice is None:
        notice = _("Please check your entries and send the form once more. That keeps robots out.")
    html = pages.form_page(
        view, form, action=f"/f/{view.slug}", hidden=_hidden(view, second=True), notice=notice, challenge=url
    )
    return make_response(html, status, {**retry_after, "Content-Security-Policy": SECOND_CSP})


def _did_you_mean(view: FormView, checked: rules.Checked, meant: str) -> Response:
    """A slip of one letter is shown once, with a button for either address."""
    typed = checked.email.typed if checked.email else ""
    hidden = {**_hidden(view), stepup.AS_TYPED: typed}
    html = pages.form_page(view, checked.form, action=f"/f/{view.slug}", hidden=hidden, meant=meant)
    return make_response(html, 422)


def _accepted(view: FormView, handle: str) -> Response:
    """The same for every address."""
    if wants_json(request):
        return make_response(jsonify({"status": "pending"}), 202)
    return redirect(view.after_signup or f"/f/{view.slug}/pending/{handle}", 303)


def _body() -> MultiDict[str, str]:
    """The submitted fields, whatever format they came in."""
    if request.mimetype in FORM_TYPES:
        return request.form
    if request.mimetype != "application/json":
        raise UnsupportedMediaType
    try:
        content = request.get_json()
    except (BadRequest, RecursionError):
        raise BadRequest from None
    if not isinstance(content, dict):
        raise BadRequest
    return MultiDict([(name, item) for name, value in content.items() for item in _texts(value)])


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [_characters(value)]
    if isinstance(value, int) and not isinstance(value, bool):
        return [str(value)]
    if isinstance(value, list):
        return [_characters(item) for item in value if isinstance(item, str)]
    return []


def _characters(text: str) -> str:
    """JSON can spell half a character, which nothing can store or show."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _version_meant(session: Any, live: FormView, data: MultiDict[str, str]) -> tuple[FormView, list[FieldError]]:
    """The version the visitor saw: an archived one counts while its chosen purposes still exist."""
    stated = data.get("form_version")
    if not stated or stated == str(live.version):
        return live, []
    unknown = [FieldError("form_version", "unknown")]
    if not (stated.isascii() and stated.isdigit() and len(stated) < 9):
        return live, unknown
    try:
        archived = forms.version(session, live.slug, int(stated))
    except NotFound:
        return live, unknown
    offered = {item["id"] for item in live.purposes}
    chosen = set(data.getlist("purpose"))
    lost = [item for item in archived.purposes if item["slug"] in chosen and item["id"] not in offered]
    return (live, unknown) if lost else (archived, [])


def _again(
    view: FormView, form: rules.SignupForm, problems: Sequence[FieldError], step_up: Sequence[FieldError]
) -> Response:
    """The same page with the values kept, or a problem a script can read."""
    try:
        _count_rejected()
    except NetworkSpent as spent:
        return _later(view, form, spent)
    if wants_json(request):
        more: dict[str, Any] = {"errors": pages.messages([*problems, *step_up])}
        if step_up:
            more["challenge"] = stepup.challenge_url(view)
        return web_errors.problem(422, "invalid", _("Please check your input."), more=more)
    notice = pages.messages(step_up)[0]["message"] if step_up else None
    html = pages.form_page(view, form, action=f"/f/{view.slug}", hidden=_hidden(view), errors=problems, notice=notice)
    return make_response(html, 422)


def _closed(view: FormView) -> Response:
    if wants_json(request):
        return web_errors.problem(410, "closed", _("Sign-ups are no longer accepted here."))
    return make_response(render_template("forms/closed.html", controller=view.controller), 410)


def _count_rejected() -> None:
    client = client_info(request)
    if presses.is_developer(config(), client):
        return
    with transaction() as session:
        admission.refuse_rejected(session, client, now=utc_now())


def _hidden(view: FormView, *, second: bool = False) -> dict[str, str]:
    now = utc_now()
    fields = {"form_version": str(view.version), "render_id": str(uuid.uuid4())}
    fields |= stepup.hidden(database().keys, view, request.values.get("src"), now=now)
    return {**fields, **stepup.second(database().keys, view, now=now)} if second else fields


def _short(value: str | None, limit: int = rules.MAX_RENDER_ID) -> str | None:
    return clean_text(value, limit) if value else None


def _page() -> str | None:
    """The page the form stood on, without its query: that may hold more than we need."""
    return _short((request.headers.get("Referer") or "").partition("?")[0].partition("#")[0], MAX_PAGE_CHARACTERS)


@blueprint.after_request
def cors(response: Response) -> Response:
    return allow_listed(response)


@blueprint.after_request
def allow_redirect(response: Response) -> Response:
    """The page of a form that leads to a page of its controller's."""
    view: FormView | None = g.get("form_view")
    if view and view.after_signup and response.mimetype == "text/html":
        lead_on(response, view.after_signup)
    return response
