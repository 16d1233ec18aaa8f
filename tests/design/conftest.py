"""A small application that renders the project's own templates with plausible data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from flask import Flask, render_template, url_for
from flask_babel import Babel, format_date, get_locale
from jinja2 import StrictUndefined

from signup.forms.fields import countries
from signup.mail.compose import local_time
from signup.purposes.public import theme_url
from tests.design import samples

ROOT = Path(__file__).resolve().parents[2]
TEMPLATES = ROOT / "templates"
STATIC = ROOT / "signup" / "static"
TRANSLATIONS = ROOT / "signup" / "translations"
POLICY = (
    "default-src 'none'; style-src 'self'; img-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
)


class Renderer:
    """Renders a page in one language, as the real application does."""

    def __init__(self) -> None:
        self.language = "de"
        app = Flask("tests.design", template_folder=str(TEMPLATES), static_folder=str(STATIC))
        app.config["BABEL_TRANSLATION_DIRECTORIES"] = str(TRANSLATIONS)
        app.config["BABEL_DEFAULT_TIMEZONE"] = "Europe/Berlin"
        app.jinja_env.undefined = StrictUndefined
        app.jinja_env.filters["datetime"] = lambda when: local_time(when, self.language, "Europe/Berlin")
        app.jinja_env.filters["date"] = lambda when: format_date(when, "long")
        app.jinja_env.globals["static_url"] = lambda name: url_for("static", filename=name)
        app.jinja_env.globals["countries"] = countries
        app.jinja_env.globals["theme_url"] = theme_url
        Babel(app, locale_selector=lambda: self.language)
        app.context_processor(lambda: {"locale": str(get_locale())})
        app.add_url_rule("/page/<language>/<name>", "page", self._page)
        app.add_url_rule("/mail/<language>/<name>", "mail", self._mail)
        app.after_request(self._headers)
        self.app = app

    def _headers(self, response: Any) -> Any:
        policy = POLICY
        if response.headers.pop("X-Mail", None):
            # A mail client allows the mail's own style attributes, and nothing else.
            policy = "default-src 'none'; style-src 'unsafe-inline'"
        response.headers["Content-Security-Policy"] = policy
        return response

    def _page(self, language: str, name: str) -> str:
        self.language = language
        template, values = pages(language)[name]
        return render_template(template, **{"controller": samples.CONTROLLER, **values})

    def _mail(self, language: str, name: str) -> tuple[str, dict[str, str]]:
        return self.mail(name, "body.html", language), {"X-Mail": "1"}

    def page(self, language: str, name: str) -> str:
        """Return the page as the browser gets it."""
        response = self.app.test_client().get(f"/page/{language}/{name}")
        assert response.status_code == 200
        return response.get_data(as_text=True)

    def mail(self, name: str, part: str, language: str, **changes: Any) -> str:
        """Return one part of a mail."""
        values = {
            "controller": samples.CONTROLLER,
            "purposes": samples.PURPOSES[language[:2]],
            "valid_days": 7,
            "way": "link-or-code",
            "picture": None,
            "letter": samples.LETTER,
            **samples.MAIL_PLACEHOLDERS,
            **changes,
        }
        return self.app.jinja_env.get_template(f"mail/{name}/{part}/{language}").render(values)


def pages(language: str) -> dict[str, tuple[str, dict[str, Any]]]:
    """All sample pages in one language."""
    return {**samples.public_pages(language), **samples.english_pages()}


@pytest.fixture(scope="session")
def renderer() -> Renderer:
    return Renderer()
