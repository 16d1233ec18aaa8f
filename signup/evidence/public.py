"""Trust anchors, for everybody who checks a proof."""

from __future__ import annotations

import msgspec
from flask import Blueprint, make_response
from werkzeug.wrappers import Response

from signup.core.db import reading
from signup.core.values import utc_now
from signup.evidence import anchors

blueprint = Blueprint("evidence_public", __name__)

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
