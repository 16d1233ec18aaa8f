"""Proof of work: who solved our challenge, for this form, in its time, and nothing else."""

from __future__ import annotations

import base64
import copy
import json
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as some
from sqlalchemy import update

from signup.abuse import challenge
from signup.core.db import transaction
from signup.core.signing import Keys
from signup.core.values import utc_now
from signup.forms.models import Form
from tests.abuse.solving import proof, solved, spelled

FORM = "frm_one"
KEYS = Keys(("first-secret-key-of-this-test-0123456789",), b"p" * 32, b"d" * 32)


@pytest.fixture(scope="module")
def made() -> tuple[dict[str, Any], datetime]:
    """A solved challenge and when it was made."""
    now = utc_now()
    return solved(challenge.issue(KEYS, FORM, cost=challenge.COST, now=now)), now


@pytest.mark.req("A5")
def test_a_challenge_is_signed_bound_and_short_lived_when_asked_for(app: Flask, client: FlaskClient) -> None:
    answer = client.get("/f/demo-de/challenge", headers={"Origin": "https://shop.example.org"})
    assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "no-store")
    assert answer.headers["Access-Control-Allow-Origin"] == "https://shop.example.org"
    assert "Set-Cookie" not in answer.headers
    parameters = answer.json["parameters"]
    assert (parameters["algorithm"], parameters["cost"]) == ("PBKDF2/SHA-256", 1000)
    assert parameters["expiresAt"] - parameters["data"]["issued"] == 600
    assert parameters["data"]["form"].startswith("frm_")
    assert 500 <= solved(answer.json)["solution"]["counter"] <= 1500
    assert len(proof(client)) < challenge.MAX_CHARACTERS


def test_only_listed_scripts_read_a_challenge_when_the_form_has_a_list(app: Flask, client: FlaskClient) -> None:
    with transaction() as session:
        session.execute(update(Form).where(Form.slug == "demo-de").values(allowed_origins=["https://a.example"]))
    for origin, told in (("https://a.example", "https://a.example"), ("https://b.example", None)):
        answer = client.get("/f/demo-de/challenge", headers={"Origin": origin})
        assert answer.headers.get("Access-Control-Allow-Origin") == told
        assert "Origin" in answer.headers["Vary"]
    assert client.get("/f/unknown/challenge", headers={"Accept": "application/json"}).status_code == 404


def test_a_closed_form_gives_no_challenge_when_asked(app: Flask, client: FlaskClient) -> None:
    with transaction() as session:
        session.execute(update(Form).where(Form.slug == "demo-de").values(closed=True))
    assert client.get("/f/demo-de/challenge").status_code == 410


@pytest.mark.req("A5")
def test_a_solved_challenge_counts_when_it_is_ours(made: tuple[dict[str, Any], datetime]) -> None:
    payload, now = made
    found = challenge.verify(KEYS, FORM, spelled(payload), now=now)
    assert found is not None
    assert (found.nonce, found.cost) == (payload["challenge"]["parameters"]["nonce"], challenge.COST)
    assert challenge.verify(KEYS, FORM, spelled(payload), now=now + timedelta(seconds=598)) is not None


@pytest.mark.req("A5")
def test_a_challenge_counts_for_nothing_when_form_or_time_is_another(made: tuple[dict[str, Any], datetime]) -> None:
    payload, now = made
    assert challenge.verify(KEYS, "frm_two", spelled(payload), now=now) is None
    assert challenge.verify(KEYS, FORM, spelled(payload), now=now + timedelta(minutes=10)) is None
    assert challenge.verify(KEYS, FORM, spelled(payload), now=now - timedelta(seconds=2)) is None


