"""Declared fields: typed, optional unless said, told beside the field, the contact's only once confirmed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from flask.testing import FlaskClient
from hypothesis import HealthCheck, given
from hypothesis import settings as settled
from hypothesis import strategies as st
from sqlalchemy import select
from werkzeug.datastructures import MultiDict

from signup.contacts import actions as contacts
from signup.core.db import reading
from signup.core.errors import Invalid
from signup.core.values import EmailAddress
from signup.eventlog.models import Publication
from signup.forms import fields
from signup.forms.definition import Field, Option, check, settings
from signup.forms.rules import whole
from signup.subscriptions.models import Confirmation
from tests.conftest import Clock, SignedUp, mailed_url, queued_mail
from tests.forms.test_definition import FORM, publish
from tests.support import log

FIRST_NAME = Field("first_name", "text", "Vorname", "Damit wir Sie ansprechen können.", autocomplete="given-name")
DECLARED = (
    FIRST_NAME,
    Field("size", "select", "Größe", "Für das Hemd.", options=(Option("s", "Klein"), Option("l", "Groß"))),
    Field("printed", "checkbox", "Auch auf Papier", "Für den Versand."),
    Field("born", "date", "Geburtstag", "Für den Gruß."),
    Field("country", "country", "Land", "Für das Porto."),
    Field("phone", "tel", "Telefon", "Für Rückfragen.", autocomplete="tel"),
)
GOOD = {"email": "anna@beispiel.de", "purpose": "product-news"}
SAID = {
    "first_name": " Änna ",
    "size": "l",
    "printed": "yes",
    "born": "1990-02-28",
    "country": "AT",
    "phone": "+43 1 234",
    "shoe": "43",
}
KEPT = {
    "first_name": "Änna",
    "size": "l",
    "printed": True,
    "born": "1990-02-28",
    "country": "AT",
    "phone": "+43 1 234",
}
JSON = {"Accept": "application/json"}


def stored(*declared: Field) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = whole(settings(replace(FORM, fields=declared)))["fields"]
    return found


@pytest.fixture
def declared(demo: SimpleNamespace, now: Any) -> None:
    publish(demo, replace(FORM, fields=DECLARED), now)


def held(email: str, controller_id: str) -> dict[str, Any]:
    with reading() as session:
        view = contacts.find(session, controller_id, EmailAddress.parse(email))
    assert view is not None
    return view.fields


def press(client: FlaskClient, path: str, clock: Clock) -> None:
    """Confirm by the page's own button."""
    from signup.core.db import database, transaction
    from signup.subscriptions import answers
    from tests.conftest import CLIENT

    ident = database().sessions.kw["keys"].open_token("confirm", path.rpartition("/")[2])
    with transaction() as session:
        answers.confirm(session, ident, client=CLIENT, page_seconds=3, now=clock())


@pytest.mark.req("F17")
def test_declared_values_are_the_contacts_only_when_confirmed(
    client: FlaskClient, demo: SimpleNamespace, declared: None, clock: Clock
) -> None:
    assert client.post("/f/demo-de", data={**GOOD, **SAID}).status_code == 303
    mail = queued_mail(GOOD["email"])
    assert "nna" not in mail.get_body(("plain",)).get_content().replace(GOOD["email"], "")
    assert held(GOOD["email"], demo.controller.id) == {}
    press(client, mailed_url(mail, "confirm"), clock)
    assert held(GOOD["email"], demo.controller.id) == KEPT
    with reading() as session:
        view = contacts.find(session, demo.controller.id, EmailAddress.parse(GOOD["email"]))
        assert view is not None
        assert session.scalars(select(Confirmation.told)).all() == [None]
        sealed = session.execute(
            select(Publication.payload).where(Publication.type == "subscription.confirmed")
        ).scalar_one()
        payload = json.loads(session.keys.unseal(contacts.open_key(session, view.id), sealed))
    assert payload["data"]["contact"]["fields"] == KEPT
    confirmed = [fact for fact in log.facts(view.id) if fact.kind == "subscription.confirmed"]
    assert confirmed[0].fields["fields"] == KEPT
    assert view.version == 2
    key = {"Authorization": f"Bearer {demo.api_key}"}
    assert client.get(f"/api/v1/contacts/{view.id}", headers=key).json["fields"] == KEPT
    listed = client.get(f"/api/v1/subscriptions?email={GOOD['email']}", headers=key).json["items"]
    assert [item["fields"] for item in listed] == [KEPT]
    exported = client.get("/api/v1/export/subscriptions.jsonl", headers=key).text
    assert json.loads(exported.splitlines()[0])["fields"] == KEPT
    assert "Änna" in client.get("/api/v1/export/subscriptions.csv", headers=key).text


