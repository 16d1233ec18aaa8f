"""Waiting until somebody waits."""

from __future__ import annotations

from sqlalchemy import text

from signup.core.db import database
from tests.support.waiting import wait_for


def wait_for_a_lock() -> None:
    """Somebody on this PostgreSQL database waits for a lock that another one holds."""
    query = text(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    )

    def waiting() -> bool:
        with database().engine.connect() as connection:
            return bool(connection.scalar(query))

    wait_for(waiting, describe="somebody who waits for us")
