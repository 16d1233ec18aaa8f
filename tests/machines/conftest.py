"""Two machines for all tests of this folder; each test begins with nobody signed up."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace

import pytest

from signup.core.db import reading, transaction
from signup.core.values import utc_now
from signup.purposes import actions as purposes
from signup.staff import access
from tests.machines.fleet import Fleet, running_fleet
from tests.support.postgres import PostgresServer


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "/machines/" in item.path.as_posix():
            item.add_marker(pytest.mark.slow)
            item.add_marker(pytest.mark.postgres)


@pytest.fixture(scope="session")
def started_fleet(postgres_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    url = postgres_server.create_database()
    with running_fleet(tmp_path_factory.mktemp("machines"), url) as fleet:
        yield fleet


@pytest.fixture
def fleet(started_fleet: Fleet) -> Fleet:
    started_fleet.begin()
    return started_fleet


@pytest.fixture
def office(fleet: Fleet) -> SimpleNamespace:
    """What the operator knows: the demo's controller, and a key with all scopes."""
    with reading() as session:
        controller = purposes.find_controller(session, "beispiel")
    with transaction() as session:
        key = access.create_key(session, controller.id, "machines", list(access.SCOPES), now=utc_now())
    return SimpleNamespace(controller=controller, key_id=key.id, api_key=key.secret)
