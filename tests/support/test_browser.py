from pathlib import Path

import pytest
from playwright.sync_api import Browser

from tests.support import browser as rig
from tests.support.browser import accessibility_violations
from tests.support.receiver import Answer, running_receiver

pytestmark = pytest.mark.browser

STRICT = {
    "Content-Type": "text/html; charset=utf-8",
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'",
}
GOOD = (
    "<!doctype html><html lang=en><title>Sign up</title><main><h1>Sign up</h1>"
    "<form method=post><label>E-mail <input name=email></label><button>Send</button></form></main></html>"
)
BAD = "<!doctype html><html><title></title><input><img src=x></html>"


def test_a_form_is_sent_when_driven_under_a_strict_policy(chromium: Browser) -> None:
    with running_receiver() as receiver:
        receiver.default = Answer(200, STRICT, GOOD.encode())
        page = chromium.new_page()
        page.goto(receiver.url)
        page.get_by_label("E-mail").fill("a@example.org")
        page.get_by_role("button", name="Send").click()
        page.wait_for_selector("h1")
        posts = [request for request in receiver.requests if request.method == "POST"]
        page.close()
    assert [post.body for post in posts] == [b"email=a%40example.org"]


@pytest.mark.parametrize(("body", "clean"), [(GOOD, True), (BAD, False)], ids=["good", "bad"])
def test_axe_judges_the_page_when_its_policy_forbids_scripts(chromium: Browser, body: str, clean: bool) -> None:
    with running_receiver() as receiver:
        receiver.default = Answer(200, STRICT, body.encode())
        page = chromium.new_page()
        page.goto(receiver.url)
        found = accessibility_violations(page)
        page.close()
    assert (found == []) is clean, found


def test_axe_judges_the_final_colours_when_a_change_is_under_way(chromium: Browser) -> None:
    body = (
        "<!doctype html><html lang=en><title>t</title><style>"
        "a { color: #000; transition: color .3s } main { background: #fff }"
        "@media (prefers-color-scheme: dark) { a { color: #fff } main { background: #000 } }"
        "</style><main><h1>t</h1><a href=/>Sign up</a></main></html>"
    )
    with running_receiver() as receiver:
        receiver.default = Answer(200, {"Content-Type": "text/html"}, body.encode())
        page = chromium.new_page()
        page.goto(receiver.url)
        for scheme in ("dark", "light"):
            page.emulate_media(color_scheme=scheme)
            assert [line for line in accessibility_violations(page) if "contrast" in line] == []
        page.close()


def test_axe_is_refused_when_the_vendored_file_was_changed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "axe.min.js").write_text("changed")
    (tmp_path / "README.md").write_text((rig.VENDOR / "README.md").read_text())
    monkeypatch.setattr(rig, "VENDOR", tmp_path)
    with pytest.raises(RuntimeError, match="not the file"):
        rig.axe_source()
