"""The description is valid, complete, and readable without a script."""

from __future__ import annotations

import re

import pytest
from flask import Flask
from flask.testing import FlaskClient
from openapi_spec_validator import validate

from signup.staff.access import SCOPES
from tests.api.conftest import Api

CONTRACT = {
    "get /forms", "get /forms/{slug}", "get /topics", "get /purposes", "post /subscriptions", "get /subscriptions",
    "post /subscriptions/{subscription_id}/end", "post /contacts", "get /contacts", "get /contacts/{contact_id}",
    "patch /contacts/{contact_id}", "get /contacts/{contact_id}/evidence", "get /events",
    "get /export/subscriptions.csv", "get /export/subscriptions.jsonl", "post /webhook-endpoints",
    "get /webhook-endpoints", "get /webhook-endpoints/{endpoint_id}", "patch /webhook-endpoints/{endpoint_id}",
    "delete /webhook-endpoints/{endpoint_id}", "post /webhook-endpoints/{endpoint_id}/test",
    "post /webhook-endpoints/{endpoint_id}/rotate", "get /deliveries", "get /deliveries/{delivery_id}",
    "post /deliveries/{delivery_id}/resend",
}  # fmt: skip


def test_description_is_valid_openapi_when_fetched_without_a_key(client: FlaskClient) -> None:
    answer = client.get("/api/v1/openapi.json")
    assert answer.status_code == 200
    assert answer.content_type == "application/json"
    assert answer.json is not None
    assert answer.json["openapi"].startswith("3.1")
    validate(answer.json)


def _described(rule: str) -> str:
    return re.sub(r"<(?:[a-z]+:)?([a-z_]+)>", r"{\1}", rule.removeprefix("/api/v1"))


def test_every_route_is_described_in_full_when_compared_with_the_application(app: Flask, client: FlaskClient) -> None:
    spec = client.get("/api/v1/openapi.json").json
    assert spec is not None
    routed = {
        f"{method.lower()} {_described(rule.rule)}"
        for rule in app.url_map.iter_rules()
        if rule.rule.startswith("/api/v1/") and rule.endpoint not in ("api.openapi", "api.docs")
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    described = {}
    for path, item in spec["paths"].items():
        for method, operation in item.items():
            described[f"{method} {path.removeprefix('/api/v1')}"] = operation
    assert set(described) == routed
    assert set(described) >= CONTRACT
    identifiers = [operation["operationId"] for operation in described.values()]
    assert len(set(identifiers)) == len(identifiers)
    for name, operation in described.items():
        assert operation["summary"], name
        (needs,) = operation["security"]
        assert set(needs["bearer"]) <= SCOPES.keys(), name
        assert needs["bearer"], name
        assert {"401", "403", "503"} <= operation["responses"].keys(), name
        if name.startswith("post "):
            assert {"409", "422"} <= operation["responses"].keys(), name
            assert "Idempotency-Key" in [parameter["name"] for parameter in operation["parameters"]], name
        if "{" in name:
            assert "404" in operation["responses"], name
        for status, answer in operation["responses"].items():
            if status >= "400":
                assert "application/problem+json" in answer["content"], (name, status)


def test_page_reads_without_script_when_opened(client: FlaskClient) -> None:
    answer = client.get("/api/v1/docs")
    page = answer.get_data(as_text=True)
    assert answer.status_code == 200
    assert answer.content_type.startswith("text/html")
    assert "<script" not in page
    assert not re.search(r'(?:src|href)="(?:https?:)?//', page)
    assert "unsafe" not in answer.headers["Content-Security-Policy"]
    for name in CONTRACT:
        assert name.partition(" ")[2] in page, name


@pytest.mark.parametrize("path", ["/nowhere", "/forms/x/y"])
def test_problem_is_told_as_json_when_the_path_is_unknown(api: Api, path: str) -> None:
    answer = api.get(path)
    assert answer.status_code == 404
    assert answer.content_type == "application/problem+json"
    assert answer.json is not None
    assert {"type", "title", "status", "code", "detail"} <= answer.json.keys()
    assert "mail" not in answer.json["detail"], "a program opened no mail whose link was cut off"


def test_problem_is_told_as_json_when_the_method_is_wrong(api: Api) -> None:
    answer = api("DELETE", "/forms")
    assert answer.status_code == 405
    assert answer.content_type == "application/problem+json"
    assert "GET" in answer.headers["Allow"]
