"""Controllers: what cannot be mailed with is refused when it is set up."""

import pytest
from sqlalchemy import select

from signup.core.db import reading, transaction
from signup.core.errors import Conflict, Invalid
from signup.purposes import actions as purposes
from signup.purposes.models import Controller

GOOD = {
    "slug": "acme",
    "name": "ACME AG",
    "address": "Weg 1, 12345 Ort",
    "sender": "post@müller.example",
    "imprint_url": "https://acme.example/imprint",
    "privacy_url": "https://acme.example/privacy",
}


def create(now, **more):
    with transaction() as session:
        return purposes.create_controller(session, purposes.NewController(**{**GOOD, **more}), now=now)


def test_the_sender_is_kept_as_mail_servers_want_it(app, now):
    assert create(now).sender == "post@xn--mller-kva.example"


@pytest.mark.parametrize(
    "wrong",
    [
        {"slug": "A b"},
        {"name": "ACME\r\nBcc: x@y.example"},
        {"name": " "},
        {"sender": "post"},
        {"imprint_url": "javascript:alert(1)"},
        {"accent": "red"},
    ],
)
def test_a_wrong_value_is_refused_and_nothing_is_written(app, now, wrong):
    with pytest.raises(Invalid):
        create(now, **wrong)
    with reading() as session:
        assert session.scalars(select(Controller.slug)).all() == ["beispiel"]


def test_a_taken_slug_is_refused(app, now):
    with pytest.raises(Conflict):
        create(now, slug="beispiel")
