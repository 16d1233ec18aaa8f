"""Telling the outside: every publication becomes what is owed to endpoints, and has its place in the feed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from sqlalchemy import exists, select

from signup.core.db import Session, reading, transaction
from signup.eventlog import history
from signup.eventlog.models import Publication
from signup.eventlog.record import Published
from signup.webhooks.models import Delivery
from signup.webhooks.types import TEST_TYPE

# One row an endpoint; ids of a publication and an endpoint hold no dot, so neither does the delivery's.
_FAN_OUT = (
    "FROM (SELECT CAST(? AS TEXT) AS publication) p "
    "JOIN endpoint_type t ON t.controller_id = ? AND t.type = ? "
    "JOIN (SELECT id, state FROM endpoint WHERE controller_id = ? ORDER BY id{lock}) e ON e.id = t.endpoint_id "
    "WHERE e.state IN ('active', 'paused', 'disabled')"
)
# On PostgreSQL an endpoint that is being paused at this moment is waited for, so that no row is left behind as due.
# All of the controller's are locked, asked or not, in the order in which a pause locks them: two publications of one
# commit may go to different endpoints, and then neither order of those alone would be safe.
_LOCK = {"postgresql": " FOR SHARE"}
_ONCE = " ON CONFLICT (publication_id, endpoint_id) DO NOTHING"
_COMPUTED = {
    "id": "'dlv_' || substr(p.publication, 5) || '_' || substr(e.id, 4)",
    "publication_id": "p.publication",
    "endpoint_id": "e.id",
    "state": "CASE WHEN e.state = 'active' THEN 'due' ELSE 'held' END",
}


def fan_out(session: Session, published: Published) -> None:
    """Every endpoint that asked for this type is owed one delivery, once the caller commits.

    An active endpoint's is due at once. One that is paused or disabled has it held: nothing is dropped.
    The rows are made by the database in the statement that writes the publication.
    """
    if published.type == TEST_TYPE:
        return
    source = _FAN_OUT.format(lock=_LOCK.get(session.get_bind().dialect.name, ""))
    session.put_select(
        Delivery,
        delivery_row(published.controller_id, "event", now=published.created_at),
        _COMPUTED,
        source + _ONCE,
        [published.id, published.controller_id, published.type, published.controller_id],
    )


def delivery_row(controller_id: str, trigger: str, *, now: datetime) -> dict[str, Any]:
    """What is the same in every fresh delivery; id, publication, endpoint and state are the caller's."""
    return {
        "controller_id": controller_id,
        "next_at": now,
        "attempt": 0,
        "lease_token": None,
        "trigger": trigger,
        "created_at": now,
        "finished_at": None,
    }


class Numbering:
    """Gives new publications their place in the feed, a batch a call. No job row: at rest it only asks."""

    def __call__(self, _clock: Callable[[], datetime]) -> int:
        with reading() as session:
            if not session.scalar(select(exists().where(Publication.seq.is_(None)))):
                return 0
        with transaction() as session:
            return history.number_publications(session)

    def close(self, _clock: Callable[[], datetime]) -> None:
        """Nothing is held between two calls."""
