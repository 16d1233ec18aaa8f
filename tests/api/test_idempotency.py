"""The same POST twice acts once."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import func, select, update

from signup.contacts import entries
from signup.contacts.models import Contact
from signup.core.db import reading, transaction
from signup.core.errors import Busy
from signup.core.values import utc_now
from signup.staff import idempotency
from signup.staff.models import IdempotencyKey
from tests.api.conftest import ORIGIN, Api
from tests.conftest import in_threads

BODY = {"email": "kim@example.com", "origin": ORIGIN, "legal_basis": "gdpr-6-1-f"}


def contacts_held() -> int:
    with reading() as session:
        return session.scalar(select(func.count()).select_from(Contact)) or 0


def test_the_first_answer_comes_again_when_key_and_request_are_the_same(api: Api) -> None:
    first = api.post("/contacts", BODY, Idempotency_Key="one")
    again = api.post("/contacts", BODY, Idempotency_Key="one")
    assert first.status_code == again.status_code == 201
    assert first.get_data() == again.get_data()
    assert first.content_type == again.content_type
    assert "Idempotent-Replayed" not in first.headers
    assert again.headers["Idempotent-Replayed"] == "true"
    assert contacts_held() == 1
    with reading() as session:
        (sealed,) = session.scalars(select(IdempotencyKey.sealed_body))
    assert b"kim" not in (sealed or b"")


def test_secret_is_the_same_when_an_endpoint_is_made_twice_with_one_key(api: Api) -> None:
    made = [
        api.post("/webhook-endpoints", {"url": "http://127.0.0.1:8999/"}, Idempotency_Key="hook").json for _ in range(2)
    ]
    assert made[0] == made[1]
    assert len((api.get("/webhook-endpoints").json or {})["items"]) == 1


def test_refused_when_the_key_comes_with_another_request(api: Api) -> None:
    api.post("/contacts", BODY, Idempotency_Key="one")
    active = {**BODY, "legal_basis": "gdpr-6-1-b", "form": "demo-de"}
    for path, body in (("/contacts", {**BODY, "email": "lee@example.com"}), ("/subscriptions", active)):
        answer = api.post(path, body, Idempotency_Key="one")
        assert answer.status_code == 422
        assert (answer.json or {})["code"] == "idempotency-key-reused"
    assert contacts_held() == 1


def test_a_refusal_is_repeated_when_the_rules_said_no(api: Api) -> None:
    api.post("/contacts", BODY)
    first = api.post("/contacts", BODY, Idempotency_Key="one")
    again = api.post("/contacts", BODY, Idempotency_Key="one")
    assert first.status_code == again.status_code == 409
    assert first.get_data() == again.get_data()
    assert again.headers["Idempotent-Replayed"] == "true"


def test_keys_of_two_callers_are_apart_when_they_are_spelt_the_same(api: Api, stranger: Api) -> None:
    first = api.post("/contacts", BODY, Idempotency_Key="one")
    second = stranger.post("/contacts", BODY, Idempotency_Key="one")
    assert second.status_code == 201
    assert "Idempotent-Replayed" not in second.headers
    assert (first.json or {})["id"] != (second.json or {})["id"]


@pytest.mark.parametrize("error", [Busy("Busy.", retry_after_seconds=5), RuntimeError("broken")])
def test_the_key_is_free_again_when_the_call_failed(
    app: Flask, api: Api, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    def broken(*_arguments: Any, **_more: Any) -> None:
        raise error

    app.config["PROPAGATE_EXCEPTIONS"] = False
    with monkeypatch.context() as patched:
        patched.setattr(entries, "tell_created", broken)
        assert api.post("/contacts", BODY, Idempotency_Key="one").status_code in (500, 503)
    assert contacts_held() == 0
    answer = api.post("/contacts", BODY, Idempotency_Key="one")
    assert answer.status_code == 201
    assert "Idempotent-Replayed" not in answer.headers


def test_conflict_when_the_first_call_is_under_way(api: Api) -> None:
    api.post("/contacts", BODY, Idempotency_Key="one")
    _set(status=None, created_at=utc_now())
    answer = api.post("/contacts", BODY, Idempotency_Key="one")
    assert answer.status_code == 409
    assert (answer.json or {})["code"] == "idempotency-in-flight"


def test_the_call_is_made_when_the_first_one_died_a_minute_ago(api: Api) -> None:
    api.post("/webhook-endpoints", {"url": "http://127.0.0.1:8999/"}, Idempotency_Key="one")
    _set(status=None, created_at=utc_now() - idempotency.IN_FLIGHT)
    answer = api.post("/webhook-endpoints", {"url": "http://127.0.0.1:8999/"}, Idempotency_Key="one")
    assert answer.status_code == 201
    assert "Idempotent-Replayed" not in answer.headers


def test_the_key_means_nothing_when_a_day_has_passed(api: Api) -> None:
    api.post("/contacts", BODY, Idempotency_Key="one")
    _set(expires_at=utc_now() - timedelta(seconds=1))
    answer = api.post("/contacts", {**BODY, "email": "lee@example.com"}, Idempotency_Key="one")
    assert answer.status_code == 201


def _set(**values: Any) -> None:
    with transaction() as session:
        session.execute(update(IdempotencyKey).values(**values))


@pytest.mark.parametrize("key", ["", "x" * 256])
def test_refused_when_it_cannot_be_a_key(api: Api, key: str) -> None:
    answer = api.post("/contacts", BODY, Idempotency_Key=key)
    assert answer.status_code == 422
    assert contacts_held() == 0


def test_one_acts_when_eight_come_at_once(api: Api) -> None:
    answers = in_threads(8, lambda _: api.post("/contacts", BODY, Idempotency_Key="same"))
    statuses = sorted(answer.status_code for answer in answers)
    assert set(statuses) <= {201, 409}
    made = {answer.get_data() for answer in answers if answer.status_code == 201}
    assert len(made) == 1
    refused = [answer.json["code"] for answer in answers if answer.status_code == 409]
    assert set(refused) <= {"idempotency-in-flight"}
    assert contacts_held() == 1
    assert api.post("/contacts", BODY, Idempotency_Key="same").get_data() in made


def test_nothing_counts_when_another_call_took_over(api: Api) -> None:
    with transaction() as session:
        mine = idempotency.Claim(b"k" * 32, b"gone")
    with pytest.raises(Exception, match="took over"), transaction() as session:
        idempotency.keep(session, mine, idempotency.Answer(200, "text/plain", b""))
