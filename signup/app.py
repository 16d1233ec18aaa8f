"""The application: extensions, blueprints, headers, error pages; nothing else."""

from __future__ import annotations

import hashlib
import logging
import time
from datetime import datetime
from functools import lru_cache
from pathlib import Path

from flask import Flask, abort, g, request
from flask.json.provider import DefaultJSONProvider
from flask_babel import format_date, refresh
from flask_migrate import Migrate
from jinja2 import StrictUndefined
from werkzeug.wrappers import Response

from signup import cli, wiring
from signup.abuse import public as abuse_public
from signup.consents import api as consents_api
from signup.contacts import api as contacts_api
from signup.contacts import public as contacts_public
from signup.core import db as database
from signup.core.config import Config
from signup.core.signing import Keys
from signup.core.values import LOCALES
from signup.eventlog import api as eventlog_api
from signup.evidence import api as evidence_api
from signup.evidence import public as evidence_public
from signup.forms import api as forms_api
from signup.forms import embeds as forms_embeds
from signup.forms import public as forms_public
from signup.forms.fields import countries
from signup.intake import api as intake_api
from signup.intake import public as intake_public
from signup.mail import api as mail_api
from signup.mail import compose, mailbox
from signup.mail.postman import mail
from signup.purposes import api as purposes_api
from signup.purposes import public as purposes_public
from signup.purposes.tone import TonedBabel
from signup.reports import public as reports_public
from signup.subscriptions import api as subscriptions_api
from signup.subscriptions import choices, inbox, lost
from signup.subscriptions import public as subscriptions_public
from signup.transfer import api as transfer_api
from signup.web import errors, openapi
from signup.web.request import PUBLIC_CSP
from signup.webhooks import api as webhooks_api

ROOT = Path(__file__).parents[1]
STATIC = Path(__file__).parent / "static"
# A file whose content is in its URL never changes.
YEAR_SECONDS = 31_536_000
# More boxes than any form has, few enough to be read at once.
MAX_FORM_PARTS = 5000

# What every answer says unless its view says otherwise.
SECURITY_HEADERS = {
    "Content-Security-Policy": PUBLIC_CSP,
    "Referrer-Policy": "strict-origin-when-cross-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), interest-cohort=()",
}

BLUEPRINTS = (
    forms_public.blueprint,
    abuse_public.blueprint,
    forms_embeds.blueprint,
    subscriptions_public.blueprint,
    contacts_public.blueprint,
    inbox.blueprint,
    choices.blueprint,
    lost.blueprint,
    reports_public.blueprint,
    purposes_public.blueprint,
    forms_api.blueprint,
    mail_api.blueprint,
    purposes_api.blueprint,
    subscriptions_api.blueprint,
    contacts_api.blueprint,
    consents_api.blueprint,
    eventlog_api.blueprint,
    evidence_api.blueprint,
    evidence_public.blueprint,
    evidence_public.receipts,
    transfer_api.blueprint,
    webhooks_api.blueprint,
    intake_api.blueprint,
    intake_public.blueprint,
    openapi.blueprint,
)

access_log = logging.getLogger("signup.access")


def create_app(config: Config) -> Flask:
    """The application for `config`, ready to serve."""
    app = Flask("signup", template_folder=str(ROOT / "templates"), static_folder=str(STATIC))
    app.config.update(
        MAX_CONTENT_LENGTH=errors.MAX_BODY_BYTES,
        # Every format has the same limit: the body's.
        MAX_FORM_MEMORY_SIZE=errors.MAX_BODY_BYTES,
        MAX_FORM_PARTS=MAX_FORM_PARTS,
        SEND_FILE_MAX_AGE_DEFAULT=3600,
        BABEL_DEFAULT_LOCALE="en",
        BABEL_TRANSLATION_DIRECTORIES=str(Path(__file__).parent / "translations"),
    )
    app.json = _json(app)
    app.extensions["signup.config"] = config
    keys = Keys(config.secret_keys, config.pepper, config.data_key, config.data_key_fallbacks)
    database.init_app(app, config, keys)
    Migrate(app, database.db, directory=str(ROOT / "migrations"), render_as_batch=config.sqlite)
    _init_mail(app, config)
    _init_pages(app)
    errors.install(app)
    wiring.subscribe_all()
    cli.register(app)
    for blueprint in BLUEPRINTS:
        app.register_blueprint(blueprint)
    if config.development:
        app.register_blueprint(mailbox.blueprint)
    return app


