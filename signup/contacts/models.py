"""The data subject as we hold it, and the key that opens what we keep about them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import ForeignKey, Index, Integer, LargeBinary, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from signup.core.db import Base, Json, UtcDateTime


class Contact(Base):
    __tablename__ = "contact"
    __table_args__ = (
        Index("uq_contact_address", "controller_id", "address_key", unique=True),
        Index("ix_contact_list", "controller_id", "id"),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    controller_id: Mapped[str] = mapped_column(String(40), ForeignKey("controller.id"))
    email: Mapped[str] = mapped_column(Text, info={"personal": "the address as normalised"})
    email_typed: Mapped[str] = mapped_column(Text, info={"personal": "the address as typed"})
    address_key: Mapped[bytes] = mapped_column(LargeBinary, info={"personal": "keyed hash of the address"})
    locale: Mapped[str] = mapped_column(String(10), info={"personal": "language of the form"})
    origin: Mapped[dict[str, Any]] = mapped_column(Json, info={"personal": "how the contact came about"})
    legal_basis: Mapped[str] = mapped_column(String(20))
    fields: Mapped[dict[str, Any]] = mapped_column(
        Json, server_default=text("'{}'"), info={"personal": "what the person said in declared fields"}
    )
    version: Mapped[int] = mapped_column(Integer)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)


class DataKey(Base):
    """One person's wrapped key. Kept apart so that backups can leave it out and deleting it shreds them."""

    __tablename__ = "data_key"

    contact_id: Mapped[str] = mapped_column(String(40), primary_key=True)
    wrapped: Mapped[bytes] = mapped_column(LargeBinary, info={"personal": "opens the person's sealed data"})


class Hold(Base):
    """Nothing about this person may be purged, for as long as it is not released: a claim is at issue, or may be."""

    __tablename__ = "hold"
    __table_args__ = (
        Index(
            "ix_hold_standing",
            "contact_id",
            postgresql_where=text("released_at IS NULL"),
            sqlite_where=text("released_at IS NULL"),
        ),
        Index("ix_hold_contact", "contact_id"),
        Index("ix_hold_list", "controller_id", "id"),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    controller_id: Mapped[str] = mapped_column(String(40), ForeignKey("controller.id"))
    contact_id: Mapped[str] = mapped_column(String(40), ForeignKey("contact.id"))
    reason: Mapped[str] = mapped_column(Text, info={"personal": "why the data is kept"})
    placed_by: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    released_by: Mapped[str | None] = mapped_column(Text)
    released_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class AddressChange(Base):
    """A new address that its owner has yet to confirm by mail."""

    __tablename__ = "address_change"
    __table_args__ = (
        Index("uq_address_change_token", "token_hash", unique=True),
        Index("ix_address_change_contact", "contact_id"),
        Index("ix_address_change_expiry", "expires_at"),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    controller_id: Mapped[str] = mapped_column(String(40), ForeignKey("controller.id"))
    contact_id: Mapped[str] = mapped_column(String(40))
    token_hash: Mapped[bytes] = mapped_column(LargeBinary)
    sealed: Mapped[bytes] = mapped_column(LargeBinary, info={"personal": "the new address"})
    state: Mapped[str] = mapped_column(String(20))  # open, confirmed, replaced or taken
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime)
