"""A real browser for the tests. `python -m tests.support.browser` prints the one that playwright would bring."""

import hashlib
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, Page, sync_playwright

VENDOR = Path(__file__).resolve().parents[1] / "vendor"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
MAC_PATHS = (
    "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
    "/Applications/Chromium.app/Contents/MacOS/Chromium",
)
# A test's browser talks to loopback only; these keep it from calling home.
QUIET = (
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--disable-default-apps",
)

# Two frames start what a change starts; then everything that has an end is waited for.
SETTLED = """
async () => {
    for (let frame = 0; frame < 2; frame++) await new Promise(requestAnimationFrame);
    const ending = document.getAnimations().filter(a => Number.isFinite(a.effect.getComputedTiming().endTime));
    await Promise.allSettled(ending.map(a => a.finished));
}
"""
EXAMINED = """
async tags => {
    const options = {runOnly: {type: "tag", values: tags}, resultTypes: ["violations"], iframes: false};
    const {violations} = await axe.run(document, options);
    const places = nodes => nodes.map(node => node.target.join(" ")).join("; ");
    return violations.map(one => `${one.id}: ${one.help} at ${places(one.nodes)}`);
}
"""


class BrowserMissing(Exception):
    """No browser was found."""


def find_browser() -> str:
    """The path of CHROMIUM, of an installed Chromium or Chrome, or of playwright's own.

    Raises:
        BrowserMissing: there is none.
    """
    for name in (os.environ.get("CHROMIUM", ""), *NAMES, *MAC_PATHS):
        found = shutil.which(name) if name else None
        if found:
            return found
    own = playwrights_own()
    if own:
        return own
    raise BrowserMissing("no browser: set CHROMIUM or install chromium")


def playwrights_own() -> str | None:
    with sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if path and Path(path).exists() else None


@contextmanager
def open_browser(**options: Any) -> Iterator[Browser]:
    """A headless browser for as long as the block runs; make a context of your own for each visitor."""
    path = find_browser()
    # Chromium's sandbox does not work for root.
    flags = [*QUIET, "--no-sandbox"] if os.geteuid() == 0 else list(QUIET)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=flags, **options)
        try:
            yield browser
        finally:
            browser.close()


def axe_source() -> str:
    """axe-core as vendored; a changed file is refused."""
    content = (VENDOR / "axe.min.js").read_bytes()
    recorded = re.search(r"\b[0-9a-f]{64}\b", (VENDOR / "README.md").read_text())
    if not recorded or hashlib.sha256(content).hexdigest() != recorded[0]:
        raise RuntimeError("tests/vendor/axe.min.js is not the file that tests/vendor/README.md names")
    return content.decode()


def accessibility_violations(
    page: Page, *, tags: tuple[str, ...] = ("wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice")
) -> list[str]:
    """What axe finds wrong on the page as it is now, one line each: rule, help, places. Empty is good."""
    found: list[str] = []
    # Each document by itself: a frame from elsewhere is closed to the axe of the page around it.
    for frame in page.frames:
        # After a change of colours, transitions are under way, and their half-way colours are nobody's choice.
        frame.evaluate(SETTLED)
        # Evaluated through the debugger, so a strict content security policy of the page does not stand in the way.
        if not frame.evaluate("'axe' in window"):
            frame.evaluate(axe_source())
        found += frame.evaluate(EXAMINED, list(tags))
    return found


if __name__ == "__main__":
    path = playwrights_own()
    if path is None:
        sys.exit(1)
    sys.stdout.write(path + "\n")
