"""The pages behind mailed links. Opening one changes nothing; its one button does."""

from __future__ import annotations

import logging
from typing import Any

from flask import Blueprint, abort, g, make_response, redirect, render_template, request
from werkzeug.wrappers import Response

from signup.consents.actions import Held
from signup.core.db import database, reading, transaction
from signup.core.errors import Busy
from signup.core.signing import Keys
from signup.core.values import MAIL_CLIENT, PERSON, rfc3339, utc_now
from signup.subscriptions import answers, endings, links, pending, resending
from signup.subscriptions.answers import Question
from signup.subscriptions.rules import BY_PAGE, UNDO_WINDOW, Link, NotMe
from signup.subscriptions.states import EndReason, Status
from signup.web.request import client_info, is_cross_site, mask_token_page, speak

blueprint = Blueprint("subscriptions", __name__)
log = logging.getLogger(__name__)

RESENDABLE = (Link.EXPIRED, Link.REPLACED)
GONE = (Link.EXPIRED, Link.CANCELLED, Link.WITHDRAWN, Link.REPLACED)
# Evidence of an opening is welcome, but no page waits for it.
NOTE_WAIT_SECONDS = 0.2
UNDO = "undo"
ONE_CLICK = "one-click"
# Words after the question mark: what the page says after its own button, the same whatever came of it.
RESENT = "resent"
RESTORED = "restored"


@blueprint.after_request
def headers(response: Response) -> Response:
    return mask_token_page(response)


@blueprint.before_request
def refuse_foreign_posts() -> None:
    if request.method == "POST" and not _one_click() and is_cross_site(request):
        abort(403)


def _keys() -> Keys:
    found: Keys = database().sessions.kw["keys"]
    return found


def _ident(purpose: str, token: str) -> bytes:
    """The id in a token of ours; 404 for a forged one."""
    ident = _keys().open_token(purpose, token)
    if ident is None:
        abort(404)
    return ident


def _page(name: str, status: int, **values: Any) -> Response:
    return make_response(render_template(f"subscriptions/{name}.html", **values), status)


def _itself(told: str = "") -> Response:
    return redirect(request.path + (f"?{told}" if told else ""), 303)


def _fresh(purpose: str, ident: bytes) -> bool:
    return _keys().page_is_fresh(purpose, ident, request.form.get("nonce", ""), utc_now())


def _note_opening(ident: bytes, purpose: str) -> None:
    """A hit that decided nothing is on record: a reading, or a POST that no page of ours led to."""
    try:
        with transaction(wait_seconds=NOTE_WAIT_SECONDS) as session:
            if purpose == links.UNSUBSCRIBE:
                endings.note_opening(session, ident, method=request.method, client=client_info(request), now=utc_now())
            else:
                answers.note_opening(
                    session, ident, purpose, method=request.method, client=client_info(request), now=utc_now()
                )
    except Busy:
        log.warning("an opened link was not noted: the database is busy")


# --- confirm ---------------------------------------------------------------------------------------------------------


@blueprint.get("/confirm/<token>")
def show_confirm(token: str) -> Response:
    ident = _ident(links.CONFIRM, token)
    _note_opening(ident, links.CONFIRM)
    return _confirm_page(ident)


@blueprint.post("/confirm/<token>")
def confirm(token: str) -> Response:
    ident = _ident(links.CONFIRM, token)
    now = utc_now()
    age = _keys().page_age(links.CONFIRM, ident, request.form.get("nonce", ""), now)
    if not _fresh(links.CONFIRM, ident):
        _note_opening(ident, links.CONFIRM)
        return _confirm_page(ident, young=True)
    with transaction() as session:
        if request.form.get("resend"):
            resending.resend(session, ident, client=client_info(request), now=now)
            return _itself(RESENT)
        link = answers.confirm(session, ident, client=client_info(request), page_seconds=int(age or 0), now=now)
    if link is None:
        abort(404)
    return _confirm_page(ident) if link in GONE else _itself()


