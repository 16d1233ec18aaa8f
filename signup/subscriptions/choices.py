"""The page behind a link to preferences: less, a pause, or nothing any more."""

from __future__ import annotations

from flask import Blueprint, g, redirect, request
from werkzeug.wrappers import Response

from signup.core.db import reading, transaction
from signup.core.errors import TooMany
from signup.core.values import utc_now
from signup.subscriptions import endings, links, preferences
from signup.subscriptions.preferences import PAUSE_DAYS, Choices, Wish
from signup.subscriptions.rules import BY_PAGE
from signup.subscriptions.states import EndReason
from signup.web.request import client_info, speak
from signup.web.token_pages import UnknownLink, fresh, ident_in, itself, keys, note, page, protect

blueprint = Blueprint("preferences", __name__)
protect(blueprint)

# After the question mark: the page says that its button was pressed.
SAVED = "saved"


@blueprint.get("/preferences/<token>")
def show(token: str) -> Response:
    ident = ident_in(links.PREFERENCES, token)
    _note_opening(ident)
    return _preferences_page(ident)


@blueprint.post("/preferences/<token>")
def change(token: str) -> Response:
    ident = ident_in(links.PREFERENCES, token)
    if not fresh(links.PREFERENCES, ident):
        _note_opening(ident)
        return _preferences_page(ident, again=True)
    if request.form.get("resend"):
        return _ask_again(ident)
    if request.form.get("leave"):
        return _leave(ident)
    return _save(ident)


def _save(ident: bytes) -> Response:
    wish = preferences.read_wish(
        request.form.getlist("topic"), request.form.get("frequency", ""), request.form.get("pause", "?")
    )
    if wish is None:
        return _preferences_page(ident, again=True)
    if not wish.topics:
        # Nothing left is leaving: the page that says so can also take it back.
        return _leave(ident)
    try:
        saved = _carry_out(ident, wish)
    except TooMany as spent:
        # Less has to count at any time; only what needs a mail has to wait.
        saved, wait = _carry_out(ident, wish, asks=False), spent.retry_after_seconds
        if saved is not None:
            return _preferences_page(ident, wait=wait)
    if saved is None:
        raise UnknownLink
    return itself(SAVED)


def _carry_out(ident: bytes, wish: Wish, *, asks: bool = True) -> bool | None:
    with transaction() as session:
        return preferences.save(session, ident, wish, asks=asks, client=client_info(request), now=utc_now())


def _ask_again(ident: bytes) -> Response:
    with transaction() as session:
        preferences.ask_again(session, ident, client=client_info(request), now=utc_now())
    return itself()


def _note_opening(ident: bytes) -> None:
    method, client, now = request.method, client_info(request), utc_now()
    note(lambda session: endings.note_opening(session, ident, links.PREFERENCES, method=method, client=client, now=now))


def _leave(ident: bytes) -> Response:
    """Everything ends, as on the page of the unsubscribe link, which shows it and takes it back."""
    ending = endings.Ending(EndReason.UNSUBSCRIBED, BY_PAGE)
    with transaction() as session:
        found = endings.behind_link(session, ident)
        if found is None:
            raise UnknownLink
        endings.end(session, found[0], ending, client=client_info(request), now=utc_now())
    return redirect(f"/unsubscribe/{keys().token(links.UNSUBSCRIBE, ident)}", 303)


def _preferences_page(ident: bytes, *, again: bool = False, wait: int = 0) -> Response:
    """The page as it is now.

    Args:
        wait: for so many seconds nothing can be asked for; the rest of what was sent counts.
    """
    now = utc_now()
    with reading() as session:
        found = preferences.look(session, ident)
        resend_at = preferences.next_mail(session, found.order, now=now) if found and found.asked else None
    if found is None:
        raise UnknownLink
    _speak(found)
    order = found.order
    response = page(
        "subscriptions/preferences.html",
        429 if wait else 422 if again else 200,
        state="active" if found.active else "inactive",
        controller=order.controller,
        address=order.masked,
        topics=[{**item.shown(order.locale), "on": True} for item in order.given]
        + [{**item, "on": False} for item in found.offered],
        waiting=[item.shown(order.locale) for item in found.asked],
        resend_at=resend_at,
        frequency=order.subscription.frequency.value,
        paused_until=preferences.paused(order, now=now),
        pauses=PAUSE_DAYS,
        nonce=keys().page_nonce(links.PREFERENCES, ident, now),
        action=request.path,
        form_url=f"/f/{found.form.slug}" if found.form and not found.form.closed else None,
        saved=SAVED in request.args,
        again=again,
        later=wait > 0,
    )
    if wait:
        response.headers["Retry-After"] = str(wait)
    return response


def _speak(found: Choices) -> None:
    """The language of the person; the form they came from also says how it addresses them."""
    if found.form is not None and found.form.locale == found.order.locale:
        speak(found.form)
    g.locale, g.timezone = found.order.locale, found.order.controller.timezone
