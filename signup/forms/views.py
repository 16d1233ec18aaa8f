"""How often a form was seen: one number an hour, nothing about who saw it."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import func, select

from signup.core.db import Session
from signup.forms.models import FormViews

_ONE_MORE = "ON CONFLICT (form_id, hour) DO UPDATE SET views = form_views.views + 1"


def count(session: Session, controller_id: str, form_id: str, *, now: datetime) -> None:
    """The form was seen once more in this hour.

    Rule: GDPR 25(1), counting needs no identifier.
    """
    hour = now.replace(minute=0, second=0, microsecond=0)
    row = {"form_id": form_id, "hour": hour, "controller_id": controller_id, "views": 1}
    session.put(FormViews, row, on_conflict=_ONE_MORE)


def total(session: Session, controller_id: str, form_id: str, *, since: datetime) -> int:
    """How often the form was seen in the hours from `since` on."""
    query = select(func.coalesce(func.sum(FormViews.views), 0)).where(
        FormViews.controller_id == controller_id, FormViews.form_id == form_id, FormViews.hour >= since
    )
    return int(session.execute(query).scalar_one())
