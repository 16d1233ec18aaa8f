"""A client that speaks the API, for the demo controller and for a stranger's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask
from werkzeug.test import TestResponse

from signup.core.db import transaction
from signup.core.values import utc_now
from signup.purposes import actions as purposes
from signup.purposes.actions import NewController
from signup.staff import access


@dataclass
class Api:
    """Calls with one key; headers and content as a program sends them."""

    app: Flask
    key: str | None

    def __call__(self, method: str, path: str, content: Any = None, **headers: str) -> TestResponse:
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if self.key is not None:
            sent["Authorization"] = f"Bearer {self.key}"
        more: dict[str, Any] = {"json": content} if content is not None else {}
        # A client of its own for each call: tests call from several threads.
        return self.app.test_client().open(f"/api/v1{path}", method=method, headers=sent, **more)

    def get(self, path: str) -> TestResponse:
        return self("GET", path)

    def post(self, path: str, content: Any = None, **headers: str) -> TestResponse:
        return self("POST", path, content, **headers)


ORIGIN = {"type": "fair", "detail": "Hannover 2026, hall 4", "collected_by": "J. Meier"}


@pytest.fixture
def api(app: Flask, demo: SimpleNamespace) -> Api:
    return Api(app, demo.api_key)


@pytest.fixture
def key_with(app: Flask, demo: SimpleNamespace) -> Callable[..., Api]:
    """An API client whose key has just these scopes."""

    def make(*scopes: str) -> Api:
        with transaction() as session:
            made = access.create_key(session, demo.controller.id, "some", scopes, now=utc_now())
        return Api(app, made.secret)

    return make


@pytest.fixture
def stranger(app: Flask, demo: SimpleNamespace) -> Api:
    """A key with all scopes of another controller, which has a contact of its own."""
    new = NewController(
        slug="fremd",
        name="Fremd AG",
        address="Weg 1, 12345 Ort",
        sender="news@fremd.example",
        imprint_url="https://fremd.example/i",
        privacy_url="https://fremd.example/p",
    )
    with transaction() as session:
        controller = purposes.create_controller(session, new, now=utc_now())
        text = {"de": "Ja.", "en": "Yes."}
        purposes.create_purpose(session, controller.id, "foreign", label=text, hint={}, text=text, now=utc_now())
        made = access.create_key(session, controller.id, "all", list(access.SCOPES), now=utc_now())
    return Api(app, made.secret)
