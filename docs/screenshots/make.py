"""Takes the pictures of the README from a running service: start `bin/run`, then

    .venv/bin/python docs/screenshots/make.py [URL]

A fresh installation makes the cleanest pictures: `SIGNUP_INSTANCE=$(mktemp -d) bin/run`.
"""

from __future__ import annotations

import secrets
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from playwright.sync_api import Browser, Page, expect

from tests.support.browser import open_browser

FOLDER = Path(__file__).parent
PHONE, DESK = (360, 640), (1280, 800)
# The picture at the top of the README.
README = (760, 800)
# Younger pages are answered with "please press once more".
READING_MILLISECONDS = 1200


@contextmanager
def visit(browser: Browser, size: tuple[int, int], scheme: str = "light") -> Iterator[Page]:
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]},
        color_scheme=scheme,  # type: ignore[arg-type]
        locale="de-DE",
        timezone_id="Europe/Berlin",
        reduced_motion="reduce",
    )
    yield context.new_page()
    context.close()


def shoot(page: Page, name: str, *, whole: bool = True) -> None:
    page.screenshot(path=FOLDER / f"{name}.png", full_page=whole, scale="css")


def show(browser: Browser, url: str, name: str, *looks: tuple[tuple[int, int], str], whole: bool = True) -> None:
    """One picture of a page for each size and colour scheme."""
    for size, scheme in looks:
        with visit(browser, size, scheme) as page:
            page.goto(url)
            shoot(page, f"{name}-{size[0]}-{scheme}", whole=whole)


def sign_up(browser: Browser, url: str, address: str) -> None:
    with visit(browser, PHONE) as page:
        page.goto(f"{url}/f/demo-de")
        page.get_by_label("E-Mail-Adresse").fill(address)
        page.get_by_label("Produktneuheiten").check()
        shoot(page, "form-filled-360-light")
        page.get_by_role("button", name="Anmelden").click()
        expect(page.locator("h1")).to_have_text("Bitte sehen Sie in Ihr Postfach")
        shoot(page, "pending-360-light")


def wrong(browser: Browser, url: str) -> None:
    """What a slip looks like: beside its field, and summed up above."""
    with visit(browser, PHONE) as page:
        page.goto(f"{url}/f/demo-de")
        page.get_by_label("E-Mail-Adresse").fill("anna.kundin.example")
        page.get_by_role("button", name="Anmelden").click()
        expect(page.locator(".error")).to_have_count(2)
        shoot(page, "form-errors-360-light")


def mailed_link(browser: Browser, url: str, address: str) -> str:
    """The confirmation link in the mail as the mailbox page shows it."""
    with visit(browser, DESK) as page:
        page.goto(f"{url}/dev/mailbox")
        while page.get_by_text(f"to {address}").count() == 0:
            page.wait_for_timeout(200)
            page.reload()
        shoot(page, "mailbox-1280-light")
        page.locator("li", has_text=f"to {address}").get_by_role("link").click()
        shoot(page, "mail-1280-light", whole=False)
        letter = page.get_by_role("link", name="HTML part").evaluate("node => node.href")
        show(browser, letter, "letter", (PHONE, "light"), (PHONE, "dark"), (DESK, "light"))
        link = page.get_by_text(f"{url}/confirm/").first.inner_text()
        return next(word for word in link.split() if word.startswith(f"{url}/confirm/"))


def confirm(browser: Browser, link: str) -> tuple[str, str]:
    """Confirms and returns the link that ends it again, and the one to the preferences."""
    with visit(browser, PHONE) as page:
        page.goto(link)
        page.wait_for_timeout(READING_MILLISECONDS)
        page.get_by_role("button", name="Ja, ich möchte das").click()
        expect(page.locator("h1")).to_have_text("Sie sind angemeldet")
        shoot(page, "confirmed-360-light")
        farewell, less = (
            page.locator(f"a[href*='/{name}/']").get_attribute("href") for name in ("unsubscribe", "preferences")
        )
        return farewell or "", less or ""


def leave(browser: Browser, link: str) -> None:
    with visit(browser, PHONE) as page:
        page.goto(link)
        page.wait_for_timeout(READING_MILLISECONDS)
        page.get_by_role("button", name="Jetzt abmelden").click()
        expect(page.locator("h1")).to_have_text("Sie sind abgemeldet")
        shoot(page, "unsubscribed-360-light")


