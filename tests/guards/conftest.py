"""The world that the guards walk through."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace

import pytest
from flask.testing import FlaskClient

from signup.core.db import database, transaction
from signup.core.values import OPERATOR, EmailAddress, utc_now
from signup.purposes import actions as purposes
from signup.purposes import branding
from signup.purposes.actions import NewController
from signup.staff import access
from signup.subscriptions import addresses
from tests.conftest import CLIENT, SignedUp, mailed_url, queued_mail
from tests.guards.world import World, rows
from tests.journeys.world import ident_in

STRANGER = NewController(
    slug="fremd",
    name="Fremd AG",
    address="Nebenweg 2, 54321 Nebendorf",
    sender="post@fremd.example",
    imprint_url="https://www.fremd.example/impressum",
    privacy_url="https://www.fremd.example/datenschutz",
)
LOGO = b'<svg xmlns="http://www.w3.org/2000/svg"><path d="M0 0h9v9z"/></svg>'
ENDPOINT_URL = "http://127.0.0.1:47999/secret-path"


def token_for(purpose: str, url: str) -> str:
    """The token of another purpose for what the mailed `url` is about."""
    return str(database().sessions.kw["keys"].token(purpose, ident_in(url.split("/")[-2], url)))


@pytest.fixture
def world(
    demo: SimpleNamespace,
    client: FlaskClient,
    sign_up: Callable[..., SignedUp],
    signup_and_confirm: Callable[..., SignedUp],
) -> World:
    """Somebody confirmed, somebody has not yet; there is an endpoint with deliveries, and another controller."""
    owner = {"Authorization": f"Bearer {demo.api_key}"}
    made = client.post("/api/v1/webhook-endpoints", json={"url": ENDPOINT_URL}, headers=owner)
    assert made.status_code == 201, made.text
    anna = signup_and_confirm("anna@kunde.example")
    bert = sign_up("bert@kunde.example", "demo-en")
    form = {"email": "cora@kunde.example", "purpose": "invitations"}
    pending = client.post("/f/demo-de", data=form).headers["Location"].rpartition("/")[2]
    # Late enough for the caps of her address.
    asked = {"client": CLIENT, "actor": OPERATOR, "now": utc_now() + timedelta(days=2)}
    with transaction() as session:
        to = EmailAddress.parse("anna.neu@kunde.example")
        addresses.ask(session, demo.controller.id, anna.contact_id, to, **asked)
    with transaction() as session:
        stranger = purposes.create_controller(session, STRANGER, now=utc_now())
        picture = branding.set_logo(session, demo.controller.id, LOGO, now=utc_now())
        key = access.create_key(session, stranger.id, "stranger", list(access.SCOPES), now=utc_now())
    tokens = {
        "address": mailed_url(queued_mail(anna.email), "address").rpartition("/")[2],
        "confirm": bert.confirm_url.rpartition("/")[2],
        "code": token_for("code", bert.confirm_url),
        "not-me": bert.not_me_url.rpartition("/")[2],
        "preferences": token_for("preferences", anna.unsubscribe_url),
        "unsubscribe": anna.unsubscribe_url.rpartition("/")[2],
        "pending": pending,
        "logo": picture,
    }
    found = World(demo.api_key, key.secret, anna.email, bert.email, tokens)
    for table in ("contact", "subscription", "consent", "endpoint", "delivery", "event", "message", "publication"):
        # One of each kind: the ids of one kind all go the same way.
        found.ids |= {str(row.id) for row in rows(table, controller_id=demo.controller.id)[:1]}
    assert len(found.ids) >= 8
    found.slugs = {"demo-de", "demo-en"}
    found.words = {anna.email, bert.email, "cora@kunde.example", ENDPOINT_URL, demo.controller.id, "Beispiel GmbH"}
    found.words |= {row.name for row in rows("form", controller_id=demo.controller.id)}
    secret = made.get_json()["secret"]
    assert re.fullmatch(r"whsec_\S{20,}", secret)
    found.words |= {secret, anna.unsubscribe_url.rpartition("/")[2]}
    return found