def _confirm_page(ident: bytes, *, young: bool = False) -> Response:
    now = utc_now()
    with reading() as session:
        question = answers.look(session, ident, now=now)
        if question is None:
            abort(404)
        urls = {
            "not_me_url": links.not_me_url(session, ident),
            "unsubscribe_url": _unsubscribe_url(session, question),
        }
    speak(question.view)
    confirmation, link = question.confirmation, question.link
    status = 410 if link in GONE else 422 if young else 200
    return _page(
        "confirm",
        status,
        state=RESENT if RESENT in request.args and link in RESENDABLE else link.value,
        controller=question.view.controller,
        address=question.masked,
        purposes=question.purposes,
        requested_at=confirmation.created_at,
        page_host=confirmation.page_host,
        expires_at=confirmation.expires_at,
        confirmed_at=confirmation.closed_at,
        nonce=_keys().page_nonce(links.CONFIRM, ident, now),
        action=request.path,
        form_url=None if question.view.closed else f"/f/{question.view.slug}",
        may_resend=link in RESENDABLE and question.email is not None and not question.view.closed,
        young=young and link not in GONE,
        **urls,
    )


def _unsubscribe_url(session: Any, question: Question) -> str | None:
    held = question.subscription
    return links.unsubscribe_url(session, held.id, held.epoch) if held and question.link is Link.CONFIRMED else None


# --- not me ----------------------------------------------------------------------------------------------------------


@blueprint.get("/not-me/<token>")
def show_not_me(token: str) -> Response:
    ident = _ident(links.NOT_ME, token)
    _note_opening(ident, links.NOT_ME)
    return _not_me_page(ident)


@blueprint.post("/not-me/<token>")
def not_me(token: str) -> Response:
    ident = _ident(links.NOT_ME, token)
    if not _fresh(links.NOT_ME, ident):
        _note_opening(ident, links.NOT_ME)
        return _not_me_page(ident, young=True)
    with transaction() as session:
        outcome = answers.refuse(session, ident, client=client_info(request), now=utc_now())
    if outcome is None:
        abort(404)
    return _itself() if outcome is NotMe.DONE else _not_me_page(ident)


def _not_me_page(ident: bytes, *, young: bool = False) -> Response:
    now = utc_now()
    with reading() as session:
        question = answers.look(session, ident, now=now)
    if question is None:
        abort(404)
    speak(question.view)
    state, usable = question.not_me, question.not_me in (NotMe.OPEN, NotMe.AFTER_CONFIRM)
    ended = state is NotMe.DONE and question.subscription is not None and question.subscription.flagged
    return _page(
        "not_me",
        410 if state is NotMe.GONE else 422 if young and usable else 200,
        state="after_confirm" if ended else state.value,
        nonce=_keys().page_nonce(links.NOT_ME, ident, now) if usable else None,
        action=request.path,
        address=question.masked,
        controller=question.view.controller,
        young=young and usable,
    )


# --- unsubscribe -----------------------------------------------------------------------------------------------------


def _one_click() -> bool:
    """Whether a mail client asks on its reader's behalf.

    Rule: RFC 8058 3.2, the body says so; no cookie, no referrer, no context.
    """
    return request.endpoint == "subscriptions.unsubscribe" and request.form.get("List-Unsubscribe") == "One-Click"


@blueprint.get("/unsubscribe/<token>")
def show_unsubscribe(token: str) -> Response:
    ident = _ident(links.UNSUBSCRIBE, token)
    _note_opening(ident, links.UNSUBSCRIBE)
    return _unsubscribe_page(ident)