def _parameters(payload: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = payload["challenge"]["parameters"]
    return found


FORGERIES: dict[str, Callable[[dict[str, Any]], Any]] = {
    "later expiry": lambda p: _parameters(p).update(expiresAt=_parameters(p)["expiresAt"] + 3600),
    "no expiry": lambda p: _parameters(p).pop("expiresAt"),
    "null expiry": lambda p: _parameters(p).update(expiresAt=None),
    "text expiry": lambda p: _parameters(p).update(expiresAt=str(_parameters(p)["expiresAt"])),
    "re-dated": lambda p: _parameters(p)["data"].update(issued=_parameters(p)["data"]["issued"] + 1),
    "other form": lambda p: _parameters(p)["data"].update(form="frm_two"),
    "more data": lambda p: _parameters(p)["data"].update(expires=4102444800),
    "cheaper": lambda p: _parameters(p).update(cost=1),
    "easier": lambda p: _parameters(p).update(keyPrefix=""),
    "other nonce": lambda p: _parameters(p).update(nonce="00" * 16),
    "nonce in capitals": lambda p: _parameters(p).update(nonce=_parameters(p)["nonce"].upper() + "AA"),
    "salt moved into nonce": lambda p: _parameters(p).update(
        nonce=_parameters(p)["nonce"] + _parameters(p)["salt"][:2], salt=_parameters(p)["salt"][2:]
    ),
    "expiry spliced into salt": lambda p: _parameters(p).update(salt=_parameters(p)["salt"] + "?expires=4102444800"),
    "no key signature": lambda p: _parameters(p).pop("keySignature"),
    "own key signature": lambda p: _parameters(p).update(keySignature="00" * 32),
    "no signature": lambda p: p["challenge"].pop("signature"),
    "empty signature": lambda p: p["challenge"].update(signature=""),
    "own signature": lambda p: p["challenge"].update(signature="00" * 32),
    "other answer": lambda p: p["solution"].update(derivedKey="00" * 32),
    "answer is a list": lambda p: p["solution"].update(derivedKey=[]),
    "data is a list": lambda p: _parameters(p).update(data=[]),
    "nonce is a number": lambda p: _parameters(p).update(nonce=1),
    "issued is huge": lambda p: _parameters(p)["data"].update(issued=10**30),
    "issued is true": lambda p: _parameters(p)["data"].update(issued=True),
}


@pytest.mark.req("A5")
@pytest.mark.parametrize("name", FORGERIES)
def test_an_altered_challenge_counts_for_nothing_when_verified(
    name: str, made: tuple[dict[str, Any], datetime]
) -> None:
    payload, now = copy.deepcopy(made[0]), made[1]
    FORGERIES[name](payload)
    assert payload != made[0]
    for form in (FORM, "frm_two"):
        assert challenge.verify(KEYS, form, spelled(payload), now=now + timedelta(seconds=5)) is None


@pytest.mark.parametrize("payload", ["", "x", "e30=", "bnVsbA==", "W10=", "eyJjaGFsbGVuZ2UiOjF9", "ä", "A" * 4000])
def test_rubbish_counts_for_nothing_when_verified(payload: str) -> None:
    assert challenge.verify(KEYS, FORM, payload, now=utc_now()) is None


JSON = some.recursive(
    some.none() | some.booleans() | some.integers() | some.floats() | some.text(),
    lambda inner: some.lists(inner) | some.dictionaries(some.sampled_from(["challenge", "parameters", "data"]), inner),
)


@given(JSON, JSON)
def test_no_payload_breaks_the_check_when_it_is_any_json(parameters: Any, data: Any) -> None:
    shaped = {"algorithm": "a", "nonce": "00", "salt": "00", "cost": 1, "data": data}
    for inner in (parameters, shaped):
        content = {"challenge": {"parameters": inner, "signature": "x"}, "solution": {"counter": 1, "derivedKey": "0"}}
        raw = base64.b64encode(json.dumps(content).encode()).decode()
        assert challenge.verify(KEYS, FORM, raw, now=utc_now()) is None


@pytest.mark.req("A5")
def test_a_challenge_counts_when_the_secret_was_rotated_meanwhile() -> None:
    now = utc_now()
    payload = spelled(solved(challenge.issue(KEYS, FORM, cost=10, now=now)))
    rotated = Keys(("first-secret-key-of-this-test-0123456789", "second-secret-key"), b"p" * 32, b"d" * 32)
    fresh = Keys(("second-secret-key",), b"p" * 32, b"d" * 32)
    assert challenge.verify(rotated, FORM, payload, now=now) is not None
    assert challenge.verify(fresh, FORM, payload, now=now) is None
    assert challenge.issue(rotated, FORM, cost=10, now=now)["signature"] != payload
