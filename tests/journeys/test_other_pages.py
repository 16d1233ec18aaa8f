"""The pages beside the main way, as the running service serves them: no barriers, nothing too wide."""

from __future__ import annotations

import pytest
from playwright.sync_api import Browser

from tests.journeys.visitor import visiting
from tests.journeys.world import PATIENCE_SECONDS, Mail, call
from tests.support.servers import Service
from tests.support.smtp import ScriptedSmtp

pytestmark = pytest.mark.browser

SIGN_UP = {"email": "anna@beispiel.example", "purpose": "product-news"}


@pytest.mark.req("F10")
def test_axe_finds_nothing_when_the_other_pages_are_opened(
    service: Service, smtp_server: ScriptedSmtp, chromium: Browser
) -> None:
    assert call("POST", f"{service.url}/f/demo-de", SIGN_UP).status == 303
    mail = Mail.of(smtp_server.wait(seconds=PATIENCE_SECONDS)[0])
    with visiting(chromium) as visitor:
        for url in (
            f"{service.url}/f/demo-en",
            f"{service.url}/f/nowhere",
            f"{service.url}/dev/mailbox",
            f"{service.url}/api/v1/docs",
            mail.url("not-me"),
        ):
            visitor.open(url)
            visitor.look_for_barriers()
        visitor.press("Anfrage löschen")
        assert visitor.heading() == "Die Anfrage ist gelöscht"
        visitor.look_for_barriers()
        visitor.open(mail.url("confirm"))
        assert visitor.heading() == "Diese Anfrage wurde abgebrochen"
        visitor.look_for_barriers()


def test_the_visitor_can_mend_and_go_on_when_the_input_was_wrong(
    service: Service, smtp_server: ScriptedSmtp, chromium: Browser
) -> None:
    with visiting(chromium) as visitor:
        visitor.open(f"{service.url}/f/demo-de")
        visitor.page.get_by_label("E-Mail-Adresse").fill("anna")
        visitor.press("Anmelden")
        assert visitor.page.title().startswith("Bitte prüfen")
        visitor.look_for_barriers()
        assert visitor.page.get_by_label("E-Mail-Adresse").input_value() == "anna"
        visitor.page.get_by_label("E-Mail-Adresse").fill(SIGN_UP["email"])
        visitor.page.get_by_label("Einladungen").check()
        visitor.press("Anmelden")
        assert visitor.heading() == "Bitte sehen Sie in Ihr Postfach"
        # Back and once more: the same press, so the same page and no second mail.
        first = visitor.page.url
        visitor.page.go_back()
        visitor.press("Anmelden")
        assert visitor.page.url == first
    smtp_server.wait(seconds=PATIENCE_SECONDS)
    assert len(smtp_server.received) == 1
