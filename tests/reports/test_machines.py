"""Figures are about people: what machines open is on record, and in no number that anybody is shown."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from flask.testing import FlaskClient

from signup.core.db import database
from tests.support import log

BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
SCANNER = {"User-Agent": "Mozilla/5.0 (Windows NT 10.0) Proofpoint URL Defense"}


def scraped(client: FlaskClient) -> str:
    """The metrics with totals made anew: a scrape does not wait for them, so the first one only begins to count."""
    database().memory.clear()
    client.get("/metrics")
    for thread in threading.enumerate():
        if thread.name == "totals":
            thread.join(30)
    return client.get("/metrics").text


def figures(client: FlaskClient, key: str) -> dict[str, Any]:
    """Every number that staff, programs and monitors get; not the ages, which go on by themselves, nor its log."""
    headers = {"Authorization": f"Bearer {key}", "User-Agent": "figures of the test"}
    lines = scraped(client).splitlines()
    read = {path: client.get(f"/api/v1{path}", headers=headers).get_json() for path in ("/subscriptions", "/contacts")}
    views = [client.get(f"/api/v1/forms/{slug}/views", headers=headers).get_json() for slug in ("demo-de", "demo-en")]
    return {
        "metrics": {line for line in lines if not line.startswith(("#", "signup_log_")) and "_seconds" not in line},
        "views": [answer["views"] for answer in views],
        **read,
    }


@pytest.mark.req("A18")
def test_no_figure_changes_when_machines_open_everything(
    client: FlaskClient, demo: Any, signup_and_confirm: Callable[..., Any], sign_up: Callable[..., Any]
) -> None:
    anna, ben = signup_and_confirm("anna@beispiel.de"), sign_up("ben@beispiel.de")
    paths = [url.removeprefix("http://127.0.0.1:8000") for url in (anna.confirm_url, ben.confirm_url, ben.not_me_url)]
    paths += [anna.unsubscribe_path, "/f/demo-de", "/f/demo-en"]
    before = figures(client, demo.api_key)
    assert 'signup_subscriptions{status="active"} 1.0' in before["metrics"]
    for path in paths:
        assert client.head(path, headers={"User-Agent": BROWSER}).status_code == 200
        assert client.get(path, headers=SCANNER).status_code == 200
    assert figures(client, demo.api_key) == before
    opened = [log.kinds(person.contact_id).count("link.opened") for person in (anna, ben)]
    assert opened == [4, 4]
    client.get("/f/demo-de", headers={"User-Agent": BROWSER})
    assert figures(client, demo.api_key) != before
