"""Keyed hashes of addresses we must not write to. They outlive the contact."""

from __future__ import annotations

from datetime import datetime
from enum import Enum

from sqlalchemy import ForeignKey, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from signup.core.db import Base, Choice, UtcDateTime


class Reason(Enum):
    """Why an address is suppressed; decides whether its owner's own fresh sign-up gets a mail."""

    ERASED = "erased"
    OBJECTED = "objected"
    UNSUBSCRIBED = "unsubscribed"
    NOT_ME = "not-me"
    COMPLAINED = "complained"
    BOUNCED = "bounced"
    DPO = "dpo"


class Suppression(Base):
    __tablename__ = "suppression"

    controller_id: Mapped[str] = mapped_column(String(40), ForeignKey("controller.id"), primary_key=True)
    address_key: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    # One row a reason: a passing block must not wipe out a lasting one.
    reason: Mapped[Reason] = mapped_column(Choice(Reason), primary_key=True)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
