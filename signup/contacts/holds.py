"""Who is held: whatever purges anything asks here first, and the hold wins."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from sqlalchemy import ColumnElement, exists, literal_column, select

from signup.contacts.models import Hold
from signup.core.db import Session

# Spelled out, not bound: SQLite uses a partial index only when the query repeats its condition.
STANDING = Hold.released_at.is_(literal_column("NULL"))


def is_held(contact_id: Any) -> ColumnElement[bool]:
    """Whether the person in this column is under a hold that stands, as part of a query."""
    return exists().where(Hold.contact_id == contact_id, STANDING)


def held_among(session: Session, contact_ids: Iterable[str]) -> set[str]:
    """Those of the persons that are under a hold."""
    return set(session.scalars(select(Hold.contact_id).where(Hold.contact_id.in_(list(contact_ids)), STANDING)))
