"""Contacts, their evidence, lists and cursors."""

from __future__ import annotations

import hashlib
import json
from base64 import urlsafe_b64encode
from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient

from tests.api.conftest import ORIGIN, Api
from tests.api.test_subscriptions import published


def _new(email: str = "kim@example.com", **more: Any) -> dict[str, Any]:
    return {"email": email, "origin": ORIGIN, "legal_basis": "gdpr-6-1-f", **more}


def test_contact_is_kept_with_origin_and_basis_when_entered(api: Api) -> None:
    made = api.post("/contacts", _new(locale="de"))
    assert made.status_code == 201
    assert made.json is not None
    assert made.json == (api.get(f"/contacts/{made.json['id']}").json)
    assert (made.json["origin"], made.json["legal_basis"], made.json["locale"]) == (ORIGIN, "gdpr-6-1-f", "de")
    assert made.json["created_at"].endswith("Z")
    assert len(made.json["created_at"]) == len("2026-11-23T09:14:02.125Z")
    assert published() == ["contact.created"]
    again = api.post("/contacts", _new())
    assert again.status_code == 409
    assert again.json is not None
    assert (again.json["code"], again.json["contact_id"]) == ("contact-exists", made.json["id"])


def test_consent_is_refused_when_somebody_else_claims_it(api: Api) -> None:
    answer = api.post("/contacts", _new(legal_basis="gdpr-6-1-a"))
    assert answer.status_code == 422
    assert (answer.json or {})["errors"][0]["code"] == "needs-confirmation"
    assert published() == []


def test_version_rises_and_the_change_is_told_when_the_language_changes(api: Api) -> None:
    ident = (api.post("/contacts", _new()).json or {})["id"]
    changed = api("PATCH", f"/contacts/{ident}", {"locale": "de"})
    assert changed.status_code == 200
    assert changed.json is not None
    assert (changed.json["locale"], changed.json["version"]) == ("de", 2)
    assert (api("PATCH", f"/contacts/{ident}", {"locale": "de"}).json or {})["version"] == 2
    assert published() == ["contact.created", "contact.updated"]
    assert api("PATCH", f"/contacts/{ident}", {"name": "x"}).status_code == 422


def test_pages_join_to_the_whole_list_when_followed(api: Api) -> None:
    made = [(api.post("/contacts", _new(f"kim{number}@example.com")).json or {})["id"] for number in range(5)]
    seen: list[str] = []
    path = "/contacts?limit=2"
    for expected in (2, 2, 1):
        answer = api.get(path).json
        assert answer is not None
        assert len(answer["items"]) == expected
        seen += [item["id"] for item in answer["items"]]
        path = f"/contacts?limit=2&cursor={answer['next']}"
    assert answer["next"] is None
    assert sorted(seen) == sorted(made)
    one = api.get("/contacts?email=KIM3@example.com").json
    assert one is not None
    assert [item["email"] for item in one["items"]] == ["kim3@example.com"]


def test_every_disclosure_is_in_its_leaf_when_evidence_is_read(
    api: Api, signup_and_confirm: Callable[..., Any], client: FlaskClient
) -> None:
    person = signup_and_confirm("kim@example.com")
    answer = api.get(f"/contacts/{person.contact_id}/evidence")
    assert answer.status_code == 200
    assert answer.json is not None
    assert [fact["type"] for fact in answer.json["facts"]] == ["subscription.requested", "subscription.confirmed"]
    for fact in answer.json["facts"]:
        digests = [
            urlsafe_b64encode(hashlib.sha256(item.encode()).digest()).rstrip(b"=").decode()
            for item in fact["disclosures"]
        ]
        assert sorted(digests) == fact["leaf"]["sd"]
        assert {json.loads(item)[1]: json.loads(item)[2] for item in fact["disclosures"]} == fact["fields"]
        assert fact["redacted"] == 0
    assert answer.json["facts"][0]["fields"]["ip"] == "203.0.113.7"
    assert answer.json["complete"] is True
    read = api.get(f"/contacts/{person.contact_id}/evidence").json
    assert read is not None
    assert [fact["type"] for fact in read["facts"]][2:] == ["evidence.read"]
    assert read["facts"][2]["fields"]["actor"].startswith("api-key:key_")


def test_no_answer_holds_the_live_token_when_a_question_is_open(api: Api, sign_up: Callable[..., Any]) -> None:
    from tests.api.test_subscriptions import events_of

    person = sign_up("kim@example.com")
    tokens = {url.rpartition("/")[2] for url in (person.confirm_url, person.not_me_url)}
    parts = {token.partition(".")[0] for token in tokens}
    assert all(len(part) >= 20 for part in parts)
    events_of(api)
    for path in (
        f"/contacts/{person.contact_id}/evidence",
        f"/contacts/{person.contact_id}",
        "/contacts",
        "/subscriptions",
        "/events",
        "/deliveries",
        "/export/subscriptions.csv",
        "/export/subscriptions.jsonl",
    ):
        answer = api.get(path)
        assert answer.status_code == 200
        assert not [part for part in parts if part in answer.get_data(as_text=True)], path


