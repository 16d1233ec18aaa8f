"""A German form says Sie or du, everywhere: page, frozen copy, mail and the pages behind its links."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select

from signup import demo as demo_data
from signup.core.db import database, reading, transaction
from signup.core.values import utc_now
from signup.forms.models import Form, FormVersion
from signup.purposes import actions as purposes
from signup.subscriptions import answers
from tests.conftest import CLIENT, SignedUp, queued_mail

FORMAL = re.compile(r"\b(?:Sie|Ihr|Ihre[mnrs]?|Ihnen)\b")
NOTE = "Wir schicken dir eine Mail mit einem Link."


@pytest.fixture
def informal(app: Flask) -> str:
    """A form that says du."""
    new = replace(demo_data.FORMS[0], slug="per-du", tone="informal", note=NOTE)
    with transaction() as session:
        controller = purposes.find_controller(session, "beispiel")
        demo_data.publish_form(session, controller, new, now=utc_now())
    return new.slug


def text(answer: object) -> str:
    return re.sub(r"<[^>]+>", " ", getattr(answer, "text", ""))


@pytest.mark.req("F13")
def test_every_page_and_mail_says_du_when_the_form_does(
    client: FlaskClient, informal: str, sign_up: Callable[..., SignedUp]
) -> None:
    person = sign_up("anna@kunde.example", informal)
    mail = queued_mail(person.email)
    said = {
        "subject": mail["Subject"],
        "text": mail.get_body(("plain",)).get_content(),
        "html": text(type("Html", (), {"text": mail.get_body(("html",)).get_content()})),
        "form": text(client.get(f"/f/{informal}")),
        "errors": text(client.post(f"/f/{informal}", data={"email": ""})),
        "confirm": text(client.get(person.confirm_path)),
        "not me": text(client.get(person.not_me_path)),
        "unsubscribe": text(client.get(person.unsubscribe_path)),
    }
    keys = database().sessions.kw["keys"]
    ident = keys.open_token("confirm", person.confirm_url.rpartition("/")[2])
    with transaction() as session:
        answers.confirm(session, ident, client=CLIENT, page_seconds=7, now=utc_now())
    said["confirmed"] = text(client.get(person.confirm_path))
    said["leave"] = text(client.get(person.unsubscribe_path))
    assert {place: FORMAL.findall(words) for place, words in said.items() if FORMAL.search(words)} == {}
    assert "Was möchtest du bekommen?" in said["form"]
    assert "Bitte gib deine E-Mail-Adresse ein." in said["errors"]
    assert "Bitte bestätige deine Anmeldung" in said["subject"]


@pytest.mark.req("F13")
def test_the_frozen_copy_of_the_form_says_du_when_it_is_published(informal: str) -> None:
    with reading() as session:
        query = select(FormVersion.html).join(Form, Form.id == FormVersion.form_id)
        (html,) = session.scalars(query.where(Form.slug == informal))
        (formal,) = session.scalars(query.where(Form.slug == "demo-de"))
    assert "Was möchtest du bekommen?" in html
    assert "Was möchten Sie bekommen?" in formal


@pytest.mark.req("F13")
def test_one_form_says_du_and_the_other_sie_when_both_are_open(client: FlaskClient, informal: str) -> None:
    for _ in range(2):
        assert "Was möchtest du bekommen?" in client.get(f"/f/{informal}").text
        assert "Was möchten Sie bekommen?" in client.get("/f/demo-de").text
        assert "What would you like to receive?" in client.get("/f/demo-en").text
