"""Where mail providers tell what became of our mails. Each says who it is in its own way."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify, request

from signup.core.db import database
from signup.core.values import utc_now
from signup.intake import notices

blueprint = Blueprint("intake", __name__, url_prefix="/inbound")


@blueprint.post("/<name>")
def notice(name: str) -> Response:
    """One notice of a provider; it hears yes once it counts."""
    taken = notices.take(database(), name, request.get_data(), request.headers.get("Authorization", ""), now=utc_now())
    if taken is None:
        return jsonify({"outcome": "ignored"})
    return jsonify({"id": taken.id, "kind": taken.kind.value, "outcome": taken.outcome.value})
