"""Declared fields by API: the form's own rules and errors, and the contact's only once confirmed."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import func, select

from signup.contacts.models import Contact
from signup.core.db import reading
from signup.mail.models import Message
from tests.api.conftest import ORIGIN, Api
from tests.api.test_subscriptions import KIM, entry, published
from tests.conftest import Clock, mailed_url, queued_mail
from tests.forms.test_definition import FORM, publish
from tests.forms.test_fields import DECLARED, KEPT, press
from tests.support import log

SAID = {**KEPT, "first_name": " Änna "}


@pytest.fixture
def declared(demo: SimpleNamespace, now: datetime) -> None:
    publish(demo, replace(FORM, fields=DECLARED), now)


def contact(api: Api) -> dict[str, Any]:
    (item,) = (api.get(f"/contacts?email={KIM}").json or {})["items"]
    return dict(item)


def test_what_a_program_says_is_the_contacts_only_when_the_person_confirms(
    api: Api, declared: None, clock: Clock
) -> None:
    made = api.post("/subscriptions", entry("gdpr-6-1-a", form="demo-de", fields=SAID))
    assert made.status_code == 202, made.text
    mail = queued_mail(KIM)
    assert "nna" not in mail.get_body(("plain",)).get_content()
    assert contact(api)["fields"] == {}
    press(api.app.test_client(), mailed_url(mail, "confirm"), clock)
    assert contact(api)["fields"] == KEPT
    confirmed = [fact for fact in log.facts(contact(api)["id"]) if fact.kind == "subscription.confirmed"]
    assert confirmed[0].fields["fields"] == KEPT


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("first_name", "x" * 201, "too_long"),
        ("size", "m", "unchosen"),
        ("printed", "perhaps", "unticked"),
        ("born", "28.2.1990", "no_date"),
        ("country", "EU", "unchosen"),
        ("phone", "call me", "no_number"),
        ("size", True, "unchosen"),
        ("shoe", "43", "unknown"),
        ("email", "lee@example.com", "unknown"),
        ("first_name", 7, "invalid"),
    ],
)
@pytest.mark.parametrize("basis", ["gdpr-6-1-a", "gdpr-6-1-b"])
def test_the_error_names_the_field_as_the_form_does_when_a_value_is_wrong(
    api: Api, declared: None, basis: str, name: str, value: Any, code: str
) -> None:
    answer = api.post("/subscriptions", entry(basis, form="demo-de", fields={**SAID, name: value}))
    assert answer.status_code == 422
    (error,) = (answer.json or {})["errors"]
    # What is no text and no yes or no is refused before the form is looked at.
    assert (error["field"], error["code"]) == ("fields" if code == "invalid" else f"fields.{name}", code)
    assert error["message"].isascii() or "Größe" in error["message"] or "“" in error["message"]
    with reading() as session:
        assert [session.scalar(select(func.count()).select_from(model)) for model in (Contact, Message)] == [0, 0]


def test_a_required_field_is_asked_for_when_a_program_asks_by_that_form(
    api: Api, demo: SimpleNamespace, now: datetime
) -> None:
    publish(demo, replace(FORM, fields=tuple(replace(field, required=True) for field in DECLARED)), now)
    answer = api.post("/subscriptions", entry("gdpr-6-1-a", form="demo-de", fields={"printed": False}))
    assert {error["field"]: error["code"] for error in (answer.json or {})["errors"]} == {
        "fields.first_name": "required",
        "fields.size": "unchosen",
        "fields.printed": "unticked",
        "fields.born": "required",
        "fields.country": "unchosen",
        "fields.phone": "required",
    }
    assert api.post("/subscriptions", entry("gdpr-6-1-a", form="demo-de", fields=SAID)).status_code == 202


def test_a_box_is_not_kept_when_a_program_says_no(api: Api, declared: None) -> None:
    said = {"printed": False, "first_name": "Kim"}
    made = api.post("/subscriptions", entry("gdpr-6-1-b", form="demo-de", fields=said))
    assert made.status_code == 202
    assert contact(api)["fields"] == {"first_name": "Kim"}


def test_the_contact_has_them_at_once_when_no_confirmation_is_needed(api: Api, declared: None) -> None:
    body = entry("gdpr-6-1-b", form="demo-de", fields=SAID)
    assert (api.post("/subscriptions", body).json or {})["status"] == "active"
    assert contact(api)["fields"] == KEPT
    assert published() == ["contact.created", "subscription.activated"]
    api.post("/subscriptions", body)
    assert published() == ["contact.created", "subscription.activated"]
    api.post("/subscriptions", {**body, "fields": {"first_name": "Anna"}})
    assert published()[2:] == ["subscription.updated"]
    assert contact(api)["fields"] == {**KEPT, "first_name": "Anna"}
    told = [fact.fields.get("fields") for fact in log.facts(contact(api)["id"]) if "subscription" in fact.kind]
    assert told == [KEPT, {"first_name": "Anna"}]


def test_a_form_has_to_be_named_when_fields_come_without_one(api: Api, declared: None) -> None:
    body = {"email": KIM, "origin": ORIGIN, "legal_basis": "gdpr-6-1-b", "purposes": ["product-news"]}
    answer = api.post("/subscriptions", {**body, "fields": {"first_name": "Kim"}})
    assert [(error["field"], error["code"]) for error in (answer.json or {})["errors"]] == [("form", "required")]


def test_the_same_call_is_one_call_when_it_comes_again_with_its_key(
    api: Api, declared: None, client: FlaskClient
) -> None:
    body = entry("gdpr-6-1-b", form="demo-de", fields=SAID)
    first = api.post("/subscriptions", body, Idempotency_Key="k1")
    again = api.post("/subscriptions", body, Idempotency_Key="k1")
    other = api.post("/subscriptions", {**body, "fields": {}}, Idempotency_Key="k1")
    assert (first.status_code, again.json, other.status_code) == (202, first.json, 422)
