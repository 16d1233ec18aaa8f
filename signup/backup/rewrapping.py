"""A new SIGNUP_DATA_KEY comes into use everywhere; the former one can then be destroyed."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from sqlalchemy import select, update

from signup.contacts.models import DataKey
from signup.core.db import Session, affected, transaction
from signup.core.errors import Conflict
from signup.eventlog.kinds import EventType
from signup.eventlog.record import record
from signup.intake.models import InboundReport
from signup.mail.models import DkimKey
from signup.staff.models import IdempotencyKey
from signup.webhooks.models import Endpoint

# One batch holds the writers' lock for a few milliseconds.
BATCH = 500

# What the service seals for itself, by the column that names the row.
HOLDERS: tuple[tuple[Any, Any], ...] = (
    (DataKey.contact_id, DataKey.wrapped),
    (DkimKey.id, DkimKey.sealed),
    (Endpoint.id, Endpoint.sealed_secret),
    (Endpoint.id, Endpoint.sealed_old_secret),
    (IdempotencyKey.key_hash, IdempotencyKey.sealed_body),
    (InboundReport.id, InboundReport.sealed),
)


def rewrap(clock: Callable[[], datetime]) -> dict[str, int]:
    """Nothing in the database needs a former data key any more, and the change is on record.

    Returns:
        How many of each were wrapped anew; none when it was done before.

    Raises:
        Conflict: something does not open with any key of ours; what was wrapped anew until then stays.
    """
    counts = {f"{column.class_.__tablename__}.{column.key}": _all(ident, column) for ident, column in HOLDERS}
    if any(counts.values()):
        with transaction() as session:
            record(session, None, EventType.DATA_KEY_ROTATED, {"counts": counts}, now=clock())
    return counts


def _all(ident: Any, column: Any) -> int:
    after, changed = None, 0
    while True:
        with transaction() as session:
            query = select(ident, column).where(column.is_not(None)).order_by(ident).limit(BATCH)
            if column is IdempotencyKey.sealed_body:
                # A call under way keeps a mark there, which is not sealed.
                query = query.where(IdempotencyKey.status.is_not(None))
            found = session.execute(query if after is None else query.where(ident > after)).all()
            if not found:
                return changed
            after = found[-1][0]
            changed += sum(_one(session, ident, column, name, sealed) for name, sealed in found)


def _one(session: Session, ident: Any, column: Any, name: Any, sealed: bytes) -> int:
    try:
        fresh = session.keys.rewrapped(sealed)
    except ValueError:
        raise Conflict(
            f"{column.class_.__tablename__} has a row that no key opens: put the former SIGNUP_DATA_KEY into "
            "SIGNUP_DATA_KEY_FALLBACKS."
        ) from None
    if fresh is None:
        return 0
    statement = update(column.class_).where(ident == name, column == sealed).values({column.key: fresh})
    return affected(session.execute(statement.execution_options(synchronize_session=False)))
