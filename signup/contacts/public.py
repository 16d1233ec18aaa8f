"""The page behind the link that confirms a new address. Opening it changes nothing; its one button does."""

from __future__ import annotations

from flask import Blueprint, g, request
from werkzeug.wrappers import Response

from signup.core.db import reading
from signup.core.values import utc_now
from signup.subscriptions import addresses
from signup.subscriptions.addresses import LINK, State
from signup.web.token_pages import UnknownLink, fresh, ident_in, itself, keys, page, press, protect

blueprint = Blueprint("contacts", __name__)
protect(blueprint)


@blueprint.get("/address/<token>")
def show_address(token: str) -> Response:
    return _page(ident_in(LINK, token))


@blueprint.post("/address/<token>")
def confirm_address(token: str) -> Response:
    ident = ident_in(LINK, token)
    if not fresh(LINK, ident):
        return _page(ident, young=True)
    return itself() if press(LINK, ident, addresses.confirm) is State.CONFIRMED else _page(ident)


def _page(ident: bytes, *, young: bool = False) -> Response:
    now = utc_now()
    with reading() as session:
        shown = addresses.look(session, ident, now=now)
    if shown is None:
        raise UnknownLink
    g.locale, g.timezone, g.informal = shown.locale, shown.controller.timezone, shown.informal
    usable = shown.state is State.OPEN
    return page(
        "contacts/address.html",
        410 if shown.state is State.GONE else 422 if young and usable else 200,
        state=shown.state.value,
        address=shown.masked,
        controller=shown.controller,
        expires_at=shown.expires_at,
        action=request.path,
        nonce=keys().page_nonce(LINK, ident, now) if usable else None,
        young=young and usable,
    )
