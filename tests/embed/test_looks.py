"""Every way to embed a form, in each state, language, colour scheme and width: nothing for axe to find, nothing sticks
out, everything can be hit with a finger."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, get_args

import pytest
from playwright.sync_api import Frame, Page, expect

from signup.forms.embedding import Kind
from tests.embed.conftest import Stage
from tests.support.browser import accessibility_violations
from tests.support.looks import findings

pytestmark = pytest.mark.browser

# What the browser sends by itself and our own pages answer.
NATIVE = ("html", "hosted", "qr")
WORDS = {
    "de": ("E-Mail-Adresse", "Produktneuheiten", "Anmelden"),
    "en": ("E-mail address", "Product news", "Sign up"),
}
TITLES = {"de": "Bitte sehen Sie in Ihr Postfach", "en": "Please open your mailbox"}
# A network that sent more than any one may.
SPENT = "198.51.100.7"
# More attempts than any one network may make.
MANY = 500


@dataclass(frozen=True)
class Scene:
    """One embedded form in one language, before somebody's eyes."""

    stage: Stage
    page: Page
    form: Page | Frame
    kind: Kind
    locale: str

    @property
    def url(self) -> str:
        return f"{self.stage.url}/f/demo-{self.locale}"

    @property
    def native(self) -> bool:
        return self.kind in NATIVE

    def fill(self, email: str) -> None:
        self.form.get_by_label(WORDS[self.locale][0]).fill(email)

    def tick(self) -> None:
        self.form.get_by_label(WORDS[self.locale][1]).check()

    def press(self) -> None:
        self.form.get_by_role("button", name=WORDS[self.locale][2], exact=True).click()


@contextmanager
def initial(scene: Scene) -> Iterator[None]:
    expect(scene.form.get_by_label(WORDS[scene.locale][0])).to_be_visible()
    yield


@contextmanager
def error(scene: Scene) -> Iterator[None]:
    scene.fill("anna.kundin.example")
    scene.press()
    prefix = "." if scene.native else ".doi-"
    expect(scene.form.locator(f"{prefix}error")).to_have_count(2)
    expect(scene.form.locator(f"{prefix}box")).to_be_focused()
    yield


@contextmanager
def busy(scene: Scene) -> Iterator[None]:
    """Sent and never answered; a page that the browser sends is busy only while it proves that somebody is there."""
    held: list[Any] = []
    awaited = f"{scene.url}/challenge" if scene.native else scene.url
    scene.page.route(awaited, lambda route: held.append(route))  # noqa: PLW0108 - playwright marks what it calls
    if scene.native:
        scene.page.goto(scene.url)
        scene.page.locator("input[name=zq_k7]").fill("autofilled", force=True)
    scene.fill("anna@kundin.example")
    scene.tick()
    scene.press()
    if scene.native:
        scene.form.get_by_label(WORDS[scene.locale][0]).focus()
        expect(scene.page.get_by_role("status").last).not_to_be_empty()
    else:
        expect(scene.form.locator("form")).to_have_attribute("aria-busy", "true")
    yield
    for route in held:
        route.abort()
    scene.page.unroute_all(behavior="ignoreErrors")


@contextmanager
def pending(scene: Scene) -> Iterator[None]:
    scene.fill("anna@kundin.example")
    scene.tick()
    scene.press()
    if scene.native:
        expect(scene.page.locator("h1")).to_have_text(TITLES[scene.locale])
    else:
        expect(scene.form.locator(".doi-done")).to_be_focused()
    yield


@contextmanager
def limited(scene: Scene) -> Iterator[None]:
    scene.stage.proxy.address = SPENT
    client = scene.stage.proxy.app.test_client()
    headers = {"X-Forwarded-For": SPENT, "Accept": "application/json"}
    for _number in range(MANY):
        answer = client.post(f"/f/demo-{scene.locale}", data={"email": "anna"}, headers=headers)
        if answer.status_code == HTTPStatus.TOO_MANY_REQUESTS and "challenge" not in answer.get_json():
            break
    scene.fill("anna.kundin.example")
    scene.press()
    box = scene.form.locator(".box" if scene.native else ".doi-box")
    expect(box).to_be_visible() if scene.native else expect(box).to_be_focused()
    expect(scene.form.locator(".error, .doi-error")).to_have_count(0)
    yield


STATES: tuple[Callable[[Scene], Any], ...] = (initial, error, busy, pending, limited)


def shown(stage: Stage, page: Page, kind: Kind, locale: str) -> Scene:
    page.goto(stage.embedded(kind, f"demo-{locale}"))
    if kind == "popup":
        page.get_by_role("button").click()
    elif kind in ("hosted", "qr"):
        page.get_by_role("link").click()
    form: Page | Frame = page
    if kind == "iframe":
        inner = page.locator("iframe").element_handle().content_frame()
        assert inner is not None
        form = inner
    return Scene(stage, page, form, kind, locale)


@pytest.mark.req("F10")
@pytest.mark.parametrize("locale", ["de", "en"])
@pytest.mark.parametrize("kind", get_args(Kind))
def test_nothing_is_found_when_an_embed_is_seen_in_every_state_and_look(stage: Stage, kind: Kind, locale: str) -> None:
    found = []
    with stage.visit(locale=locale) as page:
        if kind in ("hosted", "qr"):
            # The colours of this page are its owner's; ours are what the link and the picture are called.
            page.goto(stage.embedded(kind, f"demo-{locale}"))
            found += accessibility_violations(page)
        for state in STATES:
            scene = shown(stage, page, kind, locale)
            with state(scene):
                found += findings(page, f"embed-{kind}-{state.__name__}-{locale}")
    assert found == []
