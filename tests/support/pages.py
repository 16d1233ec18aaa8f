"""Pressing buttons on our pages without waiting for the second that a person needs."""

from __future__ import annotations

from datetime import timedelta

from flask.testing import FlaskClient

from signup.core.db import database
from signup.core.values import utc_now


def ident_of(path: str) -> bytes:
    """The id in the token of one of our paths."""
    purpose, token = path.split("/")[-2:]
    ident = database().sessions.kw["keys"].open_token(purpose, token)
    assert ident is not None
    return bytes(ident)


def nonce(path: str, *, age: float = 5.0, purpose: str | None = None) -> str:
    """The hidden nonce of the page at `path` as if it had been opened `age` seconds ago."""
    issued = utc_now() - timedelta(seconds=age)
    kind = purpose or path.split("/")[-2]
    return str(database().sessions.kw["keys"].page_nonce(kind, ident_of(path), issued))


def undo_nonce(client: FlaskClient, path: str) -> str:
    """The nonce of the undo button on the page at `path`; without a button, one for an ending that never was."""
    _, found, rest = client.get(path).text.partition('name="undo" value="')
    return rest.partition('"')[0] if found else nonce(path, purpose="undo")
