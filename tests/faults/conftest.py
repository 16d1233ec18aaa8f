"""One installation for all faults of a file, on each database: each test ends its fault, and what runs goes on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.cluster import Cluster, running_cluster
from tests.faults.rig import Rig, running_rig
from tests.support.needs import missing
from tests.support.postgres import PostgresMissing


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "/faults/" in item.path.as_posix():
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """A PostgreSQL that may be stopped; its log files are small, so that a limit on file sizes leaves them alone."""
    try:
        with running_cluster("--wal-segsize=1") as running:
            yield running
    except PostgresMissing as absent:
        missing(str(absent))


@pytest.fixture(scope="module", params=["sqlite", pytest.param("postgres", marks=pytest.mark.postgres)])
def rig(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    folder: Path = tmp_path_factory.mktemp("rig")
    url = None
    if request.param == "postgres":
        url = request.getfixturevalue("cluster").server.create_database()
    with running_rig(folder, url, fast=getattr(request.module, "FAST", False)) as running:
        yield running
