"""Counters that several processes and machines share."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Index, LargeBinary
from sqlalchemy.orm import Mapped, mapped_column

from signup.core.db import Base, Json, UtcDateTime


class Budget(Base):
    """Recent spendings under one keyed hash: an address's mails, a network's posts."""

    __tablename__ = "budget"
    __table_args__ = (Index("ix_budget_expiry", "expires_at"),)

    key: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    spent: Mapped[list[int]] = mapped_column(Json)  # epoch milliseconds of the spendings that still count
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime)
