"""Every way to embed a form makes the same pending sign-up, on a page that allows only what the snippet names."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.embed.conftest import Stage

pytestmark = pytest.mark.browser

PENDING = "Bitte das Postfach öffnen"


def fill(form: object, email: str) -> None:
    form.get_by_label("E-Mail-Adresse").fill(email)  # type: ignore[attr-defined]
    form.get_by_label("Produktneuheiten").check()  # type: ignore[attr-defined]
    form.get_by_role("button", name="Anmelden", exact=True).click()  # type: ignore[attr-defined]


def stored(page: Page) -> list[object]:
    places = "document.cookie, localStorage.length, sessionStorage.length, (await indexedDB.databases()).length"
    return list(page.evaluate(f"async () => [{places}]"))


@pytest.mark.req("F1")
@pytest.mark.req("F3")
@pytest.mark.req("F5")
@pytest.mark.req("F22")
def test_every_kind_makes_the_same_pending_sign_up_when_the_host_allows_only_what_it_names(stage: Stage) -> None:
    kinds = ("html", "script", "element", "popup", "iframe", "wordpress")
    for kind in kinds:
        with stage.visit() as page:
            page.goto(stage.embedded(kind))
            if kind == "popup":
                page.get_by_role("button", name="Anmelden").click()
            fill(page.frame_locator("iframe") if kind == "iframe" else page, f"{kind}@kundin.example")
            if kind == "html":
                expect(page.locator("h1")).to_have_text("Bitte sehen Sie in Ihr Postfach")
            else:
                shown = page.frame_locator("iframe") if kind == "iframe" else page
                expect(shown.get_by_text(PENDING)).to_be_visible()
                assert page.url.startswith(stage.host.url)
                assert stored(page) == ["", 0, 0, 0]
            assert page.context.cookies() == []
            assert page.complaints == [], kind  # type: ignore[attr-defined]
    pending = stage.pending()
    assert pending.keys() == {f"{kind}@kundin.example" for kind in kinds}
    assert len(set(pending.values())) == 1


@pytest.mark.req("F4")
def test_a_form_still_leads_to_a_sign_up_when_scripts_are_off(stage: Stage) -> None:
    for kind in ("html", "script", "element", "popup", "iframe", "hosted"):
        with stage.visit(java_script_enabled=False) as page:
            page.goto(stage.embedded(kind))
            if kind in ("element", "popup", "hosted"):
                page.get_by_role("link").click()
            fill(page.frame_locator("iframe") if kind == "iframe" else page, f"{kind}@kundin.example")
            expect(page.locator("h1")).to_have_text("Bitte sehen Sie in Ihr Postfach")
            assert page.url.startswith(f"{stage.url}/f/demo-de/pending/")
    assert len(stage.pending()) == 6
    assert len(set(stage.pending().values())) == 1


@pytest.mark.req("F1")
def test_the_snippet_for_react_leads_to_a_sign_up_when_a_page_does_what_it_says(stage: Stage) -> None:
    manual = (Path(__file__).parents[2] / "docs" / "embedding.md").read_text(encoding="utf-8")
    (snippet,) = re.findall(r"```jsx\n(.*?)```", manual, re.DOTALL)
    assert len(snippet.splitlines()) == 4
    (script,) = re.findall(r'import\(.*"https://anmelden\.example\.org(/\S+)"\)', snippet)
    (tag, given, language) = re.findall(r'<([a-z-]+) form=\{(\w+)\} lang="(\w+)" />', snippet)[0]
    assert given == "form"
    policy = "; ".join(["default-src 'none'", *stage.embed("element").csp])
    with stage.visit() as page:
        page.goto(stage.host.put("/react", '<div id="root"></div>', policy))
        # What React makes of a tag with a hyphen: an element with these attributes, put in again for each showing.
        show = """async ([script, tag, language]) => {
            const node = document.createElement(tag);
            node.setAttribute("form", "demo-de");
            node.setAttribute("lang", language);
            document.getElementById("root").replaceChildren(node);
            await import(script);
        }"""
        for _showing in range(2):
            page.evaluate(show, [stage.url + script, tag, language])
            expect(page.get_by_label("E-Mail-Adresse")).to_have_count(1)
        fill(page, "react@kundin.example")
        expect(page.get_by_text(PENDING)).to_be_visible()
        assert page.complaints == []  # type: ignore[attr-defined]
    assert list(stage.pending()) == ["react@kundin.example"]
