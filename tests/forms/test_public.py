"""The hosted form and the sign-up POST: origins, versions, formats."""

import json
from functools import partial

import pytest
from sqlalchemy import select, update

from signup.core.db import reading, transaction
from signup.core.values import OPERATOR, utc_now
from signup.eventlog.models import Event
from signup.forms import actions as forms
from signup.forms import pages
from signup.forms.models import Form, FormVersion
from signup.purposes import actions as purposes
from tests.conftest import queued_mail
from tests.support import log

GOOD = {"email": "anna@beispiel.de", "purpose": ["product-news"]}


@pytest.fixture
def listed(app):
    """demo-de may be embedded by one site and the subdomains of another."""
    with transaction() as session:
        origins = ["https://shop.example.org", "https://*.example.com"]
        session.execute(update(Form).where(Form.slug == "demo-de").values(allowed_origins=origins))


def republish(demo, slugs=("product-news", "invitations")):
    """demo-de is published once more, with a new text for product-news."""
    now = utc_now()
    with transaction() as session:
        view = forms.in_force(session, "demo-de")
        known = {item.slug: item for item in purposes.list_purposes(session, demo.controller.id)}
        purposes.add_text(session, demo.controller.id, known["product-news"].id, "de", "Ja, neu.", now=now)
        new = forms.NewForm("demo-de", "x", "de", "Neu", "", "E-Mail", "Anmelden", "", slugs)
        definition = forms.define(session, demo.controller, new)
        html, css = pages.snapshot(definition, "de", demo.controller)
        rendered = forms.Rendered("de", definition, html, css)
        forms.publish(session, demo.controller, view.id, rendered, actor=OPERATOR, now=now)


@pytest.fixture
def second_version(app, demo):
    return partial(republish, demo)


def fact():
    with reading() as session:
        contact_id = session.scalar(select(Event.contact_id).where(Event.contact_id.is_not(None)).limit(1))
    return log.facts(contact_id)[0]


@pytest.mark.req("E3")
@pytest.mark.req("F15")
def test_every_box_is_unticked_whatever_the_url_says(client):
    page = client.get("/f/demo-de?purpose=product-news&email=x@y.de")
    assert page.text.count('type="checkbox"') == 2
    assert "checked" not in page.text
    assert "x@y.de" not in page.text
    assert "Widerruf jederzeit" in page.text
    assert "https://www.beispiel.example/datenschutz" in page.text


@pytest.mark.req("F3")
def test_no_public_page_sets_a_cookie(client):
    for answer in (client.get("/f/demo-de"), client.post("/f/demo-de", data=GOOD)):
        assert "Set-Cookie" not in answer.headers


@pytest.mark.req("F4")
def test_a_native_sign_up_leads_to_the_page_that_says_what_is_next(client):
    answer = client.post("/f/demo-de", data=GOOD)
    assert answer.status_code == 303
    page = client.get(answer.location)
    assert page.status_code == 200
    assert "anna" not in page.text
    assert queued_mail("anna@beispiel.de") is not None


@pytest.mark.parametrize("kind", ["urlencoded", "multipart", "json"])
def test_all_three_formats_mean_the_same(client, kind):
    options = {
        "urlencoded": {"data": GOOD},
        "multipart": {"data": GOOD, "content_type": "multipart/form-data"},
        "json": {"json": GOOD},
    }[kind]
    answer = client.post("/f/demo-en", headers={"Accept": "application/json"}, **options)
    assert (answer.status_code, answer.json) == (202, {"status": "pending"})
    assert queued_mail("anna@beispiel.de")["Subject"].startswith("Please confirm")


@pytest.mark.req("F4")
def test_a_mistake_keeps_what_was_typed_and_says_what_to_do(client):
    answer = client.post("/f/demo-de", data={"email": "anna.beispiel.de", "purpose": ["invitations"]})
    assert answer.status_code == 422
    assert 'value="anna.beispiel.de"' in answer.text
    assert 'value="invitations" checked' in answer.text.replace("  ", " ")
    assert "@" in answer.text


@pytest.mark.req("F15")
def test_no_box_is_a_no(client):
    answer = client.post("/f/demo-de", data={"email": "anna@beispiel.de"}, headers={"Accept": "application/json"})
    assert answer.status_code == 422
    assert answer.content_type == "application/problem+json"
    assert [(item["field"], item["code"]) for item in answer.json["errors"]] == [("purpose", "required")]
    assert all(item["message"] for item in answer.json["errors"])


