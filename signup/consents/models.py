"""Consent per contact, purpose and channel: the state now. Its history is in the event log."""

from __future__ import annotations

from datetime import datetime
from enum import Enum
from typing import Any

from sqlalchemy import ForeignKey, Index, LargeBinary, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from signup.core.db import Base, Choice, Json, UtcDateTime


class ConsentState(Enum):
    REQUESTED = "requested"
    GIVEN = "given"
    WITHDRAWN = "withdrawn"
    EXPIRED = "expired"
    REFUSED = "refused"


class Consent(Base):
    __tablename__ = "consent"
    __table_args__ = (
        Index("uq_consent_purpose", "contact_id", "purpose_id", "channel", unique=True),
        Index("uq_consent_link", "link_hash", unique=True),
        Index(
            "ix_consent_requested",
            "requested_at",
            postgresql_where=text("state = 'requested'"),
            sqlite_where=text("state = 'requested'"),
        ),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    controller_id: Mapped[str] = mapped_column(String(40), ForeignKey("controller.id"))
    contact_id: Mapped[str] = mapped_column(String(40), ForeignKey("contact.id"))
    purpose_id: Mapped[str] = mapped_column(String(40), ForeignKey("purpose.id"))
    channel: Mapped[str] = mapped_column(String(20))
    state: Mapped[ConsentState] = mapped_column(Choice(ConsentState))
    act_id: Mapped[str] = mapped_column(String(40))  # one sign-up, confirmed as a whole
    legal_basis: Mapped[str] = mapped_column(String(20))
    origin: Mapped[dict[str, Any]] = mapped_column(Json, info={"personal": "how the consent came about"})
    text: Mapped[str] = mapped_column(Text)
    text_sha256: Mapped[str] = mapped_column(String(64))
    form_version_id: Mapped[str | None] = mapped_column(String(40), ForeignKey("form_version.id"))
    link_hash: Mapped[bytes] = mapped_column(LargeBinary)  # of the link that ends just this purpose
    requested_at: Mapped[datetime] = mapped_column(UtcDateTime)
    given_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    ended_by: Mapped[str | None] = mapped_column(String(20))  # page, one-click, api, not-me


class ContactUse(Base):
    """When a person's data was used last on a channel: from then on counts how long the proof is kept."""

    __tablename__ = "contact_use"

    contact_id: Mapped[str] = mapped_column(String(40), ForeignKey("contact.id"), primary_key=True)
    channel: Mapped[str] = mapped_column(String(20), primary_key=True)
    last_used_at: Mapped[datetime] = mapped_column(UtcDateTime)
