"""The API client of the API tests, and many subscriptions at once."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from types import SimpleNamespace

import pytest

from signup.consents.models import Consent, ConsentState
from signup.contacts import actions as contacts
from signup.contacts.models import Contact
from signup.core.db import reading, transaction
from signup.core.signing import token_hash
from signup.core.values import EmailAddress, new_id
from signup.purposes import actions as purposes
from signup.subscriptions import links
from signup.subscriptions.models import Subscription
from signup.subscriptions.states import Ground, Status
from tests.api.conftest import Api, api, stranger

__all__ = ["Api", "api", "stranger"]

BATCH = 1000


@pytest.fixture
def many(demo: SimpleNamespace, now: datetime) -> Callable[[int], None]:
    """So many confirmed subscriptions exist, written as the tables hold them."""

    def make(count: int) -> None:
        with reading() as session:
            purpose = purposes.list_purposes(session, demo.controller.id)[0]
        for start in range(0, count, BATCH):
            with transaction() as session:
                for number in range(start, min(start + BATCH, count)):
                    at = now + timedelta(milliseconds=number)
                    _put(session, demo.controller.id, purpose.id, f"person{number}@example.com", at)

    return make


def _put(session, controller_id, purpose_id, email, at):  # type: ignore[no-untyped-def]
    contact_id, subscription_id = new_id("con", at), new_id("sub", at)
    origin = {"type": "form", "detail": "demo-de", "collected_by": None}
    stamps = {"created_at": at, "updated_at": at}
    address = {
        "email": email,
        "email_typed": email,
        "address_key": contacts.address_key(session, controller_id, EmailAddress(email, email)),
        "locale": "de",
        "origin": origin,
        "legal_basis": "gdpr-6-1-a",
        "version": 1,
    }
    session.put(Contact, {"id": contact_id, "controller_id": controller_id, **address, **stamps})
    state = {"status": Status.ACTIVE, "ground": Ground.CONFIRMED, "flagged": False, "version": 2, "epoch": 1}
    times = {"requested_at": at, "activated_at": at, "updated_at": at}
    owner = {"controller_id": controller_id, "contact_id": contact_id}
    link = token_hash(links.unsubscribe_id(session, subscription_id, 1))
    session.put(Subscription, {"id": subscription_id, **owner, **state, "link_hash": link, **times})
    consent = {
        "purpose_id": purpose_id,
        "channel": "email",
        "state": ConsentState.GIVEN,
        "act_id": new_id("act", at),
        "legal_basis": "gdpr-6-1-a",
        "origin": origin,
        "text": "Ja.",
        "text_sha256": "0" * 64,
        "link_hash": token_hash(subscription_id.encode()),
        "requested_at": at,
        "given_at": at,
    }
    session.put(Consent, {"id": new_id("cns", at), **owner, **consent})