@pytest.mark.req("F17")
def test_what_a_contact_said_stays_when_somebody_else_types_the_address(
    client: FlaskClient,
    demo: SimpleNamespace,
    declared: None,
    clock: Clock,
    signup_and_confirm: Callable[..., SignedUp],
) -> None:
    client.post("/f/demo-de", data={**GOOD, "first_name": "Anna"})
    press(client, mailed_url(queued_mail(GOOD["email"]), "confirm"), clock)
    client.post("/f/demo-de", data={**GOOD, "first_name": "Stranger", "render_id": "other"})
    assert held(GOOD["email"], demo.controller.id) == {"first_name": "Anna"}


def test_the_newest_word_counts_when_one_asks_twice(
    client: FlaskClient, demo: SimpleNamespace, declared: None, clock: Clock
) -> None:
    client.post("/f/demo-de", data={**GOOD, "first_name": "Ana", "size": "s"})
    first = mailed_url(queued_mail(GOOD["email"]), "confirm")
    # The cap holds the second mail back; the first one's link still answers for both.
    client.post("/f/demo-de", data={**GOOD, "first_name": "Anna"})
    press(client, first, clock)
    assert held(GOOD["email"], demo.controller.id) == {"first_name": "Anna", "size": "s"}


@pytest.mark.req("F17")
@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("first_name", "x" * 201, "too_long"),
        ("size", "m", "unchosen"),
        ("printed", "perhaps", "unticked"),
        ("born", "1990-02-30", "no_date"),
        ("born", "28.2.1990", "no_date"),
        ("born", "1890-01-01", "no_date"),
        ("country", "XX", "unchosen"),
        ("country", "EU", "unchosen"),
        ("phone", "call me", "no_number"),
        ("phone", "1" * 40, "no_number"),
    ],
)
def test_the_message_stands_beside_the_field_when_a_value_is_wrong(
    client: FlaskClient, declared: None, name: str, value: str, code: str
) -> None:
    data = {**GOOD, **SAID, name: value}
    answer = client.post("/f/demo-de", data=data, headers=JSON)
    assert answer.status_code == 422
    assert [(error["field"], error["code"]) for error in answer.json["errors"]] == [(name, code)]
    label = next(field.label for field in DECLARED if field.name == name)
    message = answer.json["errors"][0]["message"]
    assert f"„{label}“" in message
    page = client.post("/f/demo-de", data=data).text
    assert f'<a href="#field-{name}">{message}</a>' in page
    (field,) = re.findall(rf"<(?:input|select) [^>]*name=\"{name}\"[^>]*>", page)
    assert 'aria-invalid="true"' in field
    assert f'aria-describedby="why-{name} error-{name}"' in field
    assert f'id="error-{name}"' in page
    assert "autofocus" in page
    if name != "first_name":
        assert 'value="Änna"' in page
    assert queued_mail(GOOD["email"]) is None


def test_a_required_field_is_asked_for_when_it_is_empty(client: FlaskClient, demo: SimpleNamespace, now: Any) -> None:
    publish(demo, replace(FORM, fields=tuple(replace(field, required=True) for field in DECLARED)), now)
    answer = client.post("/f/demo-de", data=GOOD, headers=JSON)
    codes = {error["field"]: error["code"] for error in answer.json["errors"]}
    assert codes == {
        "first_name": "required",
        "size": "unchosen",
        "printed": "unticked",
        "born": "required",
        "country": "unchosen",
        "phone": "required",
    }
    assert client.post("/f/demo-de", data={**GOOD, **SAID}, headers=JSON).status_code == 202


@pytest.mark.req("F12")
def test_each_field_says_why_and_what_browsers_may_fill_in_when_it_is_shown(
    client: FlaskClient, declared: None
) -> None:
    page = client.get("/f/demo-de").text
    for field in DECLARED:
        assert f'for="field-{field.name}"' in page or f'id="field-{field.name}" type="checkbox"' in page
        assert field.purpose in page
    assert page.count("(freiwillig)") == len(DECLARED)
    assert 'autocomplete="given-name"' in page
    assert 'autocomplete="tel"' in page
    assert page.index("Österreich") < page.index("Papua-Neuguinea")
    assert page.index("Norwegen") < page.index("Österreich")


@pytest.mark.req("F18")
def test_a_link_fills_in_declared_fields_only_when_it_names_them(
    client: FlaskClient, demo: SimpleNamespace, now: Any
) -> None:
    publish(demo, replace(FORM, fields=DECLARED, attribution=("utm_source",)), now)
    query = {**GOOD, **SAID, "utm_source": "mail<x>", "utm_medium": "x"}
    page = client.get("/f/demo-de", query_string=query).text
    assert 'value=" Änna "' in page
    assert 'value="AT" selected' in page
    assert "checked" not in page
    assert GOOD["email"] not in page
    assert 'name="utm_source" value="mail&lt;x&gt;"' in page
    assert "utm_medium" not in page
    assert "shoe" not in page


