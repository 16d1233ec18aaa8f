"""People behind a proxy, so that each test chooses their networks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

JSON = {"Accept": "application/json"}
Post = Callable[..., TestResponse]


@pytest.fixture
def settings() -> dict[str, str]:
    """Addresses of clients come from a proxy, and fifty sign-ups an hour are many."""
    return {"SIGNUP_TRUSTED_PROXIES": "1", "SIGNUP_FORM_PER_HOUR": "50"}


@pytest.fixture
def post(client: FlaskClient) -> Post:
    """Sign up `email` from `ip`; more fields as keywords."""

    def act(
        email: str,
        ip: str = "198.51.100.9",
        *,
        form: str = "demo-de",
        headers: dict[str, str] | None = None,
        **more: Any,
    ) -> TestResponse:
        data = {"email": email, "purpose": "product-news", **more}
        return client.post(f"/f/{form}", data=data, headers={"X-Forwarded-For": ip, **(headers or {})})

    return act
