"""Who may act for a controller: API keys, and the answers they got."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import ForeignKey, Index, Integer, LargeBinary, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from signup.core.db import Base, Json, UtcDateTime


class ApiKey(Base):
    """A key of one controller; only its hash is kept."""

    __tablename__ = "api_key"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    controller_id: Mapped[str] = mapped_column(String(40), ForeignKey("controller.id"))
    name: Mapped[str] = mapped_column(Text)
    key_hash: Mapped[bytes] = mapped_column(LargeBinary, unique=True)
    scopes: Mapped[list[str]] = mapped_column(Json)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    revoked_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class IdempotencyKey(Base):
    """The first answer to a call, for whoever repeats it."""

    __tablename__ = "idempotency_key"
    __table_args__ = (Index("ix_idempotency_key_expiry", "expires_at"),)

    key_hash: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    controller_id: Mapped[str] = mapped_column(String(40), ForeignKey("controller.id"))
    request_hash: Mapped[bytes] = mapped_column(LargeBinary)
    status: Mapped[int | None] = mapped_column(Integer)  # NULL while the first call is under way
    content_type: Mapped[str | None] = mapped_column(Text)
    sealed_body: Mapped[bytes | None] = mapped_column(LargeBinary, info={"personal": "the first answer"})
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime)
