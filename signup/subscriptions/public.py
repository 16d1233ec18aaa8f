"""The pages behind mailed links. Opening one changes nothing; its one button does."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, g, make_response, redirect, request
from werkzeug.wrappers import Response

from signup.consents.actions import Held
from signup.core.db import reading, transaction
from signup.core.values import MAIL_CLIENT, PERSON, rfc3339, utc_now
from signup.subscriptions import answers, endings, links, resending, shown, tone
from signup.subscriptions.rules import BY_PAGE, LEAVING_REASONS, UNDO_WINDOW, Link, NotMe
from signup.subscriptions.states import EndReason, Status
from signup.web.request import client_info, speak
from signup.web.token_pages import (
    UnknownLink,
    fresh,
    ident_in,
    itself,
    keys,
    note,
    one_click,
    page,
    press,
    protect,
)

blueprint = Blueprint("subscriptions", __name__)
protect(blueprint)

RESENDABLE = (Link.EXPIRED, Link.REPLACED)
GONE = (Link.EXPIRED, Link.CANCELLED, Link.WITHDRAWN, Link.REPLACED, Link.CHECK)
UNDO = "undo"
ONE_CLICK = "one-click"
# The one button of a form that leads on afterwards; a press without it stays here.
ONWARD = "onward"
# Words after the question mark: what the page says after its own button, the same whatever came of it.
RESENT = "resent"
RESTORED = "restored"
WHY = "why"
THANKS = "thanks"


def _note_opening(ident: bytes, purpose: str) -> None:
    seen: dict[str, Any] = {"method": request.method, "client": client_info(request), "now": utc_now()}
    if purpose == links.UNSUBSCRIBE:
        note(lambda session: endings.note_opening(session, ident, **seen))
    else:
        note(lambda session: answers.note_opening(session, ident, purpose, **seen))


# --- confirm ---------------------------------------------------------------------------------------------------------


@blueprint.get("/confirm/<token>")
def show_confirm(token: str) -> Response:
    ident = ident_in(links.CONFIRM, token)
    _note_opening(ident, links.CONFIRM)
    return _confirm_page(ident)


@blueprint.post("/confirm/<token>")
def confirm(token: str) -> Response:
    ident = ident_in(links.CONFIRM, token)
    if not fresh(links.CONFIRM, ident):
        _note_opening(ident, links.CONFIRM)
        return _confirm_page(ident, young=True)
    if request.form.get("resend"):
        with transaction() as session:
            resending.resend(session, ident, client=client_info(request), now=utc_now())
        return itself(RESENT)
    if press(links.CONFIRM, ident, answers.confirm) in GONE:
        return _confirm_page(ident)
    return _onward(ident) if ONWARD in request.form else itself()


def _onward(ident: bytes) -> Response:
    """The page that the form's version names for this moment; nothing about the person goes along."""
    with reading() as session:
        question = answers.look(session, ident, now=utc_now())
    url = shown.onward(question) if question else None
    return redirect(url, 303) if url else itself()


def _confirm_page(ident: bytes, *, young: bool = False) -> Response:
    now = utc_now()
    with reading() as session:
        question = answers.look(session, ident, now=now)
        if question is None:
            raise UnknownLink
        values = {**shown.question(session, question), "not_me_url": links.not_me_url(session, ident)}
    speak(question.view)
    link = question.link
    values |= {
        "state": RESENT if RESENT in request.args and link in RESENDABLE else link.value,
        "nonce": keys().page_nonce(links.CONFIRM, ident, now),
        "action": request.path,
        "may_resend": link in RESENDABLE and question.email is not None and not question.view.closed,
        "young": young and link not in GONE,
        "receipt_url": f"{request.path}/receipt" if shown.has_receipt(question, now=now) else None,
    }
    status = 410 if link in GONE else 422 if young else 200
    return page("subscriptions/confirm.html", status, onward=question.view.after_confirm, **values)


# --- not me ----------------------------------------------------------------------------------------------------------


@blueprint.get("/not-me/<token>")
def show_not_me(token: str) -> Response:
    ident = ident_in(links.NOT_ME, token)
    _note_opening(ident, links.NOT_ME)
    return _not_me_page(ident)


@blueprint.post("/not-me/<token>")
def not_me(token: str) -> Response:
    ident = ident_in(links.NOT_ME, token)
    if not fresh(links.NOT_ME, ident):
        _note_opening(ident, links.NOT_ME)
        return _not_me_page(ident, young=True)
    return itself() if press(links.NOT_ME, ident, answers.refuse) is NotMe.DONE else _not_me_page(ident)