@blueprint.post("/unsubscribe/<token>")
def unsubscribe(token: str) -> Response:
    ident = _ident(links.UNSUBSCRIBE, token)
    if _one_click():
        _end(ident, ONE_CLICK)
        return make_response(("", 200, {"Content-Type": "text/plain; charset=utf-8"}))
    if request.form.get(UNDO):
        return _undo(ident)
    if not _fresh(links.UNSUBSCRIBE, ident):
        _note_opening(ident, links.UNSUBSCRIBE)
        return _unsubscribe_page(ident, young=True)
    _end(ident, BY_PAGE)
    return _itself()


def _end(ident: bytes, by: str) -> None:
    ending = endings.Ending(EndReason.UNSUBSCRIBED, by)
    actor = MAIL_CLIENT if by == ONE_CLICK else PERSON
    with transaction() as session:
        found = endings.behind_link(session, ident)
        if found is None:
            abort(404)
        order, scope = found
        if scope is None:
            endings.end(session, order, ending, client=client_info(request), actor=actor, now=utc_now())
        else:
            endings.end_topic(session, order, scope, ending, client=client_info(request), actor=actor, now=utc_now())


def _ending_of(ident: bytes, order: endings.Order, scope: Held | None) -> bytes:
    """What an undo nonce is about: this ending of what is behind the link, and no later one."""
    ended_at = order.subscription.ended_at or (scope.ended_at if scope else None)
    return ident + (rfc3339(ended_at) if ended_at else "").encode()


def _undo(ident: bytes) -> Response:
    now = utc_now()
    with transaction() as session:
        found = endings.behind_link(session, ident)
        if found is None:
            abort(404)
        age = _keys().page_age(UNDO, _ending_of(ident, *found), request.form.get(UNDO, ""), now)
        in_time = age is not None and 0 <= age <= UNDO_WINDOW.total_seconds()
        undone = in_time and endings.undo(session, *found, client=client_info(request), now=now)
    return _itself(RESTORED if undone else "")


def _unsubscribe_page(ident: bytes, *, young: bool = False) -> Response:
    now = utc_now()
    with reading() as session:
        found = endings.behind_link(session, ident, lock=False)
    if found is None:
        abort(404)
    order, scope = found
    g.locale, g.timezone = order.locale, order.controller.timezone
    undo = endings.undoable(order, scope, now=now)
    given = [scope] if scope in order.given and scope else [] if scope else order.given
    state = "active" if given else "ended" if order.subscription.status in (Status.ENDED, Status.ACTIVE) else "inactive"
    return _page(
        "unsubscribe",
        422 if young and state == "active" else 200,
        state=RESTORED if RESTORED in request.args and state == "active" else state,
        scope=scope.topic_label.get(order.locale, scope.topic) if scope else None,
        address=order.masked,
        purposes=[
            {"label": item.label.get(order.locale, item.slug), "hint": item.hint.get(order.locale, "")}
            for item in given
        ],
        nonce=_keys().page_nonce(links.UNSUBSCRIBE, ident, now),
        action=request.path,
        undo=_keys().page_nonce(UNDO, _ending_of(ident, order, scope), now) if undo else None,
        young=young and state == "active",
        form_url=None,
        controller=order.controller,
    )


# --- after the sign-up -----------------------------------------------------------------------------------------------


@blueprint.get("/f/<slug>/pending/<handle>")
def show_pending(slug: str, handle: str) -> Response:
    now = utc_now()
    with reading() as session:
        found = pending.find(session, slug, handle)
    if found is None:
        abort(404)
    speak(found.view)
    html = render_template(
        "forms/pending.html",
        controller=found.view.controller,
        resend_url=request.path,
        form_url=f"/f/{slug}",
        nonce=_keys().page_nonce("pending", handle.encode(), now),
        resend_at=found.resend_at if now < found.resend_at else None,
    )
    return make_response(html)


@blueprint.post("/f/<slug>/pending/<handle>")
def resend_pending(slug: str, handle: str) -> Response:
    if _fresh("pending", handle.encode()):
        with transaction() as session:
            found = pending.find(session, slug, handle)
            if found is not None:
                pending.resend(session, found, client=client_info(request), now=utc_now())
    return _itself()
