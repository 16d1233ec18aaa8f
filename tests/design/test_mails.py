"""Each mail says what the law asks for, and nothing else."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.design.conftest import TEMPLATES, Renderer
from tests.design.samples import CONTROLLER, MAIL_PLACEHOLDERS
from tests.design.test_pages import Page

PARTS = ("subject.txt", "body.txt", "body.html")
# German in both tones: one template each.
LANGUAGES = ("de", "de-informal", "en")
BOTH = [(name, language) for name in ("confirm", "already") for language in LANGUAGES]
# Mails that name no purpose and no place.
EACH = [*BOTH, *(("preferences", language) for language in LANGUAGES)]
FORMAL_WORDS = re.compile(r"\b(?:Sie|Ihr|Ihre[mnrs]?|Ihnen)\b")
ADVERTISING = re.compile(
    r"willkommen|welcome|rabatt|discount|angebot|offer|gutschein|voucher|gratis|free|hallo|hello|liebe[r ]|dear|freuen",
    re.I,
)
FOOTER = {CONTROLLER["imprint_url"], CONTROLLER["privacy_url"]}


def _links(source: str) -> list[str]:
    return [link["href"] or "" for link in Page(source).all("a")]


@pytest.mark.parametrize("name", ["confirm", "already", "welcome", "preferences"])
def test_three_parts_exist_in_each_locale_when_listed(name: str) -> None:
    for part in PARTS:
        folder: Path = TEMPLATES / "mail" / name / part
        assert sorted(path.name for path in folder.iterdir()) == list(LANGUAGES)


@pytest.mark.req("C3")
@pytest.mark.parametrize(("name", "language"), EACH)
@pytest.mark.parametrize(
    "owner", ["Beispiel GmbH", "Muster Maschinenbau und Vertriebsgesellschaft mbH & Co. KG", "X" * 90]
)
def test_subject_is_one_line_of_at_most_60_characters_when_rendered(
    renderer: Renderer, name: str, language: str, owner: str
) -> None:
    subject = renderer.mail(name, "subject.txt", language, controller={**CONTROLLER, "name": owner})
    assert len(subject) <= 60
    assert "\n" not in subject
    assert "&amp;" not in subject


@pytest.mark.req("C3")
def test_subject_asks_to_confirm_when_the_mail_is_a_confirmation(renderer: Renderer) -> None:
    subject = renderer.mail("confirm", "subject.txt", "de")
    assert subject == "Bitte bestätigen Sie Ihre Anmeldung bei Beispiel GmbH"


@pytest.mark.req("C1")
@pytest.mark.req("E9")
@pytest.mark.parametrize(("name", "language"), EACH)
def test_html_part_loads_nothing_and_links_only_where_it_must_when_rendered(
    renderer: Renderer, name: str, language: str
) -> None:
    source = renderer.mail(name, "body.html", language)
    own = {
        "confirm": {MAIL_PLACEHOLDERS["confirm_url"], MAIL_PLACEHOLDERS["not_me_url"]},
        "already": {MAIL_PLACEHOLDERS["unsubscribe_url"], MAIL_PLACEHOLDERS["preferences_url"]},
        "preferences": {MAIL_PLACEHOLDERS["preferences_url"]},
    }
    assert set(_links(source)) == FOOTER | own[name]
    assert len(_links(source)) <= 5
    page = Page(source)
    for tag in ("img", "script", "link", "iframe", "svg", "form", "video", "object"):
        assert not page.all(tag)
    assert not re.search(r"url\(|background=|@import|@font-face|src=", source)
    assert len(source.encode()) <= 15 * 1024


@pytest.mark.req("C5")
@pytest.mark.parametrize(("name", "language"), EACH)
def test_html_part_is_accessible_markup_when_rendered(renderer: Renderer, name: str, language: str) -> None:
    page = Page(renderer.mail(name, "body.html", language))
    assert page.all("html", lang=language[:2])
    assert page.all("title")
    assert page.all("meta", name="color-scheme", content="light dark")
    assert page.all("table")
    assert all(table["role"] == "presentation" for table in page.all("table"))


@pytest.mark.req("E9")
@pytest.mark.parametrize(("name", "language"), EACH)
@pytest.mark.parametrize("part", PARTS)
def test_no_greeting_and_no_advertising_is_written_when_rendered(
    renderer: Renderer, name: str, language: str, part: str
) -> None:
    assert not ADVERTISING.search(renderer.mail(name, part, language))


@pytest.mark.parametrize(("name", "language"), EACH)
def test_each_address_stands_alone_on_its_line_when_the_text_part_is_rendered(
    renderer: Renderer, name: str, language: str
) -> None:
    lines = renderer.mail(name, "body.txt", language).split("\n")
    with_address = [line for line in lines if "://" in line]
    keys = {
        "confirm": ("confirm_url", "not_me_url"),
        "already": ("preferences_url", "unsubscribe_url"),
        "preferences": ("preferences_url",),
    }
    assert with_address == [
        *(MAIL_PLACEHOLDERS[key] for key in keys[name]),
        CONTROLLER["imprint_url"],
        CONTROLLER["privacy_url"],
    ]
    assert not [line for line in lines if "<" in line or "&" in line]


@pytest.mark.req("E13")
@pytest.mark.req("C2")
@pytest.mark.parametrize(
    ("language", "facts"),
    [
        ("de", ["Noch ist nichts geschehen", "7 Tage", "Ohne Ihre Bestätigung", "spätestens 24 Stunden"]),
        ("en", ["Nothing has happened yet", "7 days", "Without your confirmation", "no later than 24 hours"]),
    ],
)
def test_mail_says_why_it_came_and_what_happens_without_a_click_when_confirming(
    renderer: Renderer, language: str, facts: list[str]
) -> None:
    from tests.design.samples import PURPOSES

    wording = [part for item in PURPOSES[language] for part in (item["label"], item["text"])]
    known = [MAIL_PLACEHOLDERS["requested_at"], MAIL_PLACEHOLDERS["page_host"], CONTROLLER["name"]]
    for part in ("body.txt", "body.html"):
        text = " ".join(Page(renderer.mail("confirm", part, language)).text.split())
        missing = [fact for fact in [*facts, *wording, *known] if fact not in text]
        assert not missing, part


@pytest.mark.parametrize(("language", "one"), [("de", "1 Tag."), ("en", "1 day.")])
def test_one_day_is_written_in_the_singular_when_valid_for_one_day(renderer: Renderer, language: str, one: str) -> None:
    for part in ("body.txt", "body.html"):
        assert one in renderer.mail("confirm", part, language, valid_days=1)


@pytest.mark.req("E10")
@pytest.mark.parametrize(("name", "language"), BOTH)
def test_markup_in_a_value_stays_text_when_the_html_part_is_rendered(
    renderer: Renderer, name: str, language: str
) -> None:
    hostile = "<a href='https://evil.example'>x</a>"
    purposes = [{"label": hostile, "hint": hostile, "text": hostile}]
    source = renderer.mail(name, "body.html", language, purposes=purposes, page_host=hostile)
    assert "https://evil.example" not in _links(source)
    assert "&lt;a href=" in source
    assert "&amp;lt;" not in source


@pytest.mark.req("E17")
@pytest.mark.parametrize("language", ["de", "en"])
@pytest.mark.parametrize("part", ["body.txt", "body.html"])
def test_no_confirming_link_is_in_the_mail_when_only_the_code_confirms(
    renderer: Renderer, language: str, part: str
) -> None:
    source = renderer.mail("confirm", part, language, way="code")
    assert "/confirm/" not in source
    assert MAIL_PLACEHOLDERS["code"] in source
    assert MAIL_PLACEHOLDERS["code_url"] in source
    assert MAIL_PLACEHOLDERS["code"] not in renderer.mail("confirm", part, language, way="link")


@pytest.mark.parametrize(("name", "language"), BOTH)
def test_placeholders_survive_unchanged_when_rendered_once_for_many_mails(
    renderer: Renderer, name: str, language: str
) -> None:
    marks = {key: f"@@{key}@@" for key in MAIL_PLACEHOLDERS}
    own = ["preferences_url", "unsubscribe_url"] if name == "already" else ["confirm_url", "code", "not_me_url"]
    used = {"requested_at", "page_host", *own}
    for part in ("body.txt", "body.html"):
        source = renderer.mail(name, part, language, **marks)
        assert {key for key, mark in marks.items() if mark in source} == used
    assert "@@" not in renderer.mail(name, "subject.txt", language, **marks)


@pytest.mark.req("F13")
def test_both_german_tones_say_the_same_when_compared() -> None:
    compared = 0
    for path in sorted((TEMPLATES / "mail").glob("*/*/de")):
        if path.parts[-3] == "staff-notice":
            # It addresses nobody, so one tone is all there is.
            assert not FORMAL_WORDS.search(path.read_text(encoding="utf-8"))
            continue
        formal = path.read_text(encoding="utf-8")
        informal = path.with_name("de-informal").read_text(encoding="utf-8")
        told = str(path.relative_to(TEMPLATES))
        assert not FORMAL_WORDS.search(informal), told
        assert _values(formal) == _values(informal), f"{told}: what one tone shows, the other must show too"
        assert formal.count("\n") == informal.count("\n"), f"{told}: line by line the same"
        if FORMAL_WORDS.search(formal):
            assert re.search(r"\b(?:[Dd]u|[Dd]ein(?:e[mnrs]?)?|[Dd]ir)\b", informal), told
            compared += 1
    assert compared >= 7


def _values(source: str) -> list[str]:
    return re.findall(
        r"\b(?:controller\.\w+|[a-z]+_url|requested_at|page_host|valid_days|code|letter\.\w+|item\.\w+)\b", source
    )


@pytest.mark.req("F13")
def test_the_informal_confirmation_reads_like_this_when_rendered(renderer: Renderer) -> None:
    assert renderer.mail("confirm", "subject.txt", "de-informal") == "Bitte bestätige deine Anmeldung bei Beispiel GmbH"
    text = renderer.mail("confirm", "body.txt", "de-informal")
    assert "Du oder jemand anderes hat deine Adresse in ein Formular eingetragen." in text
    assert "Ohne deine Bestätigung schicken wir dir nichts und\nlöschen deine Daten" in text
    assert "Das warst du nicht? Dann brauchst du nichts zu tun." in text
    assert "Deine Anmeldung bei Beispiel GmbH besteht schon" in renderer.mail("already", "subject.txt", "de-informal")


@pytest.mark.req("C1")
@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", ["address", "address-told"])
@pytest.mark.parametrize("owner", ["Beispiel GmbH", "X" * 90])
def test_mails_about_a_new_address_are_small_and_link_only_where_they_must_when_rendered(
    renderer: Renderer, name: str, language: str, owner: str
) -> None:
    subject = renderer.mail(name, "subject.txt", language, controller={**CONTROLLER, "name": owner})
    assert len(subject) <= 60
    assert "\n" not in subject
    source = renderer.mail(name, "body.html", language)
    own = {MAIL_PLACEHOLDERS["confirm_url"]} if name == "address" else set()
    assert set(_links(source)) == FOOTER | own
    assert len(source.encode()) <= 15 * 1024
    for part in PARTS:
        assert not ADVERTISING.search(renderer.mail(name, part, language))
    lines = renderer.mail(name, "body.txt", language).split("\n")
    assert {line for line in lines if "://" in line} == FOOTER | own
