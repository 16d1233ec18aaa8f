"""A running service, and a page on another origin that embeds its forms under the strictest policy."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from playwright.sync_api import Browser, BrowserContext, Page
from sqlalchemy import select
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wrappers import Request, Response

from signup.app import create_app
from signup.consents.models import Consent
from signup.contacts.models import Contact
from signup.core.config import Config
from signup.core.db import database, reading
from signup.forms import actions as forms
from signup.forms import embedding
from signup.subscriptions.models import Subscription
from tests.conftest import environment
from tests.support.ports import free_port

HEAD = (
    '<!doctype html><html lang="{locale}"><head><meta charset="utf-8"><title>Host</title><meta name="viewport" '
    'content="width=device-width, initial-scale=1"><meta name="color-scheme" content="light dark"></head>'
    "<body><main><h1>Host</h1>{snippet}</main></body></html>"
)


class Quiet(WSGIRequestHandler):
    """Serves without a line per request."""

    def log(self, *_arguments: Any) -> None:
        return


@contextmanager
def serving(application: Any, port: int = 0) -> Iterator[str]:
    server = make_server("127.0.0.1", port, application, threaded=True, request_handler=Quiet)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class Host:
    """A site of somebody else: pages by path, each with its own policy."""

    def __init__(self) -> None:
        self.pages: dict[str, tuple[str, str]] = {}
        self.url = ""

    def __call__(self, environ: Any, start: Any) -> Any:
        body, policy = self.pages.get(Request(environ).path, ("", ""))
        headers = {"Content-Security-Policy": policy} if policy else {}
        return Response(body, 200 if body else 404, headers, mimetype="text/html")(environ, start)

    def put(self, path: str, snippet: str, policy: str, locale: str = "de") -> str:
        self.pages[path] = (HEAD.format(locale=locale, snippet=snippet), policy)
        return self.url + path


class Proxy:
    """Stands before the service and says where visitors come from: each from a network of their own."""

    def __init__(self, app: Flask) -> None:
        self.app, self.visitors, self.address = app, 0, ""

    def next_visitor(self) -> None:
        self.visitors += 1
        self.address = f"203.0.{self.visitors}.7"

    def __call__(self, environ: Any, start: Any) -> Any:
        environ["HTTP_X_FORWARDED_FOR"] = self.address
        return self.app(environ, start)


class Stage:
    """Service, host and browser together."""

    def __init__(self, proxy: Proxy, url: str, host: Host, browser: Browser) -> None:
        self.proxy, self.url, self.host, self.browser = proxy, url, host, browser

    def embed(self, kind: Any, slug: str = "demo-de") -> embedding.Embed:
        with reading() as session:
            view = forms.in_force(session, slug)
        return embedding.embed(view, kind, self.url)

    def embedded(self, kind: Any, slug: str = "demo-de", add: str = "") -> str:
        """The address of a host page with the snippet, under a policy of just what the snippet says it needs."""
        made = self.embed(kind, slug)
        policy = "; ".join(["default-src 'none'", *made.csp])
        return self.host.put(f"/{kind}-{slug}", made.html + add, policy, slug[-2:])

    @contextmanager
    def visit(self, **options: Any) -> Iterator[Page]:
        """A visitor's page; whatever the browser complains of is on `page.complaints`."""
        self.proxy.next_visitor()
        context: BrowserContext = self.browser.new_context(**options)
        page = context.new_page()
        page.set_default_timeout(10_000)
        complaints: list[str] = []
        page.on("console", lambda said: complaints.append(said.text) if said.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.complaints = complaints  # type: ignore[attr-defined]
        yield page
        context.close()

    def pending(self) -> dict[str, tuple[Any, ...]]:
        """Who waits to confirm, and all that is the same of two who signed up in the same way."""
        with reading() as session:
            rows = session.execute(
                select(Contact.email, Subscription.status, Consent.state, Consent.text_sha256, Consent.form_version_id)
                .join(Subscription, Subscription.contact_id == Contact.id)
                .join(Consent, Consent.contact_id == Contact.id)
            )
            return {str(row[0]): tuple(row[1:]) for row in rows}


@pytest.fixture
def stage(sqlite_template: Path, tmp_path: Path, chromium: Browser) -> Iterator[Stage]:
    shutil.copy(sqlite_template, tmp_path / "signup.db")
    port = free_port()
    settings = {"PUBLIC_URL": f"http://127.0.0.1:{port}", "SIGNUP_TRUSTED_PROXIES": "1"}
    app = create_app(Config.from_env(environment(tmp_path, **settings)))
    host, proxy = Host(), Proxy(app)
    with serving(proxy, port) as url, serving(host) as host.url, app.app_context():
        yield Stage(proxy, url, host, chromium)
        database().engine.dispose()