def _not_me_page(ident: bytes, *, young: bool = False) -> Response:
    now = utc_now()
    with reading() as session:
        question = answers.look(session, ident, now=now)
    if question is None:
        raise UnknownLink
    speak(question.view)
    state, usable = question.not_me, question.not_me in (NotMe.OPEN, NotMe.AFTER_CONFIRM)
    ended = state is NotMe.DONE and question.subscription is not None and question.subscription.flagged
    return page(
        "subscriptions/not_me.html",
        410 if state in (NotMe.GONE, NotMe.CHECK) else 422 if young and usable else 200,
        state="after_confirm" if ended else state.value,
        nonce=keys().page_nonce(links.NOT_ME, ident, now) if usable else None,
        action=request.path,
        address=question.masked,
        controller=question.view.controller,
        young=young and usable,
    )


# --- unsubscribe -----------------------------------------------------------------------------------------------------


@blueprint.get("/unsubscribe/<token>")
def show_unsubscribe(token: str) -> Response:
    ident = ident_in(links.UNSUBSCRIBE, token)
    _note_opening(ident, links.UNSUBSCRIBE)
    return _unsubscribe_page(ident)


@blueprint.post("/unsubscribe/<token>")
def unsubscribe(token: str) -> Response:
    ident = ident_in(links.UNSUBSCRIBE, token)
    if one_click():
        _end(ident, ONE_CLICK)
        return make_response(("", 200, {"Content-Type": "text/plain; charset=utf-8"}))
    if request.form.get(WHY):
        return _note_reason(ident)
    if request.form.get(UNDO):
        return _undo(ident)
    if not fresh(links.UNSUBSCRIBE, ident):
        _note_opening(ident, links.UNSUBSCRIBE)
        return _unsubscribe_page(ident, young=True)
    _end(ident, BY_PAGE)
    return itself()


def _end(ident: bytes, by: str) -> None:
    ending = endings.Ending(EndReason.UNSUBSCRIBED, by)
    actor = MAIL_CLIENT if by == ONE_CLICK else PERSON
    with transaction() as session:
        found = endings.behind_link(session, ident)
        if found is None:
            raise UnknownLink
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
            raise UnknownLink
        age = keys().page_age(UNDO, _ending_of(ident, *found), request.form.get(UNDO, ""), now)
        in_time = age is not None and 0 <= age <= UNDO_WINDOW.total_seconds()
        undone = in_time and endings.undo(session, *found, client=client_info(request), now=now)
    return itself(RESTORED if undone else "")


def _note_reason(ident: bytes) -> Response:
    now = utc_now()
    with transaction() as session:
        found = endings.behind_link(session, ident)
        if found is None:
            raise UnknownLink
        about = _ending_of(ident, *found)
        if keys().page_is_fresh(WHY, about, request.form.get("nonce", ""), now):
            endings.note_reason(session, found[0], request.form[WHY], about=about, now=now)
    return itself(THANKS)


def _unsubscribe_page(ident: bytes, *, young: bool = False) -> Response:
    now = utc_now()
    with reading() as session:
        found = endings.behind_link(session, ident, lock=False)
        if found is None:
            raise UnknownLink
        order, scope = found
        held = order.subscription
        preferences_url = links.preferences_url(session, links.unsubscribe_id(session, held.id, held.epoch))
        g.informal = tone.informal(session, held.contact_id)
    g.locale, g.timezone = order.locale, order.controller.timezone
    undo, ending = endings.undoable(order, scope, now=now), _ending_of(ident, order, scope)
    given = [scope] if scope in order.given and scope else [] if scope else order.given
    state = "active" if given else "ended" if order.subscription.status in (Status.ENDED, Status.ACTIVE) else "inactive"
    return page(
        "subscriptions/unsubscribe.html",
        422 if young and state == "active" else 200,
        state=RESTORED if RESTORED in request.args and state == "active" else state,
        scope=scope.topic_label.get(order.locale, scope.topic) if scope else None,
        address=order.masked,
        purposes=[
            {"label": item.label.get(order.locale, item.slug), "hint": item.hint.get(order.locale, "")}
            for item in given
        ],
        nonce=keys().page_nonce(links.UNSUBSCRIBE, ident, now),
        action=request.path,
        undo=keys().page_nonce(UNDO, ending, now) if undo else None,
        why=keys().page_nonce(WHY, ending, now) if undo and THANKS not in request.args else None,
        thanks=THANKS in request.args,
        reasons=LEAVING_REASONS,
        preferences_url=preferences_url if state == "active" else None,
        unanswered=[item.label.get(order.locale, item.slug) for item in endings.unanswered(order, scope, now=now)],
        young=young and state == "active",
        form_url=None,
        controller=order.controller,
    )
