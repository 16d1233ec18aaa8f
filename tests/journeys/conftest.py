"""The whole service as people meet it: gunicorn, a worker, a mail server, a webhook receiver, a browser."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from flask import Flask

from signup.app import create_app
from signup.core.config import Config
from signup.core.db import database
from tests.conftest import Place, environment
from tests.journeys.world import Api
from tests.support.servers import Service, running_service
from tests.support.smtp import ScriptedSmtp


@pytest.fixture
def service(place: Place, smtp_server: ScriptedSmtp) -> Iterator[Service]:
    """The seeded demo served by real processes on this test's own database and mail server."""
    settings = environment(place.folder, place.url, MAIL_PORT=str(smtp_server.port))
    # The service listens on a port of its own, which running_service knows.
    del settings["PUBLIC_URL"]
    with running_service(place.folder, database_url=place.url, migrate=False, **settings) as running:
        yield running


@pytest.fixture
def inside(service: Service) -> Iterator[Flask]:
    """A look into the database of the running service, with an app context pushed."""
    app = create_app(Config.from_env(service.environ))
    with app.app_context():
        yield app
        database().engine.dispose()


@pytest.fixture
def api(service: Service, place: Place) -> Api:
    return Api(service.url, place.api_key)
