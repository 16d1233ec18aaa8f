"""Which scripts of other sites may read our answers."""

from __future__ import annotations

from flask import g, request
from werkzeug.wrappers import Response

from signup.forms import rules
from signup.web.request import config


def allow_listed(response: Response) -> Response:
    """Scripts of listed origins may read every answer, errors too; cookies are never part of it.

    The form is `g.form_view`. Without one there is nothing to protect: the error is all there is.
    """
    response.headers.add("Vary", "Origin")
    response.headers.add("Vary", "Accept")
    origin, view = request.headers.get("Origin"), g.get("form_view")
    if origin and (view is None or rules.origin_allowed(view.allowed_origins, origin, config().public_url)):
        response.headers["Access-Control-Allow-Origin"] = origin if view else "*"
        response.headers["Access-Control-Expose-Headers"] = "Retry-After"
    return response
