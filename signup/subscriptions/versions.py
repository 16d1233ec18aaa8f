"""Which versions of a form are still in use: copies on other sites that nobody has pasted anew."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import func, select

from signup.core.db import Session
from signup.core.values import first_id
from signup.forms.models import Form, FormVersion
from signup.subscriptions.models import Confirmation

# A month of sign-ups shows every copy that matters.
DAYS = 30


@dataclass(frozen=True)
class Seen:
    """A version by which people have signed up lately."""

    slug: str
    version: int
    live_version: int
    requests: int  # acts of consent asked for; a mail sent again is the same act
    last_at: datetime

    @property
    def outdated(self) -> bool:
        return self.version < self.live_version


def seen(
    session: Session, controller_id: str, *, slug: str | None = None, days: int = DAYS, now: datetime
) -> list[Seen]:
    """The versions that people signed up with in the last `days`, in the order of form and version.

    Ids sort by time, so the query reads these days only, however many there were before.
    """
    query = (
        select(
            Form.slug,
            FormVersion.number,
            Form.live_version,
            func.count(Confirmation.act_id.distinct()),
            func.max(Confirmation.created_at),
        )
        .select_from(Confirmation)
        .join(FormVersion, FormVersion.id == Confirmation.form_version_id)
        .join(Form, Form.id == FormVersion.form_id)
        .where(Confirmation.id >= first_id("cnf", now - timedelta(days=days)))
        .where(Confirmation.controller_id == controller_id)
        .group_by(Form.slug, FormVersion.number, Form.live_version)
        .order_by(Form.slug, FormVersion.number)
    )
    if slug is not None:
        query = query.where(Form.slug == slug)
    return [Seen(*row) for row in session.execute(query)]
