"""What staff say of a form: refused with the key that is wrong, and completed when it is older than the key."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import update

from signup.core.db import reading, transaction
from signup.core.errors import Invalid
from signup.core.values import OPERATOR
from signup.forms import actions as forms
from signup.forms import pages
from signup.forms.definition import NewForm, Redirects, Welcome, check
from signup.forms.models import FormVersion
from signup.subscriptions.states import Status
from tests.conftest import queued_mail
from tests.subscriptions.test_codes import another, mailed_code, type_in
from tests.support import log
from tests.support.pages import nonce

THANKS = "https://www.beispiel.example/danke?a=1"
FORM = NewForm("demo-de", "x", "de", "Neu", "", "E-Mail", "Anmelden", "", ("product-news",))
GOOD = {"email": "anna@beispiel.de", "purpose": ["product-news"]}


def publish(demo: Any, new: NewForm, now: Any) -> None:
    with transaction() as session:
        view = forms.in_force(session, new.slug)
        definition = forms.define(session, demo.controller, new)
        html, css = pages.snapshot(definition, new.locale, demo.controller)
        forms.publish(
            session,
            demo.controller,
            view.id,
            forms.Rendered(new.locale, definition, html, css),
            actor=OPERATOR,
            now=now,
        )


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("tone", {"tone": "rude"}),
        ("locale", {"locale": "fr"}),
        ("theme.accent", {"accent": "red"}),
        ("theme.accent", {"accent": "#ABCDEF"}),
        ("title", {"title": " "}),
        ("title", {"title": "a\nb"}),
        ("email_label", {"email_label": ""}),
        ("intro", {"intro": "x" * 4001}),
        ("allowed_origins", {"allowed_origins": ("https://a.example/path",)}),
        ("redirects.allowed", {"redirects": Redirects(("javascript:alert(1)",))}),
        ("redirects.allowed", {"redirects": Redirects(("https://a:b@c.example/",))}),
        ("redirects.allowed", {"redirects": Redirects(("https://a.example/\r\nSet-Cookie: x",))}),
        ("redirects.allowed", {"redirects": Redirects(("https://a.example/" + "x" * 500,))}),
        ("redirects.after_signup", {"redirects": Redirects((), THANKS)}),
        ("redirects.after_signup", {"redirects": Redirects((THANKS,), THANKS + "&b=2")}),
        ("redirects.after_confirm", {"redirects": Redirects((THANKS,), None, "https://other.example/")}),
        ("welcome.subject", {"welcome": Welcome("a\r\nBcc: x@y.example", "Text")}),
        ("welcome.text", {"welcome": Welcome("Hallo", " ")}),
        ("welcome.download_url", {"welcome": Welcome("Hallo", "Text", "file:///etc/passwd")}),
    ],
)
def test_the_error_names_the_key_when_a_value_cannot_be_used(key: str, change: dict[str, Any]) -> None:
    with pytest.raises(Invalid) as refused:
        check(replace(FORM, **change))
    assert [error["field"] for error in refused.value.errors] == [key]
    assert key in refused.value.message


def test_a_definition_says_everything_when_it_is_published(app: Flask, demo: Any, now: Any) -> None:
    new = replace(
        FORM,
        tone="informal",
        accent="#aa0000",
        redirects=Redirects((THANKS,), None, THANKS),
        welcome=Welcome("Hallo", "Da bist du ja."),
        strict=True,
    )
    publish(demo, new, now)
    with reading() as session:
        view = forms.in_force(session, "demo-de")
    assert (view.informal, view.strict, view.accent) == (True, True, "#aa0000")
    assert (view.after_signup, view.after_confirm) == (None, THANKS)
    assert view.welcome == {"subject": "Hallo", "text": "Da bist du ja."}


def test_an_old_version_is_read_as_before_when_it_lacks_the_newer_keys(app: Flask, demo: Any) -> None:
    with transaction() as session:
        view = forms.in_force(session, "demo-de")
        newer = ("tone", "theme", "redirects", "welcome", "strict", "fields", "attribution")
        old = {name: value for name, value in view.definition.items() if name not in newer}
        session.execute(update(FormVersion).where(FormVersion.id == view.version_id).values(definition=old))
    with reading() as session:
        view = forms.in_force(session, "demo-de")
    assert (view.informal, view.strict, view.welcome) == (False, False, None)
    assert (view.after_signup, view.after_confirm) == (None, None)
    assert view.accent == demo.controller.accent


@pytest.mark.req("C11")
def test_only_the_listed_page_is_next_when_a_form_redirects(client: FlaskClient, demo: Any, now: Any) -> None:
    publish(demo, replace(FORM, redirects=Redirects((THANKS,), THANKS)), now)
    page = client.get("/f/demo-de")
    assert "form-action 'self' https://www.beispiel.example;" in page.headers["Content-Security-Policy"]
    answer = client.post("/f/demo-de", data={**GOOD, "after_signup": "https://evil.example/", "next": "//evil.example"})
    assert (answer.status_code, answer.location) == (303, THANKS)
    assert queued_mail("anna@beispiel.de") is not None


@pytest.mark.req("C11")
def test_the_button_leads_to_the_listed_page_when_a_form_leads_on_after_the_confirmation(
    client: FlaskClient, demo: Any, sign_up: Any, now: Any
) -> None:
    publish(demo, replace(FORM, redirects=Redirects((THANKS,), None, THANKS)), now)
    person = sign_up("anna@beispiel.de")
    page = client.get(person.confirm_path)
    assert "form-action 'self' https://www.beispiel.example;" in page.headers["Content-Security-Policy"]
    assert 'name="onward"' in page.text
    aside = {"onward": "https://evil.example/", "next": "//evil.example"}
    young = client.post(person.confirm_path, data={"nonce": nonce(person.confirm_path, age=0.1), **aside})
    assert young.status_code == 422
    answer = client.post(person.confirm_path, data={"nonce": nonce(person.confirm_path), **aside})
    assert (answer.status_code, answer.location) == (303, THANKS)
    assert answer.headers["Referrer-Policy"] == "same-origin"
    assert log.kinds(person.contact_id)[-1] == "subscription.confirmed"
    assert log.subscription(person.contact_id).status is Status.ACTIVE
    # Whoever comes back finds what they agreed to, and the way out.
    again = client.get(person.confirm_path)
    assert again.status_code == 200
    assert THANKS in again.text
    assert 'name="onward"' not in again.text
    repeat = client.post(person.confirm_path, data={"nonce": nonce(person.confirm_path)})
    assert (repeat.status_code, repeat.location) == (303, person.confirm_path)


@pytest.mark.req("C11")
def test_an_ended_link_leads_nowhere_when_its_form_leads_on(
    client: FlaskClient, demo: Any, sign_up: Any, now: Any
) -> None:
    publish(demo, replace(FORM, redirects=Redirects((THANKS,), None, THANKS)), now)
    person = sign_up("anna@beispiel.de")
    assert client.post(person.not_me_path, data={"nonce": nonce(person.not_me_path)}).status_code == 303
    answer = client.post(person.confirm_path, data={"nonce": nonce(person.confirm_path), "onward": "1"})
    assert answer.status_code == 410
    assert THANKS not in answer.text


@pytest.mark.req("C11")
def test_the_code_leads_to_the_listed_page_when_a_form_leads_on_after_the_confirmation(
    client: FlaskClient, demo: Any, now: Any
) -> None:
    publish(demo, replace(FORM, redirects=Redirects((THANKS,), None, THANKS)), now)
    path = str(client.post("/f/demo-de", data=GOOD).location)
    page = client.get(path)
    assert "form-action 'self' https://www.beispiel.example;" in page.headers["Content-Security-Policy"]
    assert type_in(client, path, another(mailed_code("anna@beispiel.de"))).status_code == 422
    answer = type_in(client, path, mailed_code("anna@beispiel.de"))
    assert (answer.status_code, answer.location) == (303, THANKS)


def test_the_second_look_may_still_run_its_script_when_a_form_leads_on(
    client: FlaskClient, demo: Any, now: Any
) -> None:
    publish(demo, replace(FORM, redirects=Redirects((THANKS,), THANKS)), now)
    policy = client.post("/f/demo-de", data={**GOOD, "zq_k7": "x"}).headers["Content-Security-Policy"]
    assert "script-src 'self'" in policy
    assert "form-action 'self' https://www.beispiel.example;" in policy


def test_the_policy_lists_no_other_site_when_a_form_does_not_redirect(client: FlaskClient) -> None:
    assert "form-action 'self';" in client.get("/f/demo-de").headers["Content-Security-Policy"]
