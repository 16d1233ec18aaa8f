"""The embedded form in each state, language, colour scheme and width: nothing for axe to find, nothing sticks out."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path
from types import SimpleNamespace

import pytest
from playwright.sync_api import Page, expect

from signup.core.db import reading
from signup.core.values import utc_now
from signup.purposes import actions as purposes
from tests.embed.conftest import Stage
from tests.forms.test_definition import FORM, publish
from tests.forms.test_fields import DECLARED
from tests.support.browser import accessibility_violations

pytestmark = pytest.mark.browser

SHOTS = Path(__file__).parents[2] / ".cache" / "screenshots" / "embed"
WORDS = {
    "de": ("E-Mail-Adresse", "Produktneuheiten", "Anmelden"),
    "en": ("E-mail address", "Product news", "Sign up"),
}
# More attempts than any one network may make.
MANY = 500


def press(page: Page, locale: str, email: str) -> None:
    label, purpose, button = WORDS[locale]
    page.get_by_label(label).fill(email)
    page.get_by_label(purpose).check()
    page.get_by_role("button", name=button, exact=True).click()


def initial(_stage: Stage, page: Page, locale: str) -> None:
    expect(page.get_by_label(WORDS[locale][0])).to_be_visible()


def error(_stage: Stage, page: Page, locale: str) -> None:
    page.get_by_label(WORDS[locale][0]).fill("anna.kundin.example")
    page.get_by_role("button", name=WORDS[locale][2], exact=True).click()
    expect(page.locator(".doi-error")).to_have_count(2)
    expect(page.locator(".doi-box")).to_be_focused()


def busy(stage: Stage, page: Page, locale: str) -> None:
    # Never answered: the visitor waits for as long as we look.
    page.route(f"{stage.url}/f/demo-{locale}", lambda _route: None)
    press(page, locale, "anna@kundin.example")
    expect(page.locator("form")).to_have_attribute("aria-busy", "true")


def pending(_stage: Stage, page: Page, locale: str) -> None:
    press(page, locale, "anna@kundin.example")
    expect(page.locator(".doi-done")).to_be_focused()


def limited(stage: Stage, page: Page, locale: str) -> None:
    client = stage.proxy.app.test_client()
    headers = {"X-Forwarded-For": stage.proxy.address, "Accept": "application/json"}
    for _number in range(MANY):
        answer = client.post(f"/f/demo-{locale}", data={"email": "anna"}, headers=headers)
        if answer.status_code == HTTPStatus.TOO_MANY_REQUESTS and "challenge" not in answer.get_json():
            break
    press(page, locale, "anna.kundin.example")
    expect(page.locator(".doi-box")).to_be_focused()
    expect(page.locator(".doi-error")).to_have_count(0)


STATES: tuple[Callable[[Stage, Page, str], None], ...] = (initial, error, busy, pending, limited)


# Each state once in each look; the frame and the dialog differ only in what stands around the same form.
LOOKS = list(itertools.product(("de", "en"), ("light", "dark"), (320, 1280)))
CASES = [
    *((look, "element", STATES) for look in LOOKS),
    (("de", "dark", 320), "iframe", (initial, error, pending)),
    (("en", "light", 1280), "iframe", (initial,)),
    (("de", "light", 320), "popup", (initial, error, pending)),
    (("en", "dark", 1280), "popup", (initial,)),
]


@pytest.mark.req("F10")
def test_axe_finds_nothing_when_the_embed_is_seen_in_every_state(stage: Stage) -> None:
    findings = []
    SHOTS.mkdir(parents=True, exist_ok=True)
    for (locale, scheme, width), kind, states in CASES:
        size = {"width": width, "height": 800}
        with stage.visit(viewport=size, color_scheme=scheme, locale=locale, reduced_motion="reduce") as page:
            for state in states:
                page.goto(stage.embedded(kind, f"demo-{locale}"))
                if kind == "popup":
                    page.get_by_role("button").click()
                state(stage, page.frames[1] if kind == "iframe" else page, locale)  # type: ignore[arg-type]
                page.unroute_all(behavior="ignoreErrors")
                name = f"{kind}-{state.__name__}-{locale}-{scheme}-{width}"
                page.screenshot(path=SHOTS / f"{name}.png", full_page=True)
                findings += [f"{name}: {finding}" for finding in accessibility_violations(page)]
                if page.evaluate("document.documentElement.scrollWidth") > width:
                    findings.append(f"{name} is wider than the page")
    assert findings == []


@pytest.mark.req("F10")
@pytest.mark.req("F17")
def test_declared_fields_have_their_purpose_and_their_error_beside_them_when_embedded(stage: Stage) -> None:
    with reading() as session:
        demo = SimpleNamespace(controller=purposes.find_controller(session, "beispiel"))
    required = tuple(replace(field, required=True) for field in DECLARED)
    publish(demo, replace(FORM, fields=required, attribution=("utm_source",)), utc_now())
    findings = []
    for scheme in ("light", "dark"):
        with stage.visit(viewport={"width": 320, "height": 800}, color_scheme=scheme, locale="de") as page:
            page.goto(stage.embedded("element", FORM.slug) + "?utm_source=flyer")
            page.get_by_role("button", name=FORM.submit_label, exact=True).click()
            expect(page.locator(".doi-error")).to_have_count(8)
            links = page.locator(".doi-box a").all_inner_texts()
            assert "E-Mail" in links[0]
            assert "kreuzen" in links[-1]
            page.screenshot(path=SHOTS / f"fields-{scheme}.png", full_page=True)
            findings += accessibility_violations(page)
            expect(page.get_by_label("Vorname")).to_have_accessible_description(
                "Damit wir Sie ansprechen können. Bitte füllen Sie „Vorname“ aus."
            )
            page.get_by_label("Vorname").fill("Anna")
            page.get_by_role("button", name=FORM.submit_label, exact=True).click()
            expect(page.locator(".doi-error")).to_have_count(7)
            expect(page.get_by_label("Vorname")).to_have_accessible_description("Damit wir Sie ansprechen können.")
            page.get_by_label("Größe").select_option("l")
            page.get_by_label("Auch auf Papier").check()
            page.get_by_label("Geburtstag").fill("1990-02-28")
            page.get_by_label("Land").select_option("AT")
            page.get_by_label("Telefon").fill("+43 1 234")
            page.get_by_label("Produktneuheiten").check()
            page.get_by_label(FORM.email_label, exact=True).fill(f"{scheme}@kundin.example")
            page.get_by_role("button", name=FORM.submit_label, exact=True).click()
            expect(page.locator(".doi-done")).to_be_focused()
    assert findings == []
    assert stage.pending().keys() == {"light@kundin.example", "dark@kundin.example"}