def test_forms_show_the_exact_wording_when_read(api: Api) -> None:
    listed = api.get("/forms").json
    assert listed is not None
    assert [form["slug"] for form in listed["items"]] == ["demo-de", "demo-en"]
    form = api.get("/forms/demo-de").json
    assert form == listed["items"][0]
    assert [item["slug"] for item in form["purposes"]] == ["product-news", "invitations"]
    for item in form["purposes"]:
        assert item["text_sha256"] == hashlib.sha256(item["text"].encode()).hexdigest()
        assert item["label"]
    assert [field["name"] for field in form["fields"]] == ["email", "purpose"]
    first = api.get("/forms?limit=1").json
    assert first is not None
    second = api.get(f"/forms?limit=1&cursor={first['next']}").json
    assert second is not None
    assert [first["items"][0]["slug"], second["items"][0]["slug"]] == ["demo-de", "demo-en"]
    for path in ("/topics", "/purposes"):
        found = api.get(path).json
        assert found is not None
        assert [item["slug"] for item in found["items"]] == ["invitations", "product-news"]


def test_nothing_leaks_when_another_controller_asks(
    api: Api, stranger: Api, signup_and_confirm: Callable[..., Any]
) -> None:
    person = signup_and_confirm("kim@example.com")
    endpoint = (api.post("/webhook-endpoints", {"url": "http://127.0.0.1:8999/in"}).json or {})["id"]
    delivery = (api.post(f"/webhook-endpoints/{endpoint}/test").json or {})["delivery_id"]
    hidden = ("kim@", person.contact_id, person.subscription_id, endpoint, delivery, "demo-de", "product-news")
    for method, path, body in (
        ("GET", f"/contacts/{person.contact_id}", None),
        ("PATCH", f"/contacts/{person.contact_id}", {"locale": "en"}),
        ("GET", f"/contacts/{person.contact_id}/evidence", None),
        ("GET", "/forms/demo-de", None),
        ("POST", f"/subscriptions/{person.subscription_id}/end", {}),
        ("GET", f"/webhook-endpoints/{endpoint}", None),
        ("PATCH", f"/webhook-endpoints/{endpoint}", {"state": "paused"}),
        ("DELETE", f"/webhook-endpoints/{endpoint}", None),
        ("POST", f"/webhook-endpoints/{endpoint}/test", None),
        ("POST", f"/webhook-endpoints/{endpoint}/rotate", {}),
        ("GET", f"/deliveries/{delivery}", None),
        ("POST", f"/deliveries/{delivery}/resend", None),
    ):
        assert stranger(method, path, body).status_code == 404, path
    for path in (
        "/forms",
        "/contacts",
        "/contacts?email=kim@example.com",
        "/subscriptions",
        "/subscriptions?email=kim@example.com",
        "/events",
        "/topics",
        "/purposes",
        "/webhook-endpoints",
        "/deliveries",
        "/export/subscriptions.csv",
        "/export/subscriptions.jsonl",
    ):
        answer = stranger.get(path)
        assert answer.status_code == 200, path
        assert not [word for word in hidden if word in answer.get_data(as_text=True)], path
    entered = {"email": "kim@example.com", "origin": ORIGIN, "legal_basis": "gdpr-6-1-a", "form": "demo-de"}
    assert stranger.post("/subscriptions", entered).status_code == 422
    (item,) = (api.get("/subscriptions").json or {})["items"]
    assert item["status"] == "active"
    assert api.get(f"/webhook-endpoints/{endpoint}").status_code == 200


@pytest.mark.req("W29")
def test_a_program_subscribes_itself_when_it_has_a_key(api: Api) -> None:
    made = api.post("/webhook-endpoints", {"url": "http://127.0.0.1:8999/in", "types": ["subscription.confirmed"]})
    assert made.status_code == 201
    assert made.json is not None
    ident = made.json["id"]
    assert made.json["secret"].startswith("whsec_")
    shown = api.get(f"/webhook-endpoints/{ident}")
    assert "secret" not in (shown.json or {})
    assert made.json["secret"] not in shown.get_data(as_text=True)
    assert (api("PATCH", f"/webhook-endpoints/{ident}", {"state": "paused"}).json or {})["state"] == "paused"
    assert api.post(f"/webhook-endpoints/{ident}/test").status_code == 409
    assert (api("PATCH", f"/webhook-endpoints/{ident}", {"state": "active"}).json or {})["state"] == "active"
    rotated = api.post(f"/webhook-endpoints/{ident}/rotate", {"grace_hours": 1}).json
    assert rotated is not None
    assert rotated["secret"] != made.json["secret"]
    tested = api.post(f"/webhook-endpoints/{ident}/test")
    assert tested.status_code == 202
    delivery = (tested.json or {})["delivery_id"]
    (listed,) = (api.get(f"/deliveries?endpoint={ident}&state=due").json or {})["items"]
    assert (listed["id"], listed["type"], listed["trigger"]) == (delivery, "endpoint.test", "test")
    assert api.get(f"/deliveries/{delivery}").json == listed
    assert (api.post(f"/deliveries/{delivery}/resend").json or {})["trigger"] == "resend"
    assert api("DELETE", f"/webhook-endpoints/{ident}").status_code == 204
    assert api.get(f"/webhook-endpoints/{ident}").status_code == 404
    refused = api.post("/webhook-endpoints", {"url": "http://10.0.0.1/", "types": ["subscription.confirmed"]})
    assert refused.status_code == 422
    unknown = api.post("/webhook-endpoints", {"url": "http://127.0.0.1:8999/", "types": ["nothing"]})
    assert (unknown.json or {})["errors"][0]["field"] == "types"
