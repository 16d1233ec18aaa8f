"""Fixtures of the rig, for all tests: tests/conftest.py names this file in `pytest_plugins`.

Never import one: a second `chromium` in the same process cannot start.
"""

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser

from tests.support.browser import BrowserMissing, find_browser, open_browser
from tests.support.nameserver import NameServer, running_nameserver
from tests.support.needs import missing
from tests.support.postgres import PostgresMissing, PostgresServer, running_postgres
from tests.support.receiver import Receiver, running_receiver
from tests.support.smtp import ScriptedSmtp, running_smtp


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        # A journey starts gunicorn and a worker.
        if "/journeys/" in item.path.as_posix():
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    """One server for all tests of this process, started by the first that asks. Mark such tests `postgres`."""
    try:
        with running_postgres() as server:
            yield server
    except PostgresMissing as absent:
        missing(str(absent))


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """One headless browser for all tests of this process. Mark such tests `browser`."""
    try:
        find_browser()
    except BrowserMissing as absent:
        missing(str(absent))
    with open_browser() as browser:
        yield browser


@pytest.fixture
def smtp_server() -> Iterator[ScriptedSmtp]:
    with running_smtp() as server:
        yield server


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with running_receiver() as server:
        yield server


@pytest.fixture
def nameserver() -> Iterator[NameServer]:
    with running_nameserver() as server:
        yield server
