"""The journal of erasures, and how far the log has been gone through."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import LargeBinary, String
from sqlalchemy.orm import Mapped, mapped_column

from signup.core.db import Base, UtcDateTime


class Erasure(Base):
    """One person who was forgotten, by a keyed hash of the contact's random id: it names nobody."""

    __tablename__ = "erasure"

    subject_hash: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    erased_at: Mapped[datetime] = mapped_column(UtcDateTime)
    reason: Mapped[str] = mapped_column(String(20))  # retention, proof-over, key-lost


class LogMark(Base):
    """How far work that goes through the log once, oldest event first, has come."""

    __tablename__ = "log_mark"

    name: Mapped[str] = mapped_column(String(20), primary_key=True)
    event_id: Mapped[str] = mapped_column(String(40))
