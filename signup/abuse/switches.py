"""What a controller decides about the guard; what most leave as it is costs nobody a query."""

from __future__ import annotations

from sqlalchemy import select

from signup.abuse.models import GuardRule
from signup.core.db import Session
from signup.core.errors import Invalid


def refuse_disposable(session: Session, controller_id: str, signals: tuple[str, ...]) -> None:
    """The address may stay.

    Raises:
        Invalid: its domain is one that is thrown away, and the controller takes none of these.
    """
    if "disposable" not in signals:
        return
    if session.scalar(select(GuardRule.refuse_disposable).where(GuardRule.controller_id == controller_id)):
        message = "Use an address that is not thrown away."
        raise Invalid(message, errors=[{"field": "email", "code": "disposable", "message": message}])


def set_refuse_disposable(session: Session, controller_id: str, refuse: bool) -> None:
    """From now on such addresses are refused, or flagged only."""
    session.merge(GuardRule(controller_id=controller_id, refuse_disposable=refuse))
