"""A real browser shows every page and mail without a finding, at phone and desk width, light and dark."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from werkzeug.serving import WSGIRequestHandler, make_server

from tests.design.conftest import Renderer, pages
from tests.support.looks import findings

pytestmark = pytest.mark.browser

MAILS = ("confirm", "already", "welcome", "address", "address-told", "preferences")
WCAG = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa")


class Quiet(WSGIRequestHandler):
    """Serves without a line per request."""

    def log(self, *_arguments: Any) -> None:
        return


@pytest.fixture(scope="module")
def address(renderer: Renderer) -> Iterator[str]:
    server = make_server("127.0.0.1", 0, renderer.app, request_handler=Quiet)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def _paths(language: str) -> list[tuple[str, str]]:
    found = [(name, f"/page/{language}/{name}") for name in pages(language)]
    tones = (language, "de-informal") if language == "de" else (language,)
    found += [(f"mail-{name}-{tone}", f"/mail/{tone}/{name}") for name in MAILS for tone in tones]
    return [*found, ("mail-staff-notice", f"/mail/{language}/staff-notice")]


def _watch(page: Any) -> list[str]:
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    return complaints


# So many that each takes a few seconds, and two processes share them well.
SHARES = 4


@pytest.mark.req("F10")
@pytest.mark.parametrize("share", range(SHARES))
@pytest.mark.parametrize("language", ["de", "en"])
def test_nothing_is_found_when_every_page_and_mail_is_seen_in_every_look(
    chromium: Any, address: str, language: str, share: int
) -> None:
    page = chromium.new_page()
    complaints = _watch(page)
    found = []
    for name, path in _paths(language)[share::SHARES]:
        page.goto(address + path)
        # Landmarks are a custom of web pages; mail clients bring their own.
        mail = name.startswith("mail-")
        # Pages for developers are worked with at a desk.
        touched = not mail and name not in ("docs", "mail", "mailbox")
        tags = WCAG if mail else (*WCAG, "best-practice")
        found += findings(page, f"{name}-{language}", tags=tags, targets=touched)
    page.close()
    assert found == []
    assert complaints == []


@pytest.mark.req("C9")
@pytest.mark.parametrize("language", ["de", "en"])
def test_main_button_is_in_sight_when_confirming_on_a_small_phone(chromium: Any, address: str, language: str) -> None:
    page = chromium.new_page(viewport={"width": 360, "height": 640})
    for name in ("confirm-open", "confirm-young", "confirm-expired", "unsubscribe-active", "not-me-open", "code"):
        page.goto(f"{address}/page/{language}/{name}")
        box = page.locator("button.primary").bounding_box()
        assert box["y"] + box["height"] <= 640, name
        assert box["height"] >= 54
    page.close()


@pytest.mark.parametrize("width", [480, 1600])
def test_nothing_overflows_sideways_when_the_window_is_narrow_or_wide(chromium: Any, address: str, width: int) -> None:
    page = chromium.new_page(viewport={"width": width, "height": 640})
    for language in ("de", "en"):
        for name, path in _paths(language):
            page.goto(address + path)
            assert page.evaluate("document.documentElement.scrollWidth") <= width, name
    page.close()


def test_focus_is_on_the_summary_and_visible_when_input_was_wrong(chromium: Any, address: str) -> None:
    page = chromium.new_page(viewport={"width": 360, "height": 640})
    page.goto(f"{address}/page/de/form-errors")
    page.wait_for_function("document.activeElement.getAttribute('role') === 'group'")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.getAttribute('href')") == "#field-email"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    page.keyboard.press("Enter")
    page.wait_for_function("location.hash === '#field-email'")
    page.close()


def test_boxes_can_be_ticked_by_keyboard_and_forced_colours_keep_them_when_used(chromium: Any, address: str) -> None:
    page = chromium.new_page(viewport={"width": 360, "height": 640}, forced_colors="active", reduced_motion="reduce")
    page.goto(f"{address}/page/de/form")
    box = page.locator("input[type=checkbox]").first
    box.focus()
    page.keyboard.press("Space")
    assert box.is_checked()
    assert box.evaluate("element => getComputedStyle(element).appearance") == "auto"
    assert page.locator("button").evaluate("element => getComputedStyle(element).transitionDuration") == "0s"
    page.close()


@pytest.mark.req("C5")
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_mail_can_be_read_and_used_when_images_are_off_and_the_screen_is_small(
    chromium: Any, address: str, scheme: str
) -> None:
    context = chromium.new_context(color_scheme=scheme, viewport={"width": 320, "height": 640})
    page = context.new_page()
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.route("**/*", lambda route: route.abort() if route.request.resource_type == "image" else route.continue_())
    for name, path in _paths("de"):
        if not path.startswith("/mail/"):
            continue
        asked.clear()
        page.goto(address + path)
        assert asked == [address + path], "a mail asks for nothing"
        assert page.evaluate("document.documentElement.scrollWidth") <= 320, name
        for button in page.locator("a").all():
            assert button.bounding_box()["height"] >= 44, name
            assert button.inner_text().strip(), name
    context.close()
