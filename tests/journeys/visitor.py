"""A person at a browser: looks at a page, ticks, types, presses."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from playwright.sync_api import Browser, ConsoleMessage, Page

from tests.support.browser import accessibility_violations
from tests.support.waiting import wait_for

PHONE = {"width": 360, "height": 640}
# A page answered within a second was not read: the service asks for another press.
READING_SECONDS = 1.2


@dataclass
class Visitor:
    """One browser context of its own.

    Args:
        scripts: whether the browser runs scripts; axe is one, so it only looks when it may.
    """

    page: Page
    scripts: bool
    complaints: list[str] = field(default_factory=list)
    _opened: float = 0.0

    def open(self, url: str) -> None:
        self.page.goto(url)
        self._opened = time.monotonic()

    def press(self, name: str) -> None:
        """Press a button once the page has been open long enough to be read, and let the next page come."""
        wait_for(lambda: time.monotonic() - self._opened > READING_SECONDS, describe="time to read")
        with self.page.expect_navigation():
            self.page.get_by_role("button", name=name, exact=True).click()
        self._opened = time.monotonic()

    def heading(self) -> str:
        return self.page.locator("h1").inner_text()

    def look_for_barriers(self) -> None:
        """The page as it is now has nothing that keeps people out, light and dark."""
        if not self.scripts:
            return
        for scheme in ("light", "dark"):
            self.page.emulate_media(color_scheme=scheme)  # type: ignore[arg-type]
            assert accessibility_violations(self.page) == [], f"{self.page.url} {scheme}"
        assert self.page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]


def _complain(visitor: Visitor, message: ConsoleMessage) -> None:
    # A browser reports every page with an error status, which a link that is over has on purpose.
    if message.type == "error" and "status of 4" not in message.text:
        visitor.complaints.append(message.text)


@contextmanager
def visiting(browser: Browser, *, scripts: bool = True) -> Iterator[Visitor]:
    """A visitor on a phone whose browser has no complaint about any page."""
    context = browser.new_context(
        viewport=PHONE,  # type: ignore[arg-type]
        java_script_enabled=scripts,
        locale="de-DE",
    )
    visitor = Visitor(context.new_page(), scripts)
    visitor.page.on("console", lambda message: _complain(visitor, message))
    visitor.page.on("pageerror", lambda error: visitor.complaints.append(str(error)))
    try:
        yield visitor
    finally:
        context.close()
    assert visitor.complaints == []
