"""What people, scripts and attackers send to a form: the right answer, in clear words, and nothing written."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select
from werkzeug.datastructures import MultiDict
from werkzeug.test import TestResponse

from signup.contacts.models import Contact
from signup.core.db import reading, transaction
from signup.forms import actions as forms
from tests.journeys.world import call, count_rows, tables
from tests.support.servers import Service

FORM = "application/x-www-form-urlencoded"
JSON = "application/json"
GOOD = {"email": "anna@beispiel.example", "purpose": "product-news"}
MEBIBYTE = 1024 * 1024


@dataclass(frozen=True)
class Case:
    """One request and what is to come of it."""

    name: str
    status: int
    says: str = ""  # German words on the page, or the code of the problem
    fields: dict[str, Any] = field(default_factory=dict)
    keeps: str | None = None  # what the page still shows

    def __str__(self) -> str:
        return self.name


def wrong_address(name: str, address: str, says: str, *, keeps: bool = True) -> Case:
    shown = address if keeps else None
    return Case(name, 422, says, {"email": address, "purpose": "product-news"}, shown)


CANNOT_BE_RIGHT = "Diese E-Mail-Adresse kann nicht stimmen"
FORM_CHANGED = "Dieses Formular wurde geändert"
FIELD_CASES = [
    Case("no fields", 422, "Bitte geben Sie Ihre E-Mail-Adresse ein", {}),
    wrong_address("empty address", "", "Bitte geben Sie Ihre E-Mail-Adresse ein"),
    wrong_address("no at", "anna", "Die E-Mail-Adresse braucht ein @"),
    wrong_address("two ats", "a@b@beispiel.example", CANNOT_BE_RIGHT),
    wrong_address("blank inside", "an na@beispiel.example", CANNOT_BE_RIGHT),
    wrong_address("no top-level domain", "anna@beispiel", CANNOT_BE_RIGHT),
    wrong_address("address literal", "anna@[127.0.0.1]", CANNOT_BE_RIGHT),
    wrong_address("numeric domain", "anna@127.0.0.1", CANNOT_BE_RIGHT),
    wrong_address("display name", "Anna <anna@beispiel.example>", CANNOT_BE_RIGHT, keeps=False),
    wrong_address("umlaut before the at", "änna@beispiel.example", "ohne Umlaute"),
    wrong_address("10 kB address", "a" * 10_000 + "@beispiel.example", "länger, als ein Postfach erlaubt"),
    wrong_address("header injection", "a@beispiel.example\r\nBcc: b@beispiel.example", CANNOT_BE_RIGHT, keeps=False),
    wrong_address("line feed at the end", "a@beispiel.example\n", CANNOT_BE_RIGHT, keeps=False),
    wrong_address("null byte", "a\x00@beispiel.example", CANNOT_BE_RIGHT, keeps=False),
    wrong_address("right-to-left override", "a\u202e@beispiel.example", CANNOT_BE_RIGHT, keeps=False),
    wrong_address("markup", '"><script>@beispiel.example', CANNOT_BE_RIGHT, keeps=False),
    Case("no purpose", 422, "Bitte kreuzen Sie an", {"email": "anna@beispiel.example"}, "anna@beispiel.example"),
    Case(
        "unknown purpose", 422, "Diese Auswahl gibt es nicht mehr", {**GOOD, "purpose": "sms"}, "anna@beispiel.example"
    ),
    Case(
        "known and unknown purpose", 422, "Diese Auswahl gibt es nicht mehr", {**GOOD, "purpose": ["product-news", "x"]}
    ),
    Case("10 kB purpose", 422, "Diese Auswahl gibt es nicht mehr", {**GOOD, "purpose": "x" * 10_000}),
    Case("null byte in purpose", 422, "Diese Auswahl gibt es nicht mehr", {**GOOD, "purpose": "product-news\x00"}),
    Case("unknown version", 422, FORM_CHANGED, {**GOOD, "form_version": "99"}, "anna@beispiel.example"),
    Case("version in words", 422, FORM_CHANGED, {**GOOD, "form_version": "newest"}),
    Case("huge version", 422, FORM_CHANGED, {**GOOD, "form_version": "9" * 5000}),
]


def by_urlencoded(client: FlaskClient, fields: dict[str, Any], **options: Any) -> TestResponse:
    body = urlencode(fields, doseq=True).encode()
    return client.post("/f/demo-de", data=body, content_type=FORM, **options)


def by_multipart(client: FlaskClient, fields: dict[str, Any], **options: Any) -> TestResponse:
    parts = []
    for name, value in fields.items():
        for item in value if isinstance(value, list) else [value]:
            head = f'--sep\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n'
            parts.append(head.encode() + str(item).encode() + b"\r\n")
    body = b"".join(parts) + b"--sep--\r\n"
    return client.post("/f/demo-de", data=body, content_type="multipart/form-data; boundary=sep", **options)


def by_json(client: FlaskClient, fields: dict[str, Any], **options: Any) -> TestResponse:
    return client.post("/f/demo-de", data=json.dumps(fields).encode(), content_type=JSON, **options)


WAYS = {"urlencoded": by_urlencoded, "multipart": by_multipart, "json": by_json}


def check_problem(answer: TestResponse, status: int) -> Any:
    """Problem JSON of which a program and a person can make something."""
    assert answer.mimetype == "application/problem+json"
    problem = answer.json
    assert problem["status"] == status
    assert {"type", "title", "code", "detail"} <= set(problem)
    assert problem["type"] == f"urn:signup:error:{problem['code']}"
    assert len(problem["detail"]) > 10
    return problem


@pytest.fixture
def unchanged(app: Flask, demo: Any) -> Callable[[], bool]:
    before = tables()
    return lambda: tables() == before


@pytest.mark.req("F4")
@pytest.mark.parametrize("way", WAYS)
def test_the_page_comes_back_with_clear_words_when_a_field_is_wrong(
    way: str, client: FlaskClient, unchanged: Callable[[], bool]
) -> None:
    for case in FIELD_CASES:
        answer = WAYS[way](client, case.fields)
        page = answer.get_data(as_text=True)
        assert (case.name, answer.status_code) == (case.name, case.status)
        assert case.says in page, case.name
        assert "<script>" not in page, case.name
        if case.keeps is not None:
            assert f'value="{case.keeps}"' in page, case.name
        ticked = re.findall(r'value="([^"]+)" checked', page)
        assert ticked == (["product-news"] if "product-news" in MultiDict(case.fields).getlist("purpose") else [])
    assert unchanged()


@pytest.mark.parametrize("way", WAYS)
def test_a_problem_names_each_field_when_a_script_sends_wrong_fields(
    way: str, client: FlaskClient, unchanged: Callable[[], bool]
) -> None:
    for case in FIELD_CASES:
        answer = WAYS[way](client, case.fields, headers={"Accept": JSON})
        assert (case.name, answer.status_code) == (case.name, case.status)
        problem = check_problem(answer, case.status)
        assert problem["errors"], case.name
        for error in problem["errors"]:
            assert set(error) == {"field", "code", "message"}, case.name
            assert error["field"] in ("email", "purpose", "form_version"), case.name
            assert re.fullmatch(r"[a-z_]+", error["code"]), case.name
            # A message is words, not the code again.
            assert " " in error["message"], case.name
        assert case.says in " ".join(error["message"] for error in problem["errors"]), case.name
    assert unchanged()


def test_both_fields_are_named_when_both_are_wrong(client: FlaskClient, unchanged: Callable[[], bool]) -> None:
    answer = by_json(client, {"email": "anna"}, headers={"Accept": JSON})
    found = [(error["field"], error["code"]) for error in answer.json["errors"]]
    assert found == [("email", "missing_at"), ("purpose", "required")]
    assert unchanged()


GOOD_ADDRESSES = {
    "international domain": ("anna@müller.example", "anna@xn--mller-kva.example"),
    "punycode domain": ("anna@xn--mller-kva.example", "anna@xn--mller-kva.example"),
    "blanks around": ("  anna@beispiel.example\t", "anna@beispiel.example"),
    "plus and dots": ("a.n+na@beispiel.example", "a.n+na@beispiel.example"),
    "apostrophe": ("o'hara@beispiel.example", "o'hara@beispiel.example"),
    "64 characters before the at": ("a" * 64 + "@beispiel.example", "a" * 64 + "@beispiel.example"),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", GOOD_ADDRESSES)
def test_the_sign_up_counts_when_an_address_is_unusual_but_right(name: str, way: str, client: FlaskClient) -> None:
    typed, kept = GOOD_ADDRESSES[name]
    assert WAYS[way](client, {**GOOD, "email": typed}).status_code == 303
    with reading() as session:
        assert kept in session.scalars(select(Contact.email)).one()


@pytest.mark.parametrize("way", WAYS)
def test_unknown_fields_leave_no_trace_when_sent_along(way: str, client: FlaskClient) -> None:
    more = {"surname": "Geheim-Surname", "email2": "x", "is_admin": "1", "origin": "Geheim-Origin", "x" * 5000: "1"}
    answer = WAYS[way](client, {**GOOD, **more})
    assert answer.status_code == 303
    assert count_rows(Contact) == 1
    everything = repr(tables())
    assert "Geheim" not in everything


RAW_CASES: list[tuple[str, str, bytes, int]] = [
    ("bad JSON", JSON, b'{"email": ', 400),
    ("empty JSON", JSON, b"", 400),
    ("JSON array", JSON, b'["anna@beispiel.example"]', 400),
    ("JSON string", JSON, b'"anna@beispiel.example"', 400),
    ("JSON null", JSON, b"null", 400),
    ("JSON in Latin-1", JSON, '{"email": "ä@beispiel.example"}'.encode("latin-1"), 400),
    ("JSON with NaN", JSON, b'{"email": NaN}', 422),
    ("deep JSON", JSON, b"[" * 100_000 + b"]" * 100_000, 400),
    ("deep JSON in a field", JSON, b'{"email": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400),
    ("huge JSON number", JSON, b'{"email": ' + b"9" * 100_000 + b"}", 400),
    ("JSON of wrong types", JSON, b'{"email": {"a": 1}, "purpose": 7}', 422),
    ("JSON of nested lists", JSON, b'{"email": ["a@beispiel.example"], "purpose": [["product-news"]]}', 422),
    ("JSON of truths", JSON, b'{"email": true, "purpose": null}', 422),
    ("half a character in JSON", JSON, b'{"email": "a\\ud800@beispiel.example", "purpose": "\\ud83d"}', 422),
    ("text", "text/plain", b"email=anna@beispiel.example&purpose=product-news", 415),
    ("XML", "application/xml", b"<email/>", 415),
    ("no type", "", b"email=anna@beispiel.example&purpose=product-news", 415),
    ("almost JSON", "application/jsonx", b"{}", 415),
    ("broken type", ";;;", b"{}", 415),
    ("multipart without boundary", "multipart/form-data", b"--x", 400),
    ("multipart cut off", "multipart/form-data; boundary=x", b'--x\r\nContent-Disposition: form-data; name="em', 400),
    ("multipart without end", "multipart/form-data; boundary=x", b"--x\r\n\r\n" + b"a" * 9000, 400),
    ("raw invalid UTF-8", FORM, b"email=\xff\xfe@beispiel.example&purpose=product-news", 400),
    ("unknown charset", FORM + "; charset=nonsense", b"email=anna&purpose=product-news", 422),
    ("UTF-16 charset", FORM + "; charset=utf-16", "email=anna".encode("utf-16"), 400),
    ("UTF-7 charset", FORM + "; charset=utf-7", b"email=+ADw-a+AD4-@beispiel.example", 422),
    ("broken percent", FORM, b"email=%zz%&purpose=%", 422),
    ("only ampersands", FORM, b"&" * 50_000, 422),
    ("many fields", FORM, b"&".join(b"f%d=1" % number for number in range(20_000)), 422),
]


@pytest.mark.parametrize("accept", ["text/html", JSON])
def test_the_right_refusal_is_given_when_the_body_is_garbled(
    accept: str, client: FlaskClient, unchanged: Callable[[], bool]
) -> None:
    found = {}
    for name, content_type, body, _ in RAW_CASES:
        headers = {"Accept": accept, **({"Content-Type": content_type} if content_type else {})}
        answer = client.post("/f/demo-de", data=body, headers=headers)
        found[name] = answer.status_code
        if accept == JSON:
            check_problem(answer, answer.status_code)
        else:
            assert answer.mimetype == "text/html"
            assert re.search(r"<h1>[^<]{5,}</h1>", answer.text), name
    assert found == {name: status for name, _, _, status in RAW_CASES}
    assert unchanged()


@pytest.mark.parametrize("accept", ["text/html", JSON])
@pytest.mark.parametrize("slug", ["nope", "DEMO-DE", "demo-de%00", "..%2f..%2fetc", "x" * 5000, "%f0%9f%a6%84", "%ff"])
def test_an_unknown_form_is_404_when_posted_to(
    slug: str, accept: str, client: FlaskClient, unchanged: Callable[[], bool]
) -> None:
    for method in ("GET", "POST"):
        answer = client.open(f"/f/{slug}", method=method, data=GOOD, headers={"Accept": accept})
        assert answer.status_code == 404
        assert accept == "text/html" or check_problem(answer, 404)
    assert unchanged()


@pytest.mark.req("A1")
@pytest.mark.parametrize("accept", ["text/html", JSON])
def test_a_closed_form_is_410_when_posted_to(accept: str, client: FlaskClient, demo: Any) -> None:
    with transaction() as session:
        forms.set_closed(session, demo.controller.id, "demo-de", True)
    before = tables()
    for method in ("GET", "POST"):
        answer = client.open("/f/demo-de", method=method, data=GOOD, headers={"Accept": accept})
        assert answer.status_code == 410
        words = check_problem(answer, 410)["detail"] if accept == JSON else answer.text
        assert "keine Anmeldungen mehr" in words
    assert tables() == before


@pytest.mark.parametrize("method", ["PUT", "PATCH", "DELETE"])
def test_other_methods_are_405_when_used_on_a_form(method: str, client: FlaskClient, demo: Any) -> None:
    answer = client.open("/f/demo-de", method=method)
    assert answer.status_code == 405
    assert {"GET", "POST"} <= {name.strip() for name in answer.headers["Allow"].split(",")}


def by_requests() -> dict[str, Any]:
    """All tables but those that the worker writes meanwhile: its timed jobs, and the seal of the log."""
    its = {"job", "event", "disclosure", "log_tile", "checkpoint", "log_key", "log_timestamp", "log_health"}
    return {name: rows for name, rows in tables().items() if name not in its}


def test_the_client_hears_413_when_the_body_is_too_large(service: Service, inside: Flask) -> None:
    before = by_requests()
    for size in (MEBIBYTE + 1, 3 * MEBIBYTE):
        for content_type in (FORM, JSON, "multipart/form-data; boundary=x"):
            answer = call("POST", f"{service.url}/f/demo-de", b"a" * size, {"Content-Type": content_type})
            assert (answer.status, content_type) == (413, content_type)
            assert "1 MiB" in answer.text
    assert by_requests() == before


def test_a_body_of_exactly_one_mebibyte_is_read_when_the_fields_are_good(client: FlaskClient) -> None:
    start = b"email=anna@beispiel.example&purpose=product-news&filler="
    answer = client.post("/f/demo-de", data=start + b"a" * (MEBIBYTE - len(start)), content_type=FORM)
    assert answer.status_code == 303


@pytest.mark.parametrize(
    "body",
    [b"[" * 100_000, b"[" * 100_000 + b"]" * 100_000, b'{"email": ' * 5000, b'{"email": "a\\ud800"}', b'{"\xff": 1}'],
    ids=["deep and open", "deep", "deep objects", "half a character", "not UTF-8"],
)
def test_the_api_refuses_clearly_when_its_json_is_pathological(
    body: bytes, client: FlaskClient, demo: Any, unchanged: Callable[[], bool]
) -> None:
    headers = {"Authorization": f"Bearer {demo.api_key}", "Content-Type": JSON}
    answer = client.post("/api/v1/contacts", data=body, headers=headers)
    assert answer.status_code == 400
    check_problem(answer, 400)
    assert unchanged()
