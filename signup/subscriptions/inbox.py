"""The page after a sign-up, and the page for a code on another device. They know nothing but what is typed."""

from __future__ import annotations

from typing import Any

from flask import Blueprint, abort, redirect, request
from werkzeug.wrappers import Response

from signup.core.db import reading, transaction
from signup.core.values import utc_now
from signup.subscriptions import answers, codes, links, pending, shown
from signup.subscriptions.codes import Outcome, Typed
from signup.subscriptions.pending import Pending
from signup.subscriptions.rules import Link
from signup.web.request import client_info, speak
from signup.web.token_pages import UnknownLink, fresh, ident_in, itself, keys, note, page, protect, seconds_open

blueprint = Blueprint("inbox", __name__)
protect(blueprint)

PENDING = "pending"


@blueprint.get("/f/<slug>/pending/<handle>")
def show_pending(slug: str, handle: str) -> Response:
    return _pending_page(_found(slug, handle))


@blueprint.post("/f/<slug>/pending/<handle>")
def answer_pending(slug: str, handle: str) -> Response:
    """A code that was typed, or the wish for another mail."""
    if "code" in request.form:
        return _enter(_found(slug, handle))
    if fresh(PENDING, handle.encode()):
        with transaction() as session:
            found = pending.find(session, slug, handle)
            if found is not None:
                pending.resend(session, found, client=client_info(request), now=utc_now())
    return itself()


def _found(slug: str, handle: str) -> Pending:
    with reading() as session:
        found = pending.find(session, slug, handle)
    if found is None:
        abort(404)
    return found


def _enter(found: Pending) -> Response:
    about = found.handle.encode()
    if not fresh(PENDING, about):
        return _pending_page(found, young=True)
    seconds = seconds_open(PENDING, about)
    with transaction() as session:
        outcome = codes.enter(
            session,
            found.view,
            found.handle,
            request.form["code"],
            client=client_info(request),
            page_seconds=seconds,
            now=utc_now(),
        )
    if outcome.typed is Typed.RIGHT:
        return _confirmed(outcome)
    return _pending_page(_found(found.view.slug, found.handle), wrong=True)


def _pending_page(found: Pending, *, wrong: bool = False, young: bool = False) -> Response:
    speak(found.view)
    now = utc_now()
    waits = found.resend_at is not None and now < found.resend_at
    return page(
        "forms/pending.html",
        422 if wrong or young else 200,
        onward=found.view.after_confirm,
        controller=found.view.controller,
        resend_url=request.path,
        form_url=f"/f/{found.view.slug}",
        nonce=keys().page_nonce(PENDING, found.handle.encode(), now),
        resend_at=found.resend_at if waits else None,
        may_resend=found.resend_at is not None and not waits,
        code=codes.offered(found.view),
        strict=codes.strict(found.view),
        tries_left=found.tries_left,
        wrong=wrong,
        young=young,
    )


def _confirmed(outcome: Outcome) -> Response:
    """The page that the button leads to as well: ours, or the one that the form names."""
    question = outcome.question
    if question is None:
        raise UnknownLink
    if url := shown.onward(question):
        return redirect(url, 303)
    speak(question.view)
    with reading() as session:
        values = shown.question(session, question)
    return page("subscriptions/confirm.html", 200, **values)


# --- the code on another device --------------------------------------------------------------------------------------


@blueprint.get("/code/<token>")
def show_code(token: str) -> Response:
    ident = ident_in(links.CODE, token)
    _note_opening(ident)
    return _code_page(ident)


@blueprint.post("/code/<token>")
def enter_code(token: str) -> Response:
    ident = ident_in(links.CODE, token)
    if not fresh(links.CODE, ident):
        _note_opening(ident)
        return _code_page(ident, young=True)
    seconds, typed = seconds_open(links.CODE, ident), request.form.get("code", "")
    with transaction() as session:
        outcome = codes.enter_behind_link(
            session, ident, typed, client=client_info(request), page_seconds=seconds, now=utc_now()
        )
    if outcome is None:
        raise UnknownLink
    return _confirmed(outcome) if outcome.typed is Typed.RIGHT else _code_page(ident, wrong=True)


def _note_opening(ident: bytes) -> None:
    seen: dict[str, Any] = {"method": request.method, "client": client_info(request), "now": utc_now()}
    note(lambda session: answers.note_opening(session, ident, links.CODE, **seen))


def _code_page(ident: bytes, **flags: Any) -> Response:
    now = utc_now()
    with reading() as session:
        question = answers.look(session, ident, now=now)
        if question is None:
            raise UnknownLink
        values = {**shown.question(session, question), "not_me_url": links.not_me_url(session, ident)}
    speak(question.view)
    if question.link is not Link.OPEN:
        return page("subscriptions/confirm.html", 200 if question.link is Link.CONFIRMED else 410, **values)
    values |= {
        "nonce": keys().page_nonce(links.CODE, ident, now),
        "action": request.path,
        "tries_left": max(0, codes.TRIES - question.confirmation.code_tries),
        "wrong": False,
        **flags,
    }
    return page("subscriptions/code.html", 422 if flags else 200, onward=question.view.after_confirm, **values)
