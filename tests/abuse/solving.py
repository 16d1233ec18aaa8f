"""What a browser does with a challenge, done by the library."""

from __future__ import annotations

import base64
import json
from typing import Any

import altcha
from flask.testing import FlaskClient


def solved(challenge: dict[str, Any]) -> dict[str, Any]:
    """The challenge with its answer."""
    answer = altcha.solve_challenge(altcha.Challenge.from_dict(challenge))
    assert answer is not None
    return {"challenge": challenge, "solution": answer.to_dict()}


def spelled(payload: dict[str, Any]) -> str:
    return base64.b64encode(json.dumps(payload).encode()).decode()


def proof(client: FlaskClient, form: str = "demo-de") -> str:
    """A fresh proof for the field `altcha` of one form."""
    return spelled(solved(client.get(f"/f/{form}/challenge").json))
