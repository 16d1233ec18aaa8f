"""For everybody: trust anchors, and how it all works. For whoever confirmed: their receipt."""

from __future__ import annotations

import msgspec
from flask import Blueprint, g, make_response, render_template, request
from werkzeug.wrappers import Response

from signup.core.db import reading
from signup.core.values import LOCALES, utc_now
from signup.evidence import anchors, receipt
from signup.evidence.receipt import Receipt, State
from signup.subscriptions import links
from signup.web.request import speak
from signup.web.token_pages import UnknownLink, ident_in, page, protect

blueprint = Blueprint("evidence_public", __name__)
# One page for each language, so that each is approved as a whole.
HOW = {"de": "evidence/how.de.html", "en": "evidence/how.en.html"}
receipts = Blueprint("receipts", __name__)
protect(receipts)

# The newest checkpoint is a minute old on average, so nobody needs this fresher.
FOR_A_MINUTE = "public, max-age=60"


@blueprint.get("/.well-known/signup-evidence.json")
def show_anchors() -> Response:
    """Which keys sign the log, who stamps the time, and the newest checkpoint."""
    with reading() as session:
        published = anchors.published(session, now=utc_now())
    response = make_response(msgspec.json.encode(published))
    response.mimetype = "application/json"
    response.headers["Cache-Control"] = FOR_A_MINUTE
    # Nothing in it is about anybody, and pages that check proofs may stand anywhere.
    response.headers["Access-Control-Allow-Origin"] = "*"
    return response


@blueprint.get("/evidence")
def explain() -> Response:
    """How the proof works, in plain words, for whoever is asked to believe it."""
    asked = request.args.get("locale", "")
    locale = asked if asked in HOW else request.accept_languages.best_match(LOCALES, default=LOCALES[0])
    g.locale = locale
    response = make_response(render_template(HOW[locale]))
    response.headers["Vary"] = "Accept-Language"
    return response


@receipts.get("/confirm/<token>/receipt")
def show_receipt(token: str) -> Response:
    """The receipt as a file, or a page that says when there will be one."""
    ident = ident_in(links.CONFIRM, token)
    with reading() as session:
        found = receipt.of_link(session, ident, now=utc_now())
    if found is None:
        raise UnknownLink
    return _file(found.content) if found.content is not None else _not_yet(found, f"/confirm/{token}")


def _file(content: bytes) -> Response:
    response = make_response(content)
    response.mimetype = "application/json"
    response.headers["Content-Disposition"] = 'attachment; filename="receipt.json"'
    return response


def _not_yet(found: Receipt, confirm_path: str) -> Response:
    speak(found.view)
    return page(
        "evidence/receipt.html",
        410 if found.state is State.GONE else 200,
        state=found.state.value,
        seconds=found.seconds,
        confirm_path=confirm_path,
        controller=found.view.controller,
    )
