"""What the pages behind mailed links, and the page after a sign-up, have in common."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from typing import Any, Protocol, TypeVar

from flask import Blueprint, abort, make_response, redirect, render_template, request
from werkzeug.exceptions import NotFound
from werkzeug.wrappers import Response

from signup.core.db import Session, database, transaction
from signup.core.errors import Busy
from signup.core.signing import Keys
from signup.core.values import ClientInfo, utc_now
from signup.web import errors, lost_links
from signup.web.request import client_info, is_cross_site, lead_on, mask_token_page, wants_json

log = logging.getLogger(__name__)

T_co = TypeVar("T_co", covariant=True)

# Evidence of an opening is welcome, but no page waits for it.
NOTE_WAIT_SECONDS = 0.2


class UnknownLink(NotFound):
    """Nothing stands behind a link, or nothing any more: a forged one and a revoked one get the same page."""


def keys() -> Keys:
    return database().keys


def ident_in(purpose: str, token: str) -> bytes:
    """The id in a token of ours.

    Raises:
        UnknownLink: it is forged or cut off.
    """
    ident = keys().open_token(purpose, token)
    if ident is None:
        raise UnknownLink
    return ident


def page(name: str, status: int, *, onward: str | None = None, **values: Any) -> Response:
    """A rendered page.

    Args:
        onward: where its form may end, if not on a page of ours.
    """
    response = make_response(render_template(name, **values), status)
    if onward:
        lead_on(response, onward)
    return response


def itself(told: str = "") -> Response:
    """Where a page goes after its own button."""
    return redirect(request.path + (f"?{told}" if told else ""), 303)


def fresh(purpose: str, ident: bytes) -> bool:
    """Whether the POST comes from a page of ours about `ident` that somebody had time to read."""
    return keys().page_is_fresh(purpose, ident, request.form.get("nonce", ""), utc_now())


def seconds_open(purpose: str, ident: bytes) -> int:
    """How long the page that posts had been open, for the evidence; only of a fresh one."""
    return int(keys().page_age(purpose, ident, request.form.get("nonce", ""), utc_now()) or 0)


class Act(Protocol[T_co]):
    """What a button does; None when we never sent the link."""

    def __call__(
        self, session: Session, ident: bytes, /, *, client: ClientInfo, page_seconds: int, now: datetime
    ) -> T_co | None: ...


def press(purpose: str, ident: bytes, act: Act[T_co]) -> T_co:
    """What the button of a fresh page came to, in one commit.

    Raises:
        UnknownLink: we never sent it.
    """
    client, seconds, now = client_info(request), seconds_open(purpose, ident), utc_now()
    with transaction() as session:
        outcome = act(session, ident, client=client, page_seconds=seconds, now=now)
    if outcome is None:
        raise UnknownLink
    return outcome


def one_click() -> bool:
    """Whether a mail client asks on its reader's behalf.

    Rule: RFC 8058 3.2, the body says so; no cookie, no referrer, no context.
    """
    return request.endpoint == "subscriptions.unsubscribe" and request.form.get("List-Unsubscribe") == "One-Click"


def note(write: Callable[[Session], None]) -> None:
    """A hit that decided nothing is on record: a reading, or a POST that no page of ours led to."""
    try:
        with transaction(wait_seconds=NOTE_WAIT_SECONDS) as session:
            write(session)
    except Busy:
        log.warning("an opened link was not noted: the database is busy")


def _refuse_foreign_posts() -> None:
    if request.method == "POST" and not one_click() and is_cross_site(request):
        abort(403)


def _unknown(_error: UnknownLink) -> Response:
    """Nothing is said about anybody; whoever is signed up can have a new link mailed."""
    if wants_json(request):
        return errors.problem(404, "not-found", errors.message_of(404))
    try:
        return lost_links.page(lost_links.owner(), lost_links.UNKNOWN, 404)
    except Busy:
        return errors.page(404)


def protect(blueprint: Blueprint) -> None:
    """Every page of `blueprint` is masked, and takes no POST that another site's page made."""
    blueprint.before_request(_refuse_foreign_posts)
    blueprint.after_request(mask_token_page)
    blueprint.register_error_handler(UnknownLink, _unknown)