@pytest.mark.req("F7")
@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("https://shop.example.org", 202),
        ("https://www.example.com", 202),
        ("http://127.0.0.1:8000", 202),
        ("https://shop.example.org:444", 422),
        ("http://shop.example.org", 422),
        ("https://example.com.evil.example", 422),
        ("https://evilexample.com", 422),
        ("null", 422),
        (None, 422),
    ],
)
def test_only_listed_origins_sign_up_without_a_second_look(client, listed, origin, status):
    headers = {"Accept": "application/json", **({"Origin": origin} if origin else {})}
    answer = client.post("/f/demo-de", data=GOOD, headers=headers)
    assert answer.status_code == status
    assert answer.headers.get("Access-Control-Allow-Origin") == (origin if status == 202 else None)
    assert "Origin" in answer.headers["Vary"]
    assert "Access-Control-Allow-Credentials" not in answer.headers
    assert (queued_mail("anna@beispiel.de") is not None) is (status == 202)


@pytest.mark.req("F8")
def test_an_unlisted_site_gets_our_own_page_with_the_values_kept(client, listed):
    answer = client.post("/f/demo-de", data=GOOD, headers={"Origin": "https://other.example"})
    assert answer.status_code == 422
    assert 'value="anna@beispiel.de"' in answer.text
    again = client.post("/f/demo-de", data=GOOD, headers={"Origin": "http://127.0.0.1:8000"})
    assert again.status_code == 303


def test_an_empty_list_means_every_origin_even_a_file(client):
    for origin in ("https://anywhere.example", "null", None):
        headers = {"Origin": origin} if origin else {}
        assert client.post("/f/demo-de", data=GOOD, headers=headers).status_code == 303


def test_a_browser_may_ask_first(client):
    answer = client.options(
        "/f/demo-de", headers={"Origin": "https://a.example", "Access-Control-Request-Method": "POST"}
    )
    assert answer.status_code == 204
    assert answer.headers["Access-Control-Allow-Origin"] == "https://a.example"
    assert "Content-Type" in answer.headers["Access-Control-Allow-Headers"]


@pytest.mark.req("E1")
def test_publishing_freezes_page_and_texts(client, second_version):
    with reading() as session:
        first = session.scalars(select(FormVersion).where(FormVersion.number == 1)).first()
        before = (first.html, first.sha256, json.dumps(first.definition))
    second_version()
    with reading() as session:
        same = session.get(FormVersion, first.id)
        assert (same.html, same.sha256, json.dumps(same.definition)) == before
        view = forms.in_force(session, "demo-de")
    assert view.version == 2
    assert "checked" not in same.html
    assert "Ja, ich möchte Produktneuheiten" in same.html


@pytest.mark.req("F16")
@pytest.mark.parametrize(("stated", "version", "told"), [("1", 1, True), ("2", 2, True), (None, 2, False)])
def test_the_evidence_names_the_version_that_was_shown(client, second_version, stated, version, told):
    second_version()
    data = {**GOOD, **({"form_version": stated} if stated else {})}
    assert client.post("/f/demo-de", data=data).status_code == 303
    found = fact()
    assert found.fields["form_version"] == version
    assert found.fields["form_version_stated"] is told
    text = next(item["text"] for item in found.fields["consent_texts"] if item["purpose"] == "product-news")
    assert (text == "Ja, neu.") is (version == 2)


@pytest.mark.req("F16")
@pytest.mark.parametrize("stated", ["99", "0", "x", "-1", "1e3", "9" * 30])
def test_an_unknown_version_is_shown_the_current_form(client, stated):
    answer = client.post("/f/demo-de", data={**GOOD, "form_version": stated})
    assert answer.status_code == 422
    assert 'value="anna@beispiel.de"' in answer.text
    assert queued_mail("anna@beispiel.de") is None


@pytest.mark.req("F16")
def test_an_archived_version_counts_only_while_its_purposes_exist(client, second_version):
    second_version(("product-news",))
    kept = client.post("/f/demo-de", data={**GOOD, "form_version": "1"})
    assert kept.status_code == 303
    lost = client.post("/f/demo-de", data={"email": "b@c.de", "purpose": ["invitations"], "form_version": "1"})
    assert lost.status_code == 422
    assert queued_mail("b@c.de") is None


def test_a_closed_form_takes_nothing(client, demo):
    with transaction() as session:
        forms.set_closed(session, demo.controller.id, "demo-de", True)
    assert client.get("/f/demo-de").status_code == 410
    assert client.post("/f/demo-de", data=GOOD).status_code == 410
    assert queued_mail("anna@beispiel.de") is None


