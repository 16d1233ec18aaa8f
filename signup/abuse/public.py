"""The challenge that a browser solves when a form asks for a second look."""

from __future__ import annotations

from flask import Blueprint, g, jsonify, make_response
from werkzeug.wrappers import Response

from signup.abuse import admission, challenge
from signup.core.db import reading
from signup.core.errors import Gone
from signup.core.values import utc_now
from signup.forms import actions as forms
from signup.web.cors import allow_listed
from signup.web.request import speak

blueprint = Blueprint("abuse", __name__)


@blueprint.get("/f/<slug>/challenge")
def issue(slug: str) -> Response:
    with reading() as session:
        view = forms.in_force(session, slug)
        keys, now = session.keys, utc_now()
        cost = admission.cost(session, view.id, now=now)
    g.form_view = view
    speak(view)
    if view.closed:
        raise Gone("Sign-ups are no longer accepted here.")
    made = challenge.issue(keys, view.id, cost=cost, now=now)
    return make_response(jsonify(made), 200, {"Cache-Control": "no-store"})


@blueprint.after_request
def cors(response: Response) -> Response:
    return allow_listed(response)
