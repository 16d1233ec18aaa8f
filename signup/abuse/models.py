"""Counters that several processes and machines share."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Boolean, ForeignKey, Index, Integer, LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from signup.core.db import Base, Json, UtcDateTime


class Budget(Base):
    """Recent spendings under one keyed hash: an address's mails, a network's posts."""

    __tablename__ = "budget"
    __table_args__ = (Index("ix_budget_expiry", "expires_at"),)

    key: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    spent: Mapped[list[int]] = mapped_column(Json)  # epoch milliseconds of the spendings that still count
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime)


class SpentProof(Base):
    """A proof of work that was accepted, kept until its challenge would have expired."""

    __tablename__ = "spent_proof"
    __table_args__ = (Index("ix_spent_proof_expiry", "expires_at"),)

    nonce: Mapped[str] = mapped_column(String(40), primary_key=True)
    press: Mapped[str] = mapped_column(String(40))  # what it was spent on
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime)


class Flow(Base):
    """How many sign-ups one form, controller or recipient domain had in one hour, right to about a second."""

    __tablename__ = "flow"
    __table_args__ = (Index("ix_flow_expiry", "expires_at"),)

    key: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    hour: Mapped[int] = mapped_column(Integer, primary_key=True)  # since the epoch
    count: Mapped[int] = mapped_column(Integer)
    usual: Mapped[int] = mapped_column(Integer)  # the median of the hours before, 0 when unknown
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime)


class GuardRule(Base):
    """What a controller decides about the guard; no row means the defaults."""

    __tablename__ = "guard_rule"

    controller_id: Mapped[str] = mapped_column(String(40), ForeignKey("controller.id"), primary_key=True)
    refuse_disposable: Mapped[bool] = mapped_column(Boolean)


class Attack(Base):
    """A form that has far more sign-ups than usual, from when it was seen; the row goes when it is over."""

    __tablename__ = "attack"

    form_id: Mapped[str] = mapped_column(String(40), ForeignKey("form.id"), primary_key=True)
    controller_id: Mapped[str] = mapped_column(String(40), ForeignKey("controller.id"))
    started_at: Mapped[datetime] = mapped_column(UtcDateTime)
    seen_at: Mapped[datetime] = mapped_column(UtcDateTime)
