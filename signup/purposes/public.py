"""What pages show of a controller: its colour as a style sheet, its logo."""

from __future__ import annotations

import hashlib
from functools import lru_cache

from flask import Blueprint, abort, make_response, request
from werkzeug.wrappers import Response

from signup.core.db import reading
from signup.core.errors import NotFound
from signup.purposes import branding, colours

blueprint = Blueprint("brand", __name__)

# What is named by its content never changes.
FOR_EVER = "public, max-age=31536000, immutable"
FOR_AN_HOUR = "public, max-age=3600"


@lru_cache(maxsize=256)
def theme_url(accent: str) -> str:
    """The URL of the style sheet for a colour, with its content in it."""
    digest = hashlib.sha256(colours.stylesheet(accent).encode()).hexdigest()[:12]
    return f"/brand/{accent.removeprefix('#')}.css?v={digest}"


@blueprint.get("/brand/<colour>.css")
def theme(colour: str) -> Response:
    if not colours.is_colour(f"#{colour}"):
        abort(404)
    response = make_response(colours.stylesheet(f"#{colour}"))
    response.mimetype = "text/css"
    response.headers["Cache-Control"] = FOR_EVER if request.args.get("v") else FOR_AN_HOUR
    return response


@blueprint.get("/brand/<name>")
def logo(name: str) -> Response:
    try:
        with reading() as session:
            content, media = branding.logo(session, name)
    except NotFound:
        abort(404)
    response = make_response(content)
    response.mimetype = media
    response.headers["Cache-Control"] = FOR_EVER
    # Opened by itself, a picture is a document: this one can do nothing.
    response.headers["Content-Security-Policy"] = "default-src 'none'; frame-ancestors 'none'; sandbox"
    return response
