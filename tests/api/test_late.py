"""What came about before it was told is sealed late, and the evidence says so."""

from __future__ import annotations

from typing import Any

import pytest

from signup.core.values import rfc3339, utc_now
from tests.api.conftest import ORIGIN, Api
from tests.support import log

AT = "2024-05-06T10:00:00.000Z"
CONTRACT = {"email": "kim@example.com", "legal_basis": "gdpr-6-1-b"}


def told(contact_id: str, kind: str) -> dict[str, Any]:
    (fields,) = (fact.fields for fact in log.facts(contact_id) if fact.kind == kind)
    return fields


@pytest.mark.req("E48")
@pytest.mark.parametrize("soft", [False, True])
def test_the_grant_is_marked_as_sealed_late_when_somebody_else_enters_it(api: Api, soft: bool) -> None:
    origin = {**ORIGIN, "collected_at": "2024-05-06T12:00:00+02:00"}
    before = utc_now()
    body = {**CONTRACT, "origin": origin, "purposes": ["product-news"]}
    made = api.post("/subscriptions", {**body, "legal_basis": "eprivacy-13-2"} if soft else body)
    assert made.status_code == 202, made.text
    (listed,) = (api.get("/subscriptions?email=kim@example.com").json or {})["items"]
    for kind in ("contact.created", "subscription.activated"):
        fields = told(listed["contact_id"], kind)
        assert fields["granted_at"] == AT
        assert fields["origin"] == {**ORIGIN, "collected_at": AT}
        assert fields["sealed_late"] == fields["time"] >= rfc3339(before)
    # Nothing that is shown takes the time that was told for one that we saw.
    assert listed["activated_at"] >= rfc3339(before)
    assert listed["confirmed_at"] is None or listed["confirmed_at"] >= rfc3339(before)
    assert listed["origin"]["collected_at"] == AT


def test_it_is_sealed_late_when_nobody_says_when_it_was(api: Api) -> None:
    made = api.post("/contacts", {**CONTRACT, "origin": ORIGIN})
    assert (made.json or {})["origin"] == ORIGIN
    fields = told((made.json or {})["id"], "contact.created")
    assert "granted_at" not in fields
    assert fields["sealed_late"] == fields["time"]


def test_a_click_is_never_marked_as_late(signup_and_confirm: Any) -> None:
    person = signup_and_confirm("anna@beispiel.de")
    assert not any("sealed_late" in fact.fields for fact in log.facts(person.contact_id))


@pytest.mark.parametrize("when", ["2024-05-06T10:00:00", "yesterday", "2999-01-01T00:00:00.000Z"])
def test_a_time_without_zone_or_ahead_is_refused(api: Api, when: str) -> None:
    for path, more in (("/contacts", {}), ("/subscriptions", {"purposes": ["product-news"]})):
        answer = api.post(path, {**CONTRACT, **more, "origin": {**ORIGIN, "collected_at": when}})
        assert answer.status_code == 422
        assert [error["field"] for error in (answer.json or {})["errors"]] == ["origin.collected_at"]