@pytest.mark.req("F18")
def test_where_a_visitor_came_from_is_on_record_when_the_form_allows_it(
    client: FlaskClient, demo: SimpleNamespace, now: Any
) -> None:
    publish(demo, replace(FORM, attribution=("utm_source", "src")), now)
    referer = "https://www.beispiel.example/messe?utm_source=secret"
    data = {**GOOD, "utm_source": "y" * 300, "src": " stand 4\n", "utm_medium": "mail"}
    assert client.post("/f/demo-de", data=data, headers={"Referer": referer}).status_code == 303
    with reading() as session:
        view = contacts.find(session, demo.controller.id, EmailAddress.parse(GOOD["email"]))
    assert view is not None
    fact = log.facts(view.id)[0].fields
    assert fact["attribution"] == {"utm_source": "y" * 200, "src": "stand 4"}
    assert fact["page"] == "https://www.beispiel.example/messe"


def test_a_form_that_declares_nothing_keeps_nothing_when_more_is_sent(
    client: FlaskClient, demo: SimpleNamespace, clock: Clock
) -> None:
    client.post("/f/demo-de", data={**GOOD, "phone": "+43 1 234", "shoe": "43", "utm_source": "x"})
    press(client, mailed_url(queued_mail(GOOD["email"]), "confirm"), clock)
    assert held(GOOD["email"], demo.controller.id) == {}


@pytest.mark.parametrize(
    ("key", "field"),
    [
        ("fields[0].name", replace(FIRST_NAME, name="email")),
        ("fields[0].name", replace(FIRST_NAME, name="utm_source")),
        ("fields[0].name", replace(FIRST_NAME, name="Vorname")),
        ("fields[0].name", replace(FIRST_NAME, name="form_version")),
        ("fields[0].type", replace(FIRST_NAME, type="file")),
        ("fields[0].label", replace(FIRST_NAME, label="")),
        ("fields[0].purpose", replace(FIRST_NAME, purpose=" ")),
        ("fields[0].max_length", replace(FIRST_NAME, max_length=201)),
        ("fields[0].autocomplete", replace(FIRST_NAME, autocomplete="cc-number")),
        ("fields[0].options", replace(FIRST_NAME, options=(Option("a", "A"),))),
        ("fields[0].options", replace(FIRST_NAME, type="select")),
        ("fields[0].options", replace(FIRST_NAME, type="select", options=(Option("a", "A"), Option("a", "B")))),
    ],
)
def test_a_field_is_refused_when_its_declaration_cannot_hold(key: str, field: Field) -> None:
    with pytest.raises(Invalid) as refused:
        check(replace(FORM, fields=(field,)))
    assert refused.value.errors[0]["field"] == key


def texts() -> Iterator[st.SearchStrategy[str]]:
    yield st.text()
    yield st.from_regex(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
    yield st.sampled_from(["s", "l", "yes", "AT", "+43 1 234", "", " "])


# Drawing is slow on a busy machine, which says nothing about what is drawn.
@settled(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.dictionaries(st.sampled_from([*SAID, "other"]), st.one_of(*texts())))
def test_a_value_is_kept_or_refused_and_never_both_when_anything_is_sent(sent: dict[str, str]) -> None:
    values, typed, errors = fields.told(stored(*DECLARED), MultiDict(sent))
    wrong = {error.field for error in errors}
    assert values.keys() | wrong <= {field.name for field in DECLARED}
    assert values.keys() & wrong == set()
    assert all(text.isprintable() or "\n" not in text for text in typed.values())
    for name, value in values.items():
        assert value is True or (1 <= len(value) <= 200 and value == value.strip())
        assert sent[name].strip()
    assert (
        fields.told(stored(*DECLARED), MultiDict({n: "yes" if v is True else v for n, v in values.items()}))[0]
        == values
    )


def test_no_declared_field_may_take_a_name_of_ours_when_the_page_is_read(
    client: FlaskClient, demo: SimpleNamespace, now: Any
) -> None:
    publish(demo, replace(FORM, attribution=fields.ATTRIBUTION), now)
    query = dict.fromkeys(fields.ATTRIBUTION, "x")
    pages = client.get("/f/demo-de", query_string=query).text
    # The page again, with a hint for a slip in the address.
    pages += client.post("/f/demo-de", data={"email": "anna@gmx.ed"}).text
    names = set(re.findall(r'<(?:input|select|button)[^>]* name="([^"]+)"', pages))
    assert {"email", "purpose", "form_version", "render_id", "utm_source", "src"} <= names
    free = [name for name in names if name not in fields.RESERVED and not name.startswith(fields.RESERVED_PREFIXES)]
    assert free == []
