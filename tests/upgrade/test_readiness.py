"""A balancer keeps a machine whose program is older than the database, and none whose program is newer."""

from __future__ import annotations

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import text

from signup.core.db import transaction


@pytest.mark.parametrize(("revision", "status"), [("9999", 200), ("0000", 503)])
def test_the_program_is_ready_when_the_database_is_not_older(
    app: Flask, client: FlaskClient, revision: str, status: int
) -> None:
    assert client.get("/readyz").status_code == 200
    with transaction() as session:
        session.execute(text("UPDATE alembic_version SET version_num = :revision"), {"revision": revision})
    assert client.get("/readyz").status_code == status
