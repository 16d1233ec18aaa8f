"""The journal of erasures: what must stay erased when an old copy comes back."""

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
    reason: Mapped[str] = mapped_column(String(20))  # retention, key-lost