def _json(app: Flask) -> DefaultJSONProvider:
    """Names as they are, in the order they were written."""
    provider = DefaultJSONProvider(app)
    provider.sort_keys = False
    provider.ensure_ascii = False
    return provider


def _init_mail(app: Flask, config: Config) -> None:
    if config.mail is not None:
        settings = config.mail
        app.config.update(
            MAIL_SERVER=settings.server,
            MAIL_PORT=settings.port,
            MAIL_USE_TLS=settings.use_tls,
            MAIL_USE_SSL=settings.use_ssl,
            MAIL_USERNAME=settings.username,
            MAIL_PASSWORD=settings.password,
            MAIL_DEFAULT_SENDER=settings.default_sender,
        )
    mail.init_app(app)


def _init_pages(app: Flask) -> None:
    TonedBabel(app, locale_selector=_locale, timezone_selector=_timezone)
    app.jinja_env.undefined = StrictUndefined
    app.jinja_env.filters["datetime"] = _long_time
    app.jinja_env.filters["date"] = _long_date
    app.jinja_env.globals["static_url"] = static_url
    app.jinja_env.globals["countries"] = countries
    app.jinja_env.globals["theme_url"] = purposes_public.theme_url
    app.context_processor(lambda: {"locale": _locale(), "accent": g.get("accent")})
    app.before_request(_start)
    app.after_request(_finish)


def _locale() -> str:
    """The language of the form or mail that led here; without one, the visitor's own."""
    chosen = g.get("locale")
    if chosen:
        return str(chosen)
    return (request.accept_languages.best_match(LOCALES) if request else None) or "en"


def _timezone() -> str:
    """The zone of the controller whose page this is."""
    return str(g.get("timezone") or "Europe/Berlin")


def _long_time(moment: datetime) -> str:
    return compose.local_time(moment, _locale(), _timezone())


def _long_date(moment: datetime) -> str:
    return str(format_date(moment, "long"))


@lru_cache(maxsize=64)
def static_url(name: str) -> str:
    """The URL of a static file, with its content in it."""
    digest = hashlib.sha256((STATIC / name).read_bytes()).hexdigest()[:12]
    return f"/static/{name}?v={digest}"


def _start() -> None:
    g.started = time.perf_counter()
    # A caller may keep one application context over several requests; a language must not travel with it.
    g.pop("locale", None)
    g.pop("accent", None)
    g.pop("informal", None)
    g.pop("timezone", None)
    g.pop("form_view", None)
    refresh()
    errors.bound_body()
    if "\x00" in request.path:
        # Nothing has such a name, and PostgreSQL cannot even be asked for it.
        abort(404)


def _finish(response: Response) -> Response:
    headers = response.headers
    present = {name.lower() for name, _ in headers}
    for name, value in SECURITY_HEADERS.items():
        if name.lower() not in present:
            headers.add(name, value)
    if "frame-ancestors 'self'" in headers["Content-Security-Policy"]:
        # A page made for frames: the older header knows no list of sites.
        del headers["X-Frame-Options"]
    if request.is_secure:
        headers.setdefault("Strict-Transport-Security", "max-age=31536000")
    if request.endpoint == "static" and request.args.get("v"):
        headers["Cache-Control"] = f"public, max-age={YEAR_SECONDS}, immutable"
    milliseconds = int((time.perf_counter() - g.get("started", time.perf_counter())) * 1000)
    # The route, not the path: paths hold tokens.
    route = request.url_rule.rule if request.url_rule else "-"
    access_log.info(
        "request", extra={"method": request.method, "route": route, "status": response.status_code, "ms": milliseconds}
    )
    return response