@pytest.mark.req("E4")
@pytest.mark.parametrize(
    ("hops", "header", "ip", "source"),
    [
        ("0", "198.51.100.9", "127.0.0.1", "connection; an untrusted forwarding header was ignored"),
        ("1", "198.51.100.9", "198.51.100.9", "forwarded by 1 trusted proxies"),
        ("1", "203.0.113.99, 198.51.100.9", "198.51.100.9", "forwarded by 1 trusted proxies"),
        ("2", "203.0.113.99, 198.51.100.9, 10.0.0.1", "198.51.100.9", "forwarded by 2 trusted proxies"),
        ("2", "198.51.100.9", "127.0.0.1", "connection; the proxy named no client"),
        ("1", "2001:db8::17", "2001:db8::17", "forwarded by 1 trusted proxies"),
    ],
)
def test_the_proof_names_the_right_address_and_how_we_know_it(place, hops, header, ip, source):
    from signup.app import create_app
    from signup.core.config import Config
    from signup.core.db import database
    from tests.conftest import environment

    app = create_app(Config.from_env(environment(place.folder, place.url, SIGNUP_TRUSTED_PROXIES=hops)))
    with app.app_context():
        app.test_client().post("/f/demo-de", data=GOOD, headers={"X-Forwarded-For": header})
        found = fact()
        database().engine.dispose()
    assert (found.fields["ip"], found.fields["ip_source"]) == (ip, source)


@pytest.mark.req("F7")
def test_a_listed_script_can_read_errors_too(client, listed):
    headers = {"Origin": "https://shop.example.org", "Accept": "application/json"}
    answers = [
        client.post("/f/demo-de", data=b"{", content_type="application/json", headers=headers),
        client.post("/f/demo-de", data=b"x", content_type="text/plain", headers=headers),
        client.post("/f/unknown", data=GOOD, headers=headers),
    ]
    assert [answer.status_code for answer in answers] == [400, 415, 404]
    assert all(answer.headers["Access-Control-Allow-Origin"] in ("*", headers["Origin"]) for answer in answers)
    assert all("Retry-After" in answer.headers["Access-Control-Expose-Headers"] for answer in answers)


def test_a_body_without_a_length_has_the_same_limit(client):
    import io

    def post(size):
        body = b"email=anna%40beispiel.de&purpose=product-news&z=" + b"x" * size
        environ = {"wsgi.input": io.BytesIO(body), "wsgi.input_terminated": True, "HTTP_TRANSFER_ENCODING": "chunked"}
        return client.post(
            "/f/demo-de", environ_overrides=environ, content_type="application/x-www-form-urlencoded"
        ).status_code

    assert post(10) == 303
    assert post(2_000_000) == 413
    assert post(1_048_000) == 303


@pytest.mark.parametrize("settings", [{"PUBLIC_URL": "http://sign_up:8000"}])
def test_our_own_page_is_ours_on_a_host_with_an_underscore(client, listed):
    headers = {"Origin": "http://sign_up:8000", "Host": "sign_up:8000"}
    assert client.post("/f/demo-de", data=GOOD, headers=headers).status_code == 303


@pytest.mark.req("F16")
def test_older_versions_still_in_use_are_listed_with_their_count(app, client, demo, second_version):
    from datetime import timedelta

    from signup.subscriptions import versions

    second_version()
    for email, stated in (("a@b.de", "1"), ("c@d.de", "1"), ("e@f.de", "2"), ("g@h.de", None)):
        data = {"email": email, "purpose": ["product-news"], **({"form_version": stated} if stated else {})}
        assert client.post("/f/demo-de", data=data).status_code == 303
    key = {"Authorization": f"Bearer {demo.api_key}"}
    used = client.get("/api/v1/forms/demo-de/versions", headers=key).json
    found = [(item["version"], item["outdated"], item["requests"]) for item in used["versions"]]
    assert found == [(1, True, 2), (2, False, 2)]
    lines = app.test_cli_runner().invoke(args=["form", "outdated"]).stdout.splitlines()
    assert [line.split("\t")[:3] for line in lines] == [["demo-de", "version 1 of 2", "2 requests"]]
    with reading() as session:
        later = utc_now() + timedelta(days=versions.DAYS, seconds=5)
        assert versions.seen(session, demo.controller.id, now=later) == []
        assert versions.seen(session, "ctl_other", now=utc_now()) == []
