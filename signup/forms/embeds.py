"""What pages of other sites load of us: the embed script, the form for it, the frame, QR codes, and view counts."""

from __future__ import annotations

import re

from flask import Blueprint, make_response, request
from werkzeug.wrappers import Response

from signup.core.db import reading
from signup.core.errors import NotFound
from signup.core.values import utc_now
from signup.forms import actions as forms
from signup.forms import embedding, views
from signup.forms.embedding import Asset
from signup.forms.rules import FormView
from signup.web.request import config, is_person, speak

blueprint = Blueprint("embeds", __name__)

# Under its version a file never changes; a channel is followed within the hour; a new form version within a minute.
PINNED = "public, max-age=31536000, immutable"
CHANNEL = "public, max-age=3600"
FRAGMENT = "public, max-age=60"
# What `src` of a printed link may be: a name, or one that we signed.
_SOURCE = re.compile(r"[A-Za-z0-9._~-]{1,200}")


@blueprint.get("/embed/v1.js")
def channel() -> Response:
    return _file(embedding.channel(1), CHANNEL)


@blueprint.get("/embed/<version>/embed.js")
def script(version: str) -> Response:
    return _file(embedding.asset(version, "embed.js"), PINNED)


@blueprint.get("/embed/<version>/embed.css")
def stylesheet(version: str) -> Response:
    return _file(embedding.asset(version, "embed.css"), PINNED)


@blueprint.get("/f/<slug>/fragment")
def fragment(slug: str) -> Response:
    view = _form(slug)
    response = make_response(embedding.fragment(view, config().public_url), 410 if view.closed else 200)
    return _shared(response, "no-store" if view.closed else FRAGMENT)


@blueprint.get("/f/<slug>/frame")
def frame(slug: str) -> Response:
    view = _form(slug)
    response = make_response(embedding.frame(view), 410 if view.closed else 200)
    response.headers["Content-Security-Policy"] = embedding.frame_policy(view)
    response.headers["Cache-Control"] = "no-cache"
    return response


@blueprint.get("/f/<slug>/qr.svg")
def qr_svg(slug: str) -> Response:
    return _qr(slug, "svg", "image/svg+xml")


@blueprint.get("/f/<slug>/qr.png")
def qr_png(slug: str) -> Response:
    return _qr(slug, "png", "image/png")


@blueprint.post("/f/<slug>/view")
def count_view(slug: str) -> Response:
    view = forms.recent(slug)
    if view is None:
        with reading() as session:
            view = forms.read_again(session, slug)
    if is_person(request):
        views.note(view.controller.id, view.id, now=utc_now())
    return make_response("", 204)


def _form(slug: str) -> FormView:
    with reading() as session:
        view = forms.in_force(session, slug)
    speak(view)
    return view


def _qr(slug: str, kind: str, mimetype: str) -> Response:
    source = request.args.get("src", "")
    if source and not _SOURCE.fullmatch(source):
        raise NotFound("There is no such source.")
    url = embedding.link(_form(slug).slug, config().public_url, source)
    response = make_response(embedding.qr(url, kind))
    response.mimetype = mimetype
    return _shared(response, CHANNEL)


def _file(asset: Asset, cache: str) -> Response:
    packed = request.accept_encodings.quality("gzip") > 0
    response = make_response(asset.gzipped if packed else asset.content)
    response.mimetype = asset.mimetype
    if packed:
        response.headers["Content-Encoding"] = "gzip"
    response.headers["Vary"] = "Accept-Encoding"
    response.set_etag(asset.integrity[7:39])
    return _shared(response, cache).make_conditional(request)


def _shared(response: Response, cache: str) -> Response:
    """Any site may load it: it is the same for everybody and tells nothing of anybody."""
    response.headers["Cache-Control"] = cache
    response.headers["Access-Control-Allow-Origin"] = "*"
    response.headers["Cross-Origin-Resource-Policy"] = "cross-origin"
    return response
