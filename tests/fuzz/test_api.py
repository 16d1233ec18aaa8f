"""The API keeps to its own description: what it describes it takes and answers, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest
import schemathesis
from flask import Flask
from hypothesis import given
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks
from sqlalchemy import select

import signup.app  # noqa: F401 - the views declare themselves when they are imported
from signup.consents.models import Consent
from signup.core.db import reading, transaction
from signup.core.values import utc_now
from signup.purposes import actions as purposes
from signup.staff import access
from signup.web import openapi
from tests.fuzz.conftest import tried

pytestmark = pytest.mark.slow

DESCRIPTION = openapi.description("http://127.0.0.1:8000")


def without_security(value: Any) -> Any:
    """The description but for its keys: a wrong key would be refused before anything else is looked at."""
    if not isinstance(value, dict):
        return value
    return {name: without_security(inner) for name, inner in value.items() if not name.startswith("security")}


# A mail goes as it is.
schemathesis.serializer.alias("message/rfc822", "text/plain")
SCHEMA = schemathesis.openapi.from_dict(without_security(DESCRIPTION))
OPERATIONS = [(method, path) for path, methods in DESCRIPTION["paths"].items() for method in methods]
ORIGIN = {"type": "fair", "detail": "Hannover 2026", "collected_by": None}
# What each answer is held against.
ANSWERS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.response_headers_conformance,
]
RFC3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


EVERY = pytest.mark.parametrize(("method", "path"), OPERATIONS, ids=[f"{method} {path}" for method, path in OPERATIONS])


@dataclass(frozen=True)
class World:
    """A service that holds one of each, and a key for all of it."""

    app: Flask
    key: str
    held: dict[str, list[Any]]
    spare: dict[str, list[str]]  # endpoints that one method may spoil

    def send(self, case: Any) -> Any:
        return case.call(app=self.app, headers={"Authorization": f"Bearer {self.key}"})


@pytest.fixture(scope="module")
def world(shared_app: Flask) -> World:
    with reading() as session:
        controller = purposes.find_controller(session, "beispiel")
    with transaction() as session:
        made = access.create_key(session, controller.id, "fuzz", list(access.SCOPES), now=utc_now())
    sent = {"Authorization": f"Bearer {made.secret}"}

    def post(path: str, body: Any) -> Any:
        answer = shared_app.test_client().post(f"/api/v1{path}", json=body, headers=sent)
        assert answer.status_code < 300, answer.text
        return answer.json

    entry = {"origin": ORIGIN, "purposes": ["product-news"]}
    asked = post("/subscriptions", {**entry, "email": "asked@example.com", "legal_basis": "gdpr-6-1-a"})
    bound = post("/subscriptions", {**entry, "email": "bound@example.com", "legal_basis": "gdpr-6-1-b"})
    contact = post("/contacts", {"origin": ORIGIN, "email": "kept@example.com", "legal_basis": "gdpr-6-1-f"})
    endpoint = post("/webhook-endpoints", {"url": "http://127.0.0.1:8999/in"})
    delivery = post(f"/webhook-endpoints/{endpoint['id']}/test", {})
    with reading() as session:
        consent_id = session.scalars(select(Consent.id)).first()
    held: dict[str, list[Any]] = {
        "contact_id": [contact["id"]],
        "subscription_id": [asked["id"], bound["id"]],
        "endpoint_id": [endpoint["id"]],
        "delivery_id": [delivery["delivery_id"]],
        "slug": ["demo-de", "demo-en"],
        "consent_id": [consent_id],
        "origin": [ORIGIN],
        "legal_basis": ["gdpr-6-1-a", "gdpr-6-1-b"],
        "used_at": [None],
        "purpose": [None],
        "email": ["asked@example.com", "new@example.com", "newer@example.com", "newest@example.com"],
        "form": ["demo-de", "demo-en"],
        "fields": [{}],  # the forms of the demo declare none
        "purposes": [["product-news"], ["invitations", "product-news"]],
        "url": ["http://127.0.0.1:8999/in", "http://127.0.0.1:8999/other?x=1", "https://crm.example.org/hooks"],
        "types": [["subscription.confirmed"], []],
    }
    spare = {
        name: [post("/webhook-endpoints", {"url": "http://127.0.0.1:8999/x"})["id"]] for name in ("PATCH", "DELETE")
    }
    return World(shared_app, made.secret, held, spare)


def cases(method: str, path: str, mode: GenerationMode) -> st.SearchStrategy[Any]:
    strategy: st.SearchStrategy[Any] = SCHEMA[path][method.upper()].as_strategy(generation_mode=mode)
    return strategy


def prefer_what_exists(world: World, case: Any, data: st.DataObject) -> None:
    """Most of the generated values become ones that mean something here; both are as described."""
    for place in (case.path_parameters, case.body):
        if not isinstance(place, dict):
            continue
        for name in sorted(set(place) & set(world.held)):
            # What the other calls need is neither taken away nor paused.
            known = (
                world.spare[case.method] if name == "endpoint_id" and case.method in world.spare else world.held[name]
            )
            place[name] = data.draw(st.sampled_from([place[name], *known, *known]))


def times_in(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Every value in an answer whose name says that it is a time."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from times_in(inner, key)
    elif isinstance(value, list):
        for inner in value:
            yield from times_in(inner, name)
    elif name.endswith("_at") and value is not None:
        yield name, value


@EVERY
def test_the_answer_is_as_described_when_the_call_is(world: World, method: str, path: str) -> None:
    seen: set[int] = set()

    @tried(25)
    @given(data=st.data())
    def calls(data: st.DataObject) -> None:
        case = data.draw(cases(method, path, GenerationMode.POSITIVE))
        prefer_what_exists(world, case, data)
        answer = world.send(case)
        case.validate_response(answer, checks=ANSWERS)
        assert answer.status_code not in (400, 401, 403, 413, 415), answer.text
        if answer.headers["content-type"][0].endswith("json") and answer.content:
            assert not [found for found in times_in(answer.json()) if not RFC3339.fullmatch(str(found[1]))]
        seen.add(answer.status_code)

    calls()
    assert {status for status in seen if status < 300}, seen


@EVERY
def test_the_call_is_refused_clearly_when_it_is_not_as_described(world: World, method: str, path: str) -> None:
    @tried(15)
    @given(data=st.data())
    def calls(data: st.DataObject) -> None:
        case = data.draw(cases(method, path, GenerationMode.NEGATIVE))
        case.validate_response(world.send(case), checks=[*ANSWERS, checks.negative_data_rejection])

    calls()


@EVERY
def test_every_bound_of_the_description_is_kept_when_it_is_reached(world: World, method: str, path: str) -> None:
    found = SCHEMA.iter_coverage_cases(
        SCHEMA[path][method.upper()],
        generation_modes=[GenerationMode.POSITIVE, GenerationMode.NEGATIVE],
        generation_config=SCHEMA.config.generation,
    )
    number = 0
    for number, case in enumerate(found, 1):  # noqa: B007 - the count is what is asked for
        answer = world.send(case)
        case.validate_response(answer, checks=[*ANSWERS, checks.negative_data_rejection, checks.unsupported_method])
    assert number > 0


@EVERY
def test_nothing_is_told_when_the_key_is_missing_or_wrong(world: World, method: str, path: str) -> None:
    @tried(4)
    @given(data=st.data(), key=st.sampled_from(["", "sk_wrong", "sk_" + "x" * 43, "x" * 5000]))
    def calls(data: st.DataObject, key: str) -> None:
        case = data.draw(cases(method, path, GenerationMode.POSITIVE))
        prefer_what_exists(world, case, data)
        answer = case.call(app=world.app, headers={"Authorization": f"Bearer {key}"})
        assert answer.status_code == 401
        case.validate_response(answer, checks=ANSWERS)

    calls()
