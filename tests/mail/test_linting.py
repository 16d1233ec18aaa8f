"""A confirmation mail asks and does nothing else: what the check finds, and that publishing heeds it."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
from flask import Flask

from signup import demo as demo_data
from signup.core.db import reading, transaction
from signup.core.errors import Invalid
from signup.forms import actions as forms
from signup.mail import linting, preview
from signup.mail.linting import Allowed
from signup.purposes import actions as purposes

LINK = "https://a.example/confirm/x"


def mail(text: str = "Bitte ansehen.", html: str = "<p>Bitte ansehen.</p>", headers: str = "") -> bytes:
    """A small mail with these parts."""
    return (
        f"From: post@a.example\r\nSubject: Bitte =?utf-8?q?best=C3=A4tigen?=\r\n{headers}MIME-Version: 1.0\r\n"
        'Content-Type: multipart/alternative; boundary="b"\r\n\r\n'
        f"--b\r\nContent-Type: text/plain; charset=utf-8\r\n\r\n{text}\r\n"
        f"--b\r\nContent-Type: text/html; charset=utf-8\r\n\r\n{html}\r\n--b--\r\n"
    ).encode()


def found(raw: bytes, **allowed: Any) -> set[tuple[str, str]]:
    known = {"name": "A GmbH", "asked": (), "links": frozenset({LINK}), **allowed}
    return {(problem.place, problem.code) for problem in linting.problems(raw, Allowed(**known))}


@pytest.mark.req("E9")
@pytest.mark.req("C2")
@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (mail(), set()),
        (mail(text=f"Hier:\r\n{LINK}"), set()),
        (mail(text="Herzlich willkommen!"), {("text", "promotion")}),
        (mail(html="<p>Welcome aboard</p>"), {("html", "promotion")}),
        (mail(text="Jetzt sparen: 20 % auf alles"), {("text", "promotion")}),
        (mail(text="Unser Sonderangebot"), {("text", "promotion")}),
        (mail(html="<p>10 percent</p>"), {("html", "promotion")}),
        (mail(text="a discount for you"), {("text", "promotion")}),
        (mail(text="https://shop.example/neu"), {("text", "foreign-link")}),
        (mail(text="www.shop.example"), {("text", "foreign-link")}),
        (mail(html='<a href="https://shop.example">x</a>'), {("html", "foreign-link")}),
        (mail(html='<img src="https://a.example/p.gif" width="1">'), {("html", "remote-content")}),
        (mail(html='<img src="cid:logo">'), {("html", "foreign-image")}),
        (mail(html='<img src="cid:a"><img src="cid:b">'), {("html", "too-many-images"), ("html", "foreign-image")}),
        (mail(html='<img src="data:image/png;base64,xx">'), {("html", "foreign-image")}),
        (mail(html='<table background="cid:logo">'), {("html", "foreign-image")}),
        (mail(html="<img>"), {("html", "foreign-image")}),
        (mail(html='<table background="https://a.example/b.png">'), {("html", "remote-content")}),
        (mail(html="<style>p{background:url(x.png)}</style>"), {("html", "remote-content")}),
        (mail(html="<style>@import 'x'</style>"), {("html", "remote-content")}),
        (mail(html="<form></form>"), {("html", "active-content")}),
        (mail(html='<meta http-equiv="refresh" content="0">'), {("html", "active-content")}),
        (mail(html="<p>" + "x" * 16_000), {("html", "too-long")}),
        (mail(headers="List-Unsubscribe: <https://a.example/u>\r\n"), {("headers", "list-header")}),
        (mail(headers="Precedence: bulk\r\n"), {("headers", "list-header")}),
        (mail(text=""), {("text", "part-missing")}),
    ],
)
def test_each_thing_that_does_more_than_ask_is_named_when_a_mail_is_checked(
    raw: bytes, expected: set[tuple[str, str]]
) -> None:
    assert found(raw) == expected


@pytest.mark.req("C2")
def test_more_than_five_addresses_are_refused_when_all_of_them_are_known() -> None:
    links = frozenset(f"https://a.example/{number}" for number in range(6))
    assert found(mail(text="\r\n".join(sorted(links)[:5])), links=links) == set()
    assert found(mail(text="\r\n".join(sorted(links))), links=links) == {("links", "too-many-links")}


@pytest.mark.req("A10")
def test_what_a_visitor_typed_is_found_when_a_mail_repeats_it() -> None:
    assert found(mail(text="Guten Tag Anna Muster"), typed=("Anna Muster",)) == {("text", "typed-text")}


def test_a_consent_text_may_name_offers_but_greets_nobody_when_a_mail_repeats_it() -> None:
    asked = "Ja, ich möchte Angebote per E-Mail."
    assert found(mail(text=asked)) == {("text", "promotion")}
    assert found(mail(text=asked), asked=(asked,)) == set()
    greeting = "Willkommen bei uns, ich will Mails."
    assert found(mail(text=greeting), asked=(greeting,)) == {("text", "promotion")}


def test_the_name_of_the_firm_is_no_slogan_when_it_sounds_like_one() -> None:
    assert found(mail(text="Hotel Willkommen GmbH"), name="Hotel Willkommen GmbH") == set()


@pytest.mark.req("E9")
@pytest.mark.parametrize("slug", ["demo-de", "demo-en"])
def test_nothing_stands_against_the_mails_that_ship_when_they_are_checked(app: Flask, now: datetime, slug: str) -> None:
    with reading() as session:
        view = forms.in_force(session, slug)
        sample = forms.sample_of(session, view.controller, view.slug, view.locale, view.definition)
        informal = replace(sample, definition={**sample.definition, "tone": "informal"})
    assert preview.problems(sample, now=now) == []
    assert preview.problems(informal, now=now) == []


@pytest.mark.req("E9")
def test_a_form_is_not_published_when_its_confirmation_mail_advertises(app: Flask, now: datetime) -> None:
    with transaction() as session:
        controller = purposes.find_controller(session, "beispiel")
        purposes.create_purpose(
            session,
            controller.id,
            "deals",
            label={"de": "Neues"},
            hint={"de": "jetzt 20 % Rabatt"},
            text={"de": "Herzlich willkommen! Mehr auf https://shop.example/neu"},
            now=now,
        )
    new = replace(demo_data.FORMS[0], slug="werbung", purposes=("deals",))
    with pytest.raises(Invalid) as refused, transaction() as session:
        demo_data.publish_form(session, controller, new, now=now)
    told = {(error["field"], error["code"], error["message"].lower()) for error in refused.value.errors}
    assert {
        ("mail.text", "promotion", "herzlich willkommen"),
        ("mail.text", "promotion", "rabatt"),
        ("mail.text", "promotion", "20 %"),
        ("mail.text", "foreign-link", "shop.example"),
        ("mail.html", "foreign-link", "shop.example"),
        ("mail.html", "promotion", "herzlich willkommen"),
    } <= told
    with reading() as session:
        assert "werbung" not in [view.slug for view in forms.listed(session, controller.id)]


def test_the_commands_show_and_check_a_mail_when_asked(app: Flask) -> None:
    runner = app.test_cli_runner()
    checked = runner.invoke(args=["mail", "lint", "demo-de"])
    assert (checked.exit_code, checked.output) == (0, "nothing stands against it\n")
    shown = runner.invoke(args=["mail", "preview", "demo-de", "--as", "text"])
    assert shown.exit_code == 0
    assert shown.output.startswith("Bitte bestätigen Sie Ihre Anmeldung bei Beispiel GmbH.")
    html = runner.invoke(args=["mail", "preview", "demo-en", "--as", "html"])
    assert html.output.startswith("<!doctype html>")
    missing = runner.invoke(args=["mail", "preview", "demo-de", "--name", "welcome"])
    assert missing.exit_code == 2
    assert "no mail 'welcome'" in missing.output
