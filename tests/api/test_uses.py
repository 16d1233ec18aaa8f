"""Who used which data is answerable: each use is an event in the person's history."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import select

from signup.consents.models import Consent, ContactUse
from signup.core.db import reading
from signup.core.values import made_at, new_id, rfc3339, utc_now
from tests.api.conftest import ORIGIN, Api
from tests.conftest import SignedUp
from tests.support import log

USE = {"campaign": "spring-2027", "sender": "mailer 3", "channel": "email"}


def consent(person: SignedUp) -> Any:
    with reading() as session:
        return session.scalars(select(Consent).where(Consent.contact_id == person.contact_id)).first()


def used(contact_id: str) -> list[dict[str, Any]]:
    return [fact.fields for fact in log.facts(contact_id) if fact.kind.endswith(".used")]


@pytest.mark.req("E51")
@pytest.mark.parametrize("name", ["id", "act_id"])
def test_a_use_is_in_the_history_when_told_by_consent_or_act(
    api: Api, signup_and_confirm: Callable[..., SignedUp], name: str
) -> None:
    signup_and_confirm("bert@beispiel.de", at=utc_now() - timedelta(days=1))
    person = signup_and_confirm("anna@beispiel.de", at=utc_now() - timedelta(days=1))
    held = consent(person)
    moment = utc_now() - timedelta(hours=2)
    answer = api.post(f"/consents/{getattr(held, name)}/uses", {**USE, "used_at": rfc3339(moment)})
    assert answer.status_code == 201, answer.text
    assert answer.json is not None
    assert answer.json["contact_id"] == person.contact_id
    assert answer.json["in_force"] is True
    (fields,) = used(person.contact_id)
    assert fields["type"] == "consent.used"
    assert {key: fields[key] for key in USE} == USE
    assert (fields["consent"], fields["purposes"]) == (held.act_id, ["product-news"])
    assert (fields["used_at"], fields["legal_basis"]) == (rfc3339(moment), "gdpr-6-1-a")
    assert fields["actor"].startswith("api-key:key_")
    assert "flagged" not in fields
    shown = api.get(f"/contacts/{person.contact_id}/evidence").json or {}
    assert answer.json["id"] in [fact["id"] for fact in shown["facts"]]


def test_a_use_of_a_contact_names_its_legal_basis(api: Api) -> None:
    made = api.post("/contacts", {"email": "kim@example.com", "origin": ORIGIN, "legal_basis": "gdpr-6-1-b"}).json or {}
    assert api.post(f"/contacts/{made['id']}/uses", {**USE, "channel": "post"}).status_code == 201
    other = api.post(f"/contacts/{made['id']}/uses", {**USE, "legal_basis": "gdpr-6-1-f"})
    assert other.status_code == 201
    assert [(one["channel"], one["legal_basis"]) for one in used(made["id"])] == [
        ("post", "gdpr-6-1-b"),
        ("email", "gdpr-6-1-f"),
    ]


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"channel": "phone"}, "the click was for mail"),
        ({"used_at": "2020-01-01T00:00:00Z"}, "nobody had asked yet"),
    ],
)
def test_a_use_that_the_consent_did_not_cover_is_recorded_and_flagged(
    api: Api, signup_and_confirm: Callable[..., SignedUp], more: dict[str, str], why: str
) -> None:
    person = signup_and_confirm("anna@beispiel.de")
    answer = api.post(f"/consents/{consent(person).id}/uses", {**USE, **more})
    assert (answer.status_code, (answer.json or {})["in_force"]) == (201, False), why
    assert used(person.contact_id)[0]["flagged"] is True


def test_a_use_counts_by_its_own_time_when_the_consent_has_ended_since(
    api: Api, client: Any, signup_and_confirm: Callable[..., SignedUp]
) -> None:
    person = signup_and_confirm("anna@beispiel.de", at=utc_now() - timedelta(days=2))
    assert client.post(person.unsubscribe_path, data={"List-Unsubscribe": "One-Click"}).status_code == 200
    path = f"/consents/{consent(person).act_id}/uses"
    before = {**USE, "used_at": rfc3339(utc_now() - timedelta(days=1))}
    assert (api.post(path, before).json or {})["in_force"] is True
    assert (api.post(path, USE).json or {})["in_force"] is False


def test_one_purpose_of_an_act_can_be_named(api: Api, signup_and_confirm: Callable[..., SignedUp]) -> None:
    person = signup_and_confirm("anna@beispiel.de", purposes=("product-news", "invitations"))
    path = f"/consents/{consent(person).act_id}/uses"
    assert api.post(path, {**USE, "purpose": "invitations"}).status_code == 201
    assert api.post(path, USE).status_code == 201
    assert [one["purposes"] for one in used(person.contact_id)] == [["invitations"], ["invitations", "product-news"]]
    answer = api.post(path, {**USE, "purpose": "elsewhere"})
    assert (answer.status_code, (answer.json or {})["errors"][0]["field"]) == (422, "purpose")


def test_the_newest_use_of_each_channel_is_known(api: Api, signup_and_confirm: Callable[..., SignedUp]) -> None:
    person = signup_and_confirm("anna@beispiel.de")
    path = f"/contacts/{person.contact_id}/uses"
    newest = utc_now() - timedelta(days=1)
    for days, channel in ((3, "phone"), (1, "phone"), (2, "phone"), (5, "post")):
        moment = rfc3339(newest - timedelta(days=days - 1))
        assert api.post(path, {**USE, "channel": channel, "used_at": moment}).status_code == 201
    with reading() as session:
        found = {row.channel: row.last_used_at for row in session.scalars(select(ContactUse))}
    assert found == {"phone": newest, "post": newest - timedelta(days=4)}


def test_a_use_counts_once_when_told_again_under_its_key(api: Api, signup_and_confirm: Callable[..., SignedUp]) -> None:
    person = signup_and_confirm("anna@beispiel.de")
    path = f"/consents/{consent(person).id}/uses"
    first = api.post(path, USE, Idempotency_Key="mailing-7")
    assert api.post(path, USE, Idempotency_Key="mailing-7").json == first.json
    assert len(used(person.contact_id)) == 1


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({**USE, "channel": "pigeon"}, "channel"),
        ({**USE, "campaign": ""}, "campaign"),
        ({**USE, "used_at": "2026-11-23T10:00:00"}, "used_at"),
        ({**USE, "used_at": "2999-01-01T00:00:00Z"}, "used_at"),
        ({"channel": "email"}, "campaign"),
    ],
)
def test_bad_uses_are_refused_by_field(
    api: Api, signup_and_confirm: Callable[..., SignedUp], body: dict[str, Any], field: str
) -> None:
    person = signup_and_confirm("anna@beispiel.de")
    for path in (f"/consents/{consent(person).id}/uses", f"/contacts/{person.contact_id}/uses"):
        answer = api.post(path, body)
        assert answer.status_code == 422
        assert field in [error["field"] for error in (answer.json or {})["errors"]]
    assert used(person.contact_id) == []


@pytest.mark.parametrize("ident", ["cns_nobody", "act_nobody", "act_01m85er6ysbwxwydgj0kap0h69"])
def test_an_unknown_consent_is_not_found(api: Api, ident: str) -> None:
    assert api.post(f"/consents/{ident}/uses", USE).status_code == 404


def test_the_time_in_an_id_is_read_back(now: Any) -> None:
    assert made_at(new_id("act", now)) == now
    assert made_at("act_nobody") is None
    assert made_at("act_" + "z" * 26) is None
