"""The bundle, for programs."""

from __future__ import annotations

from signup.core.db import Session
from signup.evidence import bundle
from signup.evidence.bundle import Bundle
from signup.web import api
from signup.web.api import Call

blueprint = api.blueprint("evidence")


@api.operation(blueprint, "GET", "/contacts/<contact_id>/evidence/bundle.json", scope="evidence.read", writes=True)
def read_bundle(session: Session, call: Call, contact_id: str) -> Bundle:
    """Read everything that proves a person's consents, as one file.

    Anybody can check it with `verifier/signup_verify.py` and the anchors at `/.well-known/signup-evidence.json`, \
without this service. The mail that asked is left out while its question is open, and its links are blanked while \
"that was not me" can still be said. Reading is a fact of its own.
    """
    return bundle.read(session, call.controller_id, contact_id, client=call.client, actor=call.actor, now=call.now)
