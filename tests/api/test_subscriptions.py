"""Entering and ending subscriptions by API."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient
from sqlalchemy import select

from signup.contacts import actions as contacts
from signup.core.db import reading, transaction
from signup.core.values import EmailAddress, utc_now
from signup.eventlog import history
from signup.eventlog.models import Publication
from signup.forms import actions as forms
from signup.mail.models import Message
from signup.purposes import actions as purposes
from signup.suppression import actions as suppression
from signup.suppression.models import Reason
from tests.api.conftest import ORIGIN, Api
from tests.conftest import mailed_url, queued_mail

KIM = "kim@example.com"


def entry(basis: str, **more: Any) -> dict[str, Any]:
    return {"email": KIM, "origin": ORIGIN, "legal_basis": basis, **more}


def published() -> list[str]:
    """Types of the publications so far, in their order."""
    with reading() as session:
        return list(session.scalars(select(Publication.type).order_by(Publication.created_at, Publication.id)))


def events_of(api: Api) -> list[dict[str, Any]]:
    with transaction() as session:
        history.number_publications(session)
    answer = api.get("/events?limit=200").json
    assert answer is not None
    return list(answer["items"])


def suppress(email: str, reason: Reason) -> None:
    with transaction() as session:
        controller = purposes.find_controller(session, "beispiel")
        key = contacts.address_key(session, controller.id, EmailAddress.parse(email))
        suppression.remember(session, controller.id, key, reason, now=utc_now())


def test_the_person_is_asked_by_mail_when_consent_is_the_basis(api: Api, client: FlaskClient) -> None:
    made = api.post("/subscriptions", entry("gdpr-6-1-a", form="demo-de", purposes=["product-news"]))
    assert made.status_code == 202
    assert made.json is not None
    assert made.json["status"] == "requested"
    mail = queued_mail(KIM)
    assert client.get(mailed_url(mail, "confirm").removeprefix("http://127.0.0.1:8000")).status_code == 200
    found = api.get(f"/subscriptions?email={KIM}").json
    assert found is not None
    (item,) = found["items"]
    assert (item["id"], item["status"], item["purposes"]) == (made.json["id"], "requested", [])
    evidence = api.get(f"/contacts/{item['contact_id']}/evidence").json
    assert evidence is not None
    asked = evidence["facts"][0]
    assert asked["fields"]["origin"] == ORIGIN
    assert asked["fields"]["actor"].startswith("api-key:key_")
    assert asked["fields"]["ip_source"].startswith("program that entered it")


def test_the_only_fitting_form_is_found_when_purposes_and_locale_tell_it(api: Api) -> None:
    body = entry("gdpr-6-1-a", purposes=["product-news"], locale="en")
    assert api.post("/subscriptions", body).status_code == 202
    assert queued_mail(KIM)["Subject"]
    with transaction() as session:
        forms.set_closed(session, purposes.find_controller(session, "beispiel").id, "demo-en", True)
    answer = api.post("/subscriptions", {**body, "email": "lee@example.com"})
    assert answer.status_code == 422
    assert answer.json is not None
    assert answer.json["errors"][0]["field"] == "form"


@pytest.mark.parametrize(("basis", "ground"), [("gdpr-6-1-b", "contract"), ("eprivacy-13-2", "soft-opt-in")])
def test_subscription_is_active_at_once_when_the_basis_needs_no_confirmation(api: Api, basis: str, ground: str) -> None:
    made = api.post("/subscriptions", entry(basis, purposes=["product-news"]))
    assert made.status_code == 202
    assert made.json is not None
    assert made.json["status"] == "active"
    (item,) = (api.get(f"/subscriptions?email={KIM}").json or {})["items"]
    assert (item["ground"], item["purposes"], item["confirmed_at"]) == (ground, ["product-news"], None)
    assert (item["origin"], item["legal_basis"]) == (ORIGIN, basis)
    assert published() == ["contact.created", "subscription.activated"]
    with reading() as session:
        assert session.scalars(select(Message.id)).all() == []


def test_nothing_happens_twice_when_the_same_entry_comes_again(api: Api) -> None:
    first = api.post("/subscriptions", entry("gdpr-6-1-b", purposes=["product-news"]))
    again = api.post("/subscriptions", entry("gdpr-6-1-b", purposes=["product-news"]))
    assert first.json == again.json
    assert published() == ["contact.created", "subscription.activated"]
    api.post("/subscriptions", entry("gdpr-6-1-b", purposes=["invitations"]))
    assert published()[2:] == ["subscription.updated"]
    (item,) = (api.get(f"/subscriptions?email={KIM}").json or {})["items"]
    assert item["purposes"] == ["invitations", "product-news"]


def test_ground_is_the_contract_when_it_comes_after_an_open_question(api: Api, client: FlaskClient) -> None:
    api.post("/subscriptions", entry("gdpr-6-1-a", form="demo-de", purposes=["invitations"]))
    made = api.post("/subscriptions", entry("gdpr-6-1-b", purposes=["product-news"]))
    assert (made.json or {})["status"] == "active"
    (item,) = (api.get(f"/subscriptions?email={KIM}").json or {})["items"]
    assert (item["ground"], item["purposes"]) == ("contract", ["product-news"])


@pytest.mark.parametrize("reason", list(Reason))
@pytest.mark.parametrize("basis", ["gdpr-6-1-a", "gdpr-6-1-b"])
def test_entry_is_refused_with_the_reason_when_the_address_is_suppressed(api: Api, reason: Reason, basis: str) -> None:
    suppress(KIM, reason)
    answer = api.post("/subscriptions", entry(basis, form="demo-de"))
    assert answer.status_code == 409
    assert answer.json is not None
    assert (answer.json["code"], answer.json["reason"]) == ("suppressed", reason.value)
    entered = api.post("/contacts", {"email": KIM, "origin": ORIGIN, "legal_basis": "gdpr-6-1-f"})
    assert entered.status_code == 409
    assert (api.get("/contacts").json or {})["items"] == []


def test_both_withdrawal_events_are_told_when_a_subscription_is_ended(
    api: Api, signup_and_confirm: Callable[..., Any]
) -> None:
    person = signup_and_confirm(KIM)
    ended = api.post(f"/subscriptions/{person.subscription_id}/end", {"reason": "withdrawn"})
    assert ended.status_code == 200
    assert ended.json is not None
    assert (ended.json["status"], ended.json["end_reason"]) == ("ended", "withdrawn")
    assert published()[-2:] == ["subscription.unsubscribed", "consent.withdrawn"]
    again = api.post(f"/subscriptions/{person.subscription_id}/end", {"reason": "withdrawn"})
    assert again.json == ended.json
    assert len(published()) == 4
    assert api.post("/subscriptions", entry("gdpr-6-1-b", form="demo-de")).status_code == 409


@pytest.mark.parametrize("reason", ["objected", "complained", "bounced"])
def test_the_block_is_as_strong_as_the_reason_when_a_subscription_is_ended(
    api: Api, signup_and_confirm: Callable[..., Any], reason: str
) -> None:
    person = signup_and_confirm(KIM)
    assert api.post(f"/subscriptions/{person.subscription_id}/end", {"reason": reason}).status_code == 200
    answer = api.post("/subscriptions", entry("gdpr-6-1-b", form="demo-de"))
    assert (answer.json or {})["reason"] == reason
    assert ("contact.objected" in published()) == (reason == "objected")


def test_events_come_in_order_and_whole_when_read_page_by_page(
    api: Api, signup_and_confirm: Callable[..., Any]
) -> None:
    for number in range(3):
        signup_and_confirm(f"kim{number}@example.com")
    every = events_of(api)
    assert [item["type"] for item in every] == ["subscription.requested", "subscription.confirmed"] * 3
    pages, cursor = [], ""
    while True:
        answer = api.get(f"/events?limit=2{cursor}").json
        assert answer is not None
        pages.append(answer["items"])
        if answer["next"] is None:
            break
        cursor = f"&cursor={answer['next']}"
    assert [item for page in pages for item in page] == every
    after = api.get(f"/events?after={every[3]['seq']}").json
    assert after is not None
    assert after["items"] == every[4:]
    with reading() as session:
        row = session.scalars(select(Publication).where(Publication.seq == every[1]["seq"])).one()
        key = contacts.open_key(session, row.contact_id or "")
        exact = json.loads(session.keys.unseal(key, row.payload or b""))
    assert {name: value for name, value in every[1].items() if name != "seq"} == exact


def test_events_leave_out_the_person_when_they_were_erased(api: Api, sign_up: Callable[..., Any]) -> None:
    from signup.privacy import retention

    gone, stays = sign_up("gone@example.com"), sign_up("stays@example.com")
    with transaction() as session:
        retention.forget(session, [gone.contact_id], "erased", now=utc_now())
    told = events_of(api)
    assert [item["data"]["contact"]["id"] for item in told] == [stays.contact_id]
