"""Bad input: the right status, the field by its name, and never a 500."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask

from tests.api.conftest import ORIGIN, Api

GOOD = {
    "email": "kim@example.com",
    "origin": ORIGIN,
    "legal_basis": "gdpr-6-1-b",
    "purposes": ["product-news"],
}


def _fields(answer: Any) -> set[tuple[str, str]]:
    assert answer.status_code == 422, answer.get_data(as_text=True)
    assert answer.content_type == "application/problem+json"
    return {(error["field"], error["code"]) for error in answer.json["errors"]}


def _without(name: str) -> dict[str, Any]:
    return {key: value for key, value in GOOD.items() if key != name}


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ({}, {("email", "required"), ("origin", "required"), ("legal_basis", "required")}),
        (_without("origin"), {("origin", "required")}),
        (_without("legal_basis"), {("legal_basis", "required")}),
        ({**GOOD, "email": 7}, {("email", "invalid")}),
        ({**GOOD, "email": "nobody"}, {("email", "missing_at")}),
        ({**GOOD, "email": "a\r\nb@example.com"}, {("email", "invalid")}),
        ({**GOOD, "email": "a\x00@example.com"}, {("email", "invalid")}),
        ({**GOOD, "email": "x" * 10_000}, {("email", "invalid")}),
        ({**GOOD, "nonsense": 1}, {("nonsense", "unknown")}),
        ({**GOOD, "legal_basis": "gdpr-6-1-c"}, {("legal_basis", "invalid")}),
        ({**GOOD, "origin": {"type": "fair"}}, {("origin.detail", "required")}),
        ({**GOOD, "origin": {**ORIGIN, "detail": "a\nb"}}, {("origin.detail", "invalid")}),
        ({**GOOD, "origin": {**ORIGIN, "detail": "a\n"}}, {("origin.detail", "invalid")}),
        ({**GOOD, "origin": {**ORIGIN, "detail": "a\x00"}}, {("origin.detail", "invalid")}),
        ({**GOOD, "origin": {**ORIGIN, "type": "Fair!"}}, {("origin.type", "invalid")}),
        ({**GOOD, "origin": "fair"}, {("origin", "invalid")}),
        ({**GOOD, "purposes": ["nothing"]}, {("purposes", "unknown")}),
        ({**GOOD, "purposes": []}, {("purposes", "required")}),
        ({**GOOD, "form": "nowhere"}, {("form", "unknown")}),
        ({**GOOD, "legal_basis": "gdpr-6-1-f"}, {("legal_basis", "no-ground-for-mail")}),
        ({**GOOD, "legal_basis": "gdpr-6-1-a", "purposes": []}, {("purposes", "required")}),
        ({**GOOD, "legal_basis": "gdpr-6-1-a", "purposes": ["nothing"]}, {("purposes", "unknown")}),
        ([], {("", "invalid")}),
        ("text", {("", "invalid")}),
    ],
)
def test_each_field_is_named_when_the_body_breaks_a_rule(
    api: Api, content: Any, expected: set[tuple[str, str]]
) -> None:
    assert _fields(api.post("/subscriptions", content)) == expected
    assert api.get("/contacts").json == {"items": [], "next": None}


def test_status_tells_what_is_wrong_when_the_body_is_not_json(app: Flask, api: Api) -> None:
    client, head = app.test_client(), {"Authorization": f"Bearer {api.key}"}
    bad = client.post("/api/v1/subscriptions", data=b'{"email": ', content_type="application/json", headers=head)
    assert (bad.status_code, bad.json and bad.json["code"]) == (400, "bad-json")
    for data in (b"\xff\xfe", b'{"email": "\\ud800"}', b'{"email": NaN}', b""):
        answer = client.post("/api/v1/subscriptions", data=data, content_type="application/json", headers=head)
        assert answer.status_code in (400, 422), data
        assert answer.content_type == "application/problem+json"
    form = client.post("/api/v1/subscriptions", data={"email": "a@example.com"}, headers=head)
    assert (form.status_code, form.json and form.json["code"]) == (415, "unsupported-media-type")
    large = client.post("/api/v1/subscriptions", data=b" " * 1_100_000, content_type="application/json", headers=head)
    assert large.status_code == 413


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("/contacts?limit=0", "limit"),
        ("/contacts?limit=201", "limit"),
        ("/contacts?limit=many", "limit"),
        ("/contacts?cursor=x", "cursor"),
        ("/contacts?cursor=%00", "cursor"),
        ("/contacts?cursor=Zm9ybXM6eA", "cursor"),
        ("/contacts?email=nobody", "email"),
        ("/contacts?page=2", "page"),
        ("/events?after=-1", "after"),
        ("/events?after=99999999999999999999", "after"),
        ("/events?cursor=abc", "cursor"),
        ("/deliveries?state=lost", "state"),
        ("/deliveries?endpoint=%00", "endpoint"),
        ("/export/subscriptions.csv?status=all", "status"),
    ],
)
def test_parameter_is_named_when_the_query_breaks_a_rule(api: Api, path: str, field: str) -> None:
    assert {name for name, _ in _fields(api.get(path))} == {field}


@pytest.mark.parametrize("ident", ["%00", "x" * 200, "a%27b", "%F0%9F%98%80", "con_0", "..%5c"])
def test_not_found_when_an_id_cannot_be_one_of_ours(api: Api, ident: str) -> None:
    for path in ("/contacts/{}", "/contacts/{}/evidence", "/forms/{}", "/deliveries/{}", "/webhook-endpoints/{}"):
        assert api.get(path.format(ident)).status_code == 404, path