def host_page(url: str, snippet: str) -> str:
    """A plain site of somebody else with a form of ours in it."""
    style = (
        "body{margin:0;background:Canvas;color:CanvasText;font:17px/1.6 system-ui,'Noto Sans',sans-serif}"
        "main{max-width:60rem;margin:auto;padding:32px 20px;display:grid;gap:32px;align-items:start;"
        "grid-template-columns:repeat(auto-fit,minmax(min(100%,20rem),1fr))}"
        "h1{margin:0 0 12px;font-size:30px;line-height:1.2}p{margin:0 0 12px}"
    )
    return (
        '<!doctype html><html lang="de"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
        f'<meta name="color-scheme" content="light dark"><title>Werkstatt</title><style>{style}</style><main><div>'
        "<h1>Wie wir Getriebe prüfen</h1><p>Vor jeder Auslieferung läuft ein Getriebe vier Stunden auf dem Prüfstand. "
        "Was dabei auffällt, steht in einem Protokoll, das der Kunde bekommt.</p><p>Zweimal im Monat schreiben wir "
        f'auf, was wir dabei lernen.</p></div><div>{snippet}</div></main><script type="module" src="{url}/embed/v1.js">'
        "</script></html>"
    )


@contextmanager
def host_site(html: str) -> Iterator[str]:
    """A site on another origin whose every page is `html`."""

    class Page(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(html.encode())

        def log_message(self, *_arguments: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    server.server_close()


def embeds(browser: Browser, url: str) -> None:
    """The form on a site of somebody else, before and after it was sent, and as a dialog."""
    with host_site(host_page(url, '<doi-form form="demo-de"></doi-form>')) as site:
        for size, scheme in ((PHONE, "light"), (PHONE, "dark"), (DESK, "light"), (DESK, "dark")):
            with visit(browser, size, scheme) as page:
                page.goto(site)
                expect(page.get_by_label("E-Mail-Adresse")).to_be_visible()
                shoot(page, f"embed-{size[0]}-{scheme}")
        with visit(browser, PHONE) as page:
            page.goto(site)
            page.get_by_label("E-Mail-Adresse").fill(f"bea.{secrets.token_hex(2)}@kundin.example")
            page.get_by_label("Produktneuheiten").check()
            page.get_by_role("button", name="Anmelden").click()
            expect(page.locator(".doi-done")).to_be_visible()
            shoot(page, "embed-sent-360-light")
        with visit(browser, PHONE, "dark") as page:
            page.goto(site)
            page.get_by_label("E-Mail-Adresse").fill("bea.kundin.example")
            page.get_by_role("button", name="Anmelden").click()
            expect(page.locator(".doi-error")).to_have_count(2)
            shoot(page, "embed-errors-360-dark")
    popup = f'<a href="{url}/f/demo-de" data-doi-popup="demo-de">Neuigkeiten abonnieren</a>'
    with host_site(host_page(url, popup)) as site, visit(browser, DESK) as page:
        page.goto(site)
        page.get_by_role("button", name="Neuigkeiten abonnieren").click()
        expect(page.get_by_role("dialog")).to_be_visible()
        shoot(page, "popup-1280-light", whole=False)


def main(url: str) -> None:
    address = f"anna.{secrets.token_hex(2)}@kundin.example"
    with open_browser() as browser:
        show(browser, f"{url}/f/demo-de", "form", (PHONE, "light"), (PHONE, "dark"), (DESK, "light"), (DESK, "dark"))
        show(browser, f"{url}/f/demo-en", "form-en", (PHONE, "light"))
        with visit(browser, README) as page:
            page.goto(f"{url}/f/demo-en")
            shoot(page, "form", whole=False)
        wrong(browser, url)
        embeds(browser, url)
        sign_up(browser, url, address)
        link = mailed_link(browser, url, address)
        show(browser, link, "confirm", (PHONE, "light"), (PHONE, "dark"), (DESK, "light"))
        farewell, less = confirm(browser, link)
        show(browser, less, "preferences", (PHONE, "light"), (PHONE, "dark"), (DESK, "light"))
        show(browser, farewell, "unsubscribe", (PHONE, "light"), (PHONE, "dark"))
        leave(browser, farewell)
        show(browser, f"{url}/api/v1/docs", "api-docs", (DESK, "light"), whole=False)
    for path in sorted(FOLDER.glob("*.png")):
        sys.stdout.write(f"{path.name} {path.stat().st_size // 1024} KB\n")


if __name__ == "__main__":
    main(sys.argv[1].rstrip("/") if len(sys.argv) > 1 else "http://127.0.0.1:8000")
