"""Every kind of field, wrong in every way it can be, in every embed: told beside it, in the form's language."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, get_args

import pytest
from playwright.sync_api import Frame, Page, expect

from signup.core.db import reading
from signup.core.values import utc_now
from signup.forms.definition import Field, Option
from signup.forms.embedding import Kind
from signup.purposes import actions as purposes
from tests.embed.conftest import Stage
from tests.embed.test_looks import NATIVE, shown
from tests.forms.test_definition import FORM, publish

pytestmark = pytest.mark.browser

LABELS = {
    "de": ("Vorname", "Größe", "Auf Papier", "Geburtstag", "Land", "Telefon", "E-Mail", "Produktneuheiten", "Senden"),
    "en": ("First name", "Size", "On paper", "Birthday", "Country", "Phone", "E-mail", "Product news", "Send"),
}
NAMES = ("first_name", "size", "printed", "born", "country", "phone", "email", "purpose")
MISSING = {
    "de": (
        *("Bitte füllen Sie „Vorname“ aus.", "Bitte wählen Sie bei „Größe“ eine der Möglichkeiten."),
        *("Bitte kreuzen Sie „Auf Papier“ an.", "Bitte füllen Sie „Geburtstag“ aus."),
        *("Bitte wählen Sie bei „Land“ eine der Möglichkeiten.", "Bitte füllen Sie „Telefon“ aus."),
        *("Bitte geben Sie Ihre E-Mail-Adresse ein.", "Bitte kreuzen Sie an, was Sie bekommen möchten."),
    ),
    "en": (
        *("Please fill in “First name”.", "Please choose one of the options of “Size”."),
        *("Please tick “On paper”.", "Please fill in “Birthday”."),
        *("Please choose one of the options of “Country”.", "Please fill in “Phone”."),
        *("Please enter your e-mail address.", "Please tick what you would like to receive."),
    ),
}
# What no browser lets a person type, but a page that was tampered with sends.
WRONG = {
    "first_name": "x" * 41,
    "size": "xxl",
    "printed": "maybe",
    "born": "1800-01-01",
    "country": "ZZ",
    "phone": "call me",
    "email": "anna.kundin.example",
    "purpose": "sms",
}
REFUSED = {
    "de": (
        *("„Vorname“ ist zu lang.", "Bitte wählen Sie bei „Größe“", "Bitte kreuzen Sie „Auf Papier“ an."),
        *("„Geburtstag“ braucht ein Datum", "Bitte wählen Sie bei „Land“", "„Telefon“ braucht eine Telefonnummer"),
        *("Die E-Mail-Adresse braucht ein @", "Diese Auswahl gibt es nicht mehr"),
    ),
    "en": (
        *("“First name” is too long.", "Please choose one of the options of “Size”", "Please tick “On paper”."),
        *("“Birthday” needs a date", "Please choose one of the options of “Country”", "“Phone” needs a telephone"),
        *("The e-mail address needs an @", "This choice is no longer offered"),
    ),
}
# Typed past what the browser would allow: nothing of that keeps a hostile or broken page from sending it.
TAMPER = """(form, wrong) => {
    for (const [name, value] of Object.entries(wrong)) {
        const field = form.querySelector(`[name="${name}"]`);
        if (field.localName === "select") field.options[1].value = value, field.selectedIndex = 1;
        else if (field.type === "checkbox") field.value = value, field.checked = true;
        else field.removeAttribute("maxlength"), field.type === "date" && (field.type = "text"), field.value = value;
    }
}"""


# The words that a screen reader reads of a field after its name.
DESCRIBED = """node => node.getAttribute("aria-describedby").split(" ")
    .map(id => document.getElementById(id)?.innerText).join(" ")"""


def declared(locale: str) -> tuple[Field, ...]:
    first, size, paper, born, country, phone, *_rest = LABELS[locale]
    return (
        Field("first_name", "text", first, first, required=True, max_length=40),
        Field("size", "select", size, size, required=True, options=(Option("s", "S"), Option("l", "L"))),
        Field("printed", "checkbox", paper, paper, required=True),
        Field("born", "date", born, born, required=True),
        Field("country", "country", country, country, required=True),
        Field("phone", "tel", phone, phone, required=True),
    )


def asking(stage: Stage, locale: str) -> None:
    """The demo form asks for one field of each kind."""
    with reading() as session:
        demo = SimpleNamespace(controller=purposes.find_controller(session, "beispiel"))
    slug, labels = f"demo-{locale}", LABELS[locale]
    new = replace(FORM, slug=slug, locale=locale, email_label=labels[6], submit_label=labels[8])
    publish(demo, replace(new, fields=declared(locale)), utc_now())


def told_beside(form: Page | Frame, native: bool, name: str, message: str) -> None:
    prefix = "" if native else "doi-"
    field = form.locator(f"[name={name}]").first
    expect(field).to_have_attribute("aria-invalid", "true")
    assert message in str(field.evaluate(DESCRIBED)), name
    beside = field.locator(f"xpath=ancestor::*[contains(@class, '{prefix}field')][1]").locator(f".{prefix}error")
    expect(beside).to_contain_text(message)
    link = form.locator(f".{prefix}box a", has_text=message)
    expect(link).to_have_count(1)


@pytest.mark.req("F11")
@pytest.mark.req("F17")
@pytest.mark.parametrize("locale", ["de", "en"])
@pytest.mark.parametrize("kind", get_args(Kind))
def test_each_field_has_its_message_and_the_summary_the_focus_when_input_is_wrong(
    stage: Stage, kind: Kind, locale: str
) -> None:
    asking(stage, locale)
    native = kind in NATIVE
    box = ".box.bad" if native else ".doi-box.doi-bad"
    with stage.visit(locale=locale) as page:
        for wrong, told in (({}, MISSING), (WRONG, REFUSED)):
            form = shown(stage, page, kind, locale).form
            form.locator("form").evaluate(TAMPER, wrong)
            press(form, locale)
            expect(form.locator(box)).to_be_focused()
            for name, message in zip(NAMES, told[locale], strict=True):
                told_beside(form, native, name, message)
            link = form.locator(f"{box} a").first
            link.click()
            first = link.evaluate("node => node.getAttribute('href').slice(1)")
            expect(form.locator(f"[id='{first}']")).to_be_focused()
    assert stage.pending() == {}


def press(form: Any, locale: str) -> None:
    form.get_by_role("button", name=LABELS[locale][8], exact=True).click()
