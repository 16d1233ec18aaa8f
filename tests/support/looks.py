"""A page examined in every look without being opened again: colours and width change, the state stays.

With SHOTS=1 in the environment each look is also kept as a picture under `.cache/screenshots/`.
"""

from __future__ import annotations

import os
from pathlib import Path

from playwright.sync_api import Page

from tests.support.browser import accessibility_violations

SHOTS = Path(__file__).resolve().parents[2] / ".cache" / "screenshots"
NARROW, WIDE = 320, 1280
LOOKS = (("light", NARROW), ("dark", NARROW), ("dark", WIDE), ("light", WIDE))
TARGET_PIXELS = 44
# What a finger can hit. A box is hit by its label; a link inside a sentence is as high as its line (WCAG 2.5.8).
SMALL_TARGETS = """
least => [...document.querySelectorAll("a[href], button, input:not([type=hidden]), select, summary")]
    .filter(node => !node.closest("[aria-hidden=true]") && node.checkVisibility({visibilityProperty: true}))
    .filter(node => node.closest("doi-form, .doi, .page, dialog"))
    .filter(node => node.localName !== "a" || node.parentElement.textContent.trim() === node.textContent.trim())
    .map(node => [node, (node.closest("label") || node).getBoundingClientRect()])
    .filter(([node, box]) => Math.min(box.width, box.height) < least)
    .map(([node, box]) => `${node.localName} "${node.textContent.trim() || node.name}" is ${box.width} x ${box.height}`)
"""


def findings(page: Page, name: str, *, tags: tuple[str, ...] | None = None, targets: bool = True) -> list[str]:
    """What is wrong with the page as it is now, in each look: axe, what sticks out sideways, what a finger misses."""
    found: list[str] = []
    for scheme, width in LOOKS:
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")  # type: ignore[arg-type]
        page.set_viewport_size({"width": width, "height": 800 if width == WIDE else 640})
        here = f"{name} {scheme} {width}"
        found += [f"{here}: {one}" for one in accessibility_violations(page, **({"tags": tags} if tags else {}))]
        if page.evaluate("document.documentElement.scrollWidth") > width:
            found.append(f"{here}: wider than the window")
        if targets and (scheme, width) == LOOKS[0]:
            found += [f"{here}: {one}" for frame in page.frames for one in frame.evaluate(SMALL_TARGETS, TARGET_PIXELS)]
        _keep(page, name, scheme, width)
    return found


def _keep(page: Page, name: str, scheme: str, width: int) -> None:
    if os.environ.get("SHOTS") != "1":
        return
    folder = SHOTS / f"{scheme}-{width}"
    folder.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=folder / f"{name}.png", full_page=True)
