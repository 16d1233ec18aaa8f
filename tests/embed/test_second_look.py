"""Our second page in a real browser: it proves by itself that somebody is there, and works without scripts too."""

from __future__ import annotations

from urllib.parse import parse_qs

import pytest
from playwright.sync_api import expect

from tests.embed.conftest import Stage

pytestmark = pytest.mark.browser


@pytest.mark.req("A6")
@pytest.mark.req("A7")
@pytest.mark.parametrize("scripts", [True, False], ids=["scripts", "no scripts"])
def test_the_second_page_lets_a_person_in_when_the_first_raised_a_doubt(stage: Stage, scripts: bool) -> None:
    with stage.visit(java_script_enabled=scripts) as page:
        page.goto(f"{stage.url}/f/demo-de")
        page.locator("input[name=zq_k7]").fill("autofilled", force=True)
        page.locator("input[type=email]").fill("anna@beispiel.de")
        page.locator("input[type=checkbox]").first.check()
        page.locator("button.primary").click()
        expect(page.locator("[role=status].box, p.box").first).to_contain_text("Roboter")
        expect(page.locator("input[type=email]")).to_have_value("anna@beispiel.de")
        assert page.locator("input[name=zq_k7]").input_value() == ""
        with page.expect_request(lambda request: request.method == "POST" and request.is_navigation_request()) as sent:
            page.locator("button.primary").click()
        expect(page.locator("h1")).to_have_text("Bitte sehen Sie in Ihr Postfach")
        fields = parse_qs(sent.value.post_data or "", keep_blank_values=True)
        assert (len(fields["altcha"][0]) > 200) is scripts
        # The answer to the doubtful page is an error for the browser; nothing else is.
        assert [text for text in page.complaints if "422" not in text] == []  # type: ignore[attr-defined]
    assert len(stage.pending()) == 1
