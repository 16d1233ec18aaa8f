"""The second look: who is asked for a proof, what vouches, and that nobody is stuck."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select, update

from signup.abuse import sources
from signup.abuse.models import SpentProof
from signup.core.db import database, reading, transaction
from signup.core.values import EmailAddress, utc_now
from signup.eventlog.models import Event
from signup.forms import actions as forms
from signup.forms.models import Form, FormVersion
from signup.privacy import retention
from tests.abuse.conftest import JSON, Post
from tests.abuse.solving import proof
from tests.conftest import elsewhere, queued_mail
from tests.guards.world import rows
from tests.support import log

SOFT, HARD = 5, 20


def hidden(page: str) -> dict[str, str]:
    return dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', page))


def listed_only(origin: str) -> None:
    with transaction() as session:
        session.execute(update(Form).where(Form.slug == "demo-de").values(allowed_origins=[origin]))


def test_the_second_page_may_run_its_script_when_the_form_leads_on(post: Post) -> None:
    target = "https://www.beispiel.example/danke"
    redirects = {"allowed": [target], "after_signup": target, "after_confirm": None}
    with transaction() as session:
        for version in session.scalars(select(FormVersion)):
            version.definition = {**version.definition, "redirects": redirects}
    page = [post(f"a{number}@beispiel.de") for number in range(SOFT + 1)][-1]
    policy = page.headers["Content-Security-Policy"]
    assert "form-action 'self' https://www.beispiel.example;" in policy
    assert "script-src 'self'; connect-src 'self'" in policy


@pytest.mark.req("A3")
def test_a_proof_is_asked_for_when_a_network_spent_its_soft_budget(post: Post, client: FlaskClient) -> None:
    assert [post(f"a{number}@beispiel.de").status_code for number in range(SOFT)] == [303] * SOFT
    page = post("late@beispiel.de")
    assert page.status_code == 429
    assert 0 < int(page.headers["Retry-After"]) <= 600
    assert 'value="late@beispiel.de"' in page.text
    assert "checked" in page.text
    assert 'data-doi-challenge="/f/demo-de/challenge"' in page.text
    assert hidden(page.text)["altcha"] == ""
    assert "script-src 'self'; connect-src 'self'" in page.headers["Content-Security-Policy"]
    assert queued_mail("late@beispiel.de") is None
    assert post("late@beispiel.de", altcha=proof(client)).status_code == 303
    assert queued_mail("late@beispiel.de") is not None


@pytest.mark.req("A3")
def test_a_network_waits_whatever_the_address_and_proof_when_its_hard_budget_is_spent(
    post: Post, client: FlaskClient
) -> None:
    for number in range(HARD):
        more = {"altcha": proof(client)} if number >= SOFT else {}
        assert post(f"a{number}@beispiel.de", **more).status_code == 303
    page = post("a0@beispiel.de", altcha=proof(client))
    assert page.status_code == 429
    assert int(page.headers["Retry-After"]) > 0
    assert 'value="a0@beispiel.de"' in page.text
    answer = post("z@beispiel.de", altcha=proof(client), headers=JSON)
    assert (answer.status_code, answer.json["code"]) == (429, "network-spent")
    assert log.count(Event) >= HARD
    assert post("z@beispiel.de", "203.0.113.5").status_code == 303


def test_a_script_is_told_where_the_challenge_is_when_a_proof_is_missing(post: Post, client: FlaskClient) -> None:
    for number in range(SOFT):
        post(f"a{number}@beispiel.de")
    answer = post("late@beispiel.de", headers=JSON)
    assert (answer.status_code, answer.content_type) == (429, "application/problem+json")
    assert (answer.json["code"], answer.json["challenge"]) == ("proof", "/f/demo-de/challenge")
    assert [(item["field"], item["code"]) for item in answer.json["errors"]] == [("altcha", "proof")]
    assert answer.json["errors"][0]["message"] != "proof"
    again = post("late@beispiel.de", altcha=proof(client), headers=JSON)
    assert (again.status_code, again.json) == (202, {"status": "pending"})


@pytest.mark.req("A5")
def test_a_proof_counts_once_when_it_is_sent_again(post: Post, client: FlaskClient) -> None:
    for number in range(SOFT):
        post(f"a{number}@beispiel.de")
    spent = proof(client)
    assert post("first@beispiel.de", altcha=spent, render_id="one").status_code == 303
    assert post("second@beispiel.de", altcha=spent, render_id="two").status_code == 429
    assert post("third@beispiel.de", "203.0.113.5", altcha=spent).status_code == 303, "it needed none"
    # The same press again is no second use.
    assert post("first@beispiel.de", altcha=spent, render_id="one").status_code == 303
    assert len(rows("spent_proof")) == 1
    assert post("other@beispiel.de", altcha=proof(client, "demo-en")).status_code == 429


def test_a_spent_proof_is_forgotten_when_its_challenge_would_have_expired(post: Post, client: FlaskClient) -> None:
    post("first@beispiel.de", altcha=proof(client))
    assert log.count(SpentProof) == 1
    retention.run_now(lambda: utc_now() + timedelta(minutes=11))
    assert log.count(SpentProof) == 0


@pytest.mark.req("F8")
def test_a_proof_lets_an_unlisted_or_missing_origin_through_when_it_is_valid(post: Post, client: FlaskClient) -> None:
    listed_only("https://shop.example.org")
    for number, origin in enumerate(({}, {"Origin": "null"}, {"Origin": "https://other.example"})):
        person = f"anna{number}@beispiel.de"
        page = post(person, headers=origin)
        assert page.status_code == 422
        assert post(person, headers=origin, altcha="rubbish").status_code == 422
        assert queued_mail(person) is None
        assert post(person, headers=origin, altcha=proof(client)).status_code == 303
        assert queued_mail(person) is not None


@pytest.mark.req("A6")
def test_our_second_page_is_enough_when_a_browser_has_no_scripts(post: Post, client: FlaskClient) -> None:
    for number in range(SOFT):
        post(f"a{number}@beispiel.de")
    page = post("late@beispiel.de")
    assert post("late@beispiel.de", **hidden(page.text)).status_code == 303
    assert queued_mail("late@beispiel.de") is not None


@pytest.mark.req("A6")
def test_only_twenty_an_hour_pass_by_hand_when_a_form_asks_for_proofs(post: Post, client: FlaskClient) -> None:
    listed_only("https://shop.example.org")
    fields = hidden(client.get("/f/demo-de").text)
    assert "second_look" not in fields
    page = post("first@beispiel.de", elsewhere(0).ip, render_id="r0")
    second = {"second_look": hidden(post("first@beispiel.de", elsewhere(0).ip, altcha="x").text)["second_look"]}
    assert page.status_code == 422
    statuses = [
        post(f"a{number}@b{number}.example", elsewhere(number).ip, **second).status_code for number in range(22)
    ]
    assert statuses == [303] * 20 + [429] * 2
    late = post("late@beispiel.de", elsewhere(30).ip, **second)
    assert 3000 < int(late.headers["Retry-After"]) <= 3600
    assert post("late@beispiel.de", elsewhere(30).ip, altcha=proof(client), **second).status_code == 303


def test_our_second_page_counts_for_its_own_form_only_when_sent(post: Post, client: FlaskClient) -> None:
    for number in range(SOFT):
        post(f"a{number}@beispiel.de")
    page = post("late@beispiel.de")
    nonce = hidden(page.text)["second_look"]
    assert post("late@beispiel.de", form="demo-en", second_look=nonce).status_code == 429
    # Not the last character: some of its bits mean nothing.
    altered = nonce[:-2] + ("a" if nonce[-2] != "a" else "b") + nonce[-1]
    assert post("late@beispiel.de", second_look=altered).status_code == 429


@pytest.mark.req("A7")
def test_a_filled_honeypot_leads_to_the_second_look_and_is_on_record_when_sent(post: Post) -> None:
    page = post("anna@beispiel.de", zq_k7="autofilled")
    assert page.status_code == 422
    assert "autofilled" not in page.text
    assert post("anna@beispiel.de", **hidden(page.text)).status_code == 303
    fields = log.facts(rows("contact", email="anna@beispiel.de")[0].id)[0].fields
    assert fields["signals"] == ["fast", "by-hand"]
    answer = post("bert@beispiel.de", zq_k7="autofilled", headers=JSON)
    assert (answer.status_code, answer.json["code"]) == (422, "proof")


@pytest.mark.req("A7")
def test_being_fast_alone_asks_for_nothing_when_a_page_is_sent_at_once(post: Post, client: FlaskClient) -> None:
    fields = hidden(client.get("/f/demo-de").text)
    assert post("anna@beispiel.de", **fields).status_code == 303
    found = log.facts(rows("contact", email="anna@beispiel.de")[0].id)[0].fields
    assert found["signals"] == ["fast"]
    assert post("bert@mailinator.com", **fields).status_code == 422
    assert post("bert@mailinator.com").status_code == 303, "a pasted form has no time"
    keys = database().sessions.kw["keys"]
    with reading() as session:
        form_id = forms.in_force(session, "demo-de").id
    slow = keys.page_nonce("rendered", form_id.encode(), utc_now() - timedelta(seconds=3))
    assert post("carl@beispiel.de", rendered=slow).status_code == 303
    assert "signals" not in log.facts(rows("contact", email="carl@beispiel.de")[0].id)[0].fields


@pytest.mark.req("A7")
def test_the_honeypot_is_out_of_sight_and_reach_when_the_page_is_shown(client: FlaskClient) -> None:
    page = client.get("/f/demo-de").text
    field = re.search(r'<div class="away" aria-hidden="true"><label>[^<]*<input ([^>]*)>', page)
    assert field is not None
    assert 'tabindex="-1"' in field[1]
    assert 'autocomplete="off"' in field[1]


def test_a_hall_signs_up_behind_one_address_when_its_source_is_signed(post: Post, client: FlaskClient) -> None:
    keys = database().sessions.kw["keys"]
    with reading() as session:
        form_id = forms.in_force(session, "demo-de").id
    source = sources.mint(keys, form_id, "fachpack-2026")
    page = client.get(f"/f/demo-de?src={source}").text
    assert hidden(page)["src"] == source
    assert [post(f"a{number}@b{number}.example", src=source).status_code for number in range(70)] == [303] * 70
    fields = log.facts(rows("contact", email="a0@b0.example")[0].id)[0].fields
    assert fields["source"] == "fachpack-2026"
    forged = [
        source[:-1] + ("a" if source[-1] != "a" else "b"),
        source.replace("fachpack", "fachpick"),
        "fachpack-2026",
        "ä.ö",
        "." * 300,
    ]
    for value in forged:
        assert sources.name_of(keys, form_id, value) is None
        assert "src" not in hidden(client.get("/f/demo-de", query_string={"src": value}).text)
    assert sources.name_of(keys, "frm_other", source) is None


def test_a_listed_site_has_a_larger_budget_when_an_office_signs_up(post: Post) -> None:
    listed_only("https://shop.example.org")
    headers = {"Origin": "https://shop.example.org"}
    statuses = [post(f"a{number}@b{number}.example", headers=headers).status_code for number in range(16)]
    assert statuses == [303] * 15 + [429]


def test_mistakes_have_a_looser_budget_of_their_own_when_they_come_in_numbers(post: Post) -> None:
    assert [post("no-address").status_code for _ in range(60)] == [422] * 60
    late = post("no-address")
    assert late.status_code == 429
    assert int(late.headers["Retry-After"]) > 0
    assert post("anna@beispiel.de").status_code == 303, "what is right is not refused for what was wrong"


def test_a_disposable_domain_is_flagged_and_no_relay_when_checked(post: Post) -> None:
    assert post("bert@mailinator.com").status_code == 303
    assert log.facts(rows("contact", email="bert@mailinator.com")[0].id)[0].fields["signals"] == ["disposable"]


@pytest.mark.req("A11")
def test_a_disposable_domain_is_refused_beside_its_field_when_the_controller_wants_none(app: Flask, post: Post) -> None:
    run = app.test_cli_runner().invoke
    assert run(args=["abuse", "disposable", "--refuse"]).exit_code == 0
    page = post("bert@mailinator.com")
    assert page.status_code == 422
    assert "Bitte nehmen Sie eine Adresse, die Ihnen auch morgen noch gehört." in page.text
    assert 'aria-invalid="true"' in page.text
    answer = post("bert@mailinator.com", headers=JSON)
    assert [(item["field"], item["code"]) for item in answer.json["errors"]] == [("email", "disposable")]
    assert rows("contact") == []
    assert post("anna@duck.com").status_code == 303
    assert run(args=["abuse", "disposable", "--flag"]).exit_code == 0
    assert post("bert@mailinator.com").status_code == 303


@pytest.mark.req("A11")
@pytest.mark.parametrize("role", ["abuse", "postmaster", "Postmaster", "abuse+x"])
def test_an_office_that_must_not_be_mailed_gets_no_mail_and_the_same_answer_when_typed(post: Post, role: str) -> None:
    assert post(f"{role}@beispiel.de").status_code == post("anna@beispiel.de").status_code == 303
    assert queued_mail(f"{role}@beispiel.de") is None
    contact = rows("contact", email=EmailAddress.parse(f"{role}@beispiel.de").normalised)[0]
    assert [row.reason for row in rows("message", contact_id=contact.id)] == ["role address"]


@pytest.mark.req("A14")
def test_a_slip_is_shown_once_as_a_button_when_a_page_is_sent(post: Post) -> None:
    page = post("anna@gmx.dee")
    assert page.status_code == 422
    assert 'name="email_instead" value="anna@gmx.de"' in page.text
    assert 'value="anna@gmx.dee"' in page.text
    first_button = re.search(r"<button[^>]*>", page.text)
    assert first_button is not None
    assert "email_instead" not in first_button[0], "Enter corrects nothing"
    assert queued_mail("anna@gmx.dee") is None
    assert post("anna@gmx.dee", **hidden(page.text)).status_code == 303
    assert queued_mail("anna@gmx.dee") is not None
    assert post("bert@gmx.dee", email_instead="bert@gmx.de").status_code == 303
    assert (queued_mail("bert@gmx.de") is not None, queued_mail("bert@gmx.dee")) == (True, None)
    assert post("carl@gmx.dee", headers=JSON).json == {"status": "pending"}
