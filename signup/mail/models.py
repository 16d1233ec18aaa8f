"""Every mail we owe, sent or held back."""

from __future__ import annotations

from datetime import datetime
from enum import Enum

from sqlalchemy import Boolean, ForeignKey, Index, LargeBinary, String, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from signup.core.db import Base, Choice, Json, UtcDateTime


class MessageState(Enum):
    QUEUED = "queued"
    ACCEPTED = "accepted"
    HELD = "held"
    FAILED = "failed"
    CANCELLED = "cancelled"


class Message(Base):
    """One mail. Its exact bytes stay sealed under the recipient's data key; Message-ID and hash name nobody."""

    __tablename__ = "message"
    __table_args__ = (
        Index("ix_message_contact", "contact_id"),
        Index("ix_message_list", "controller_id", "id"),
        Index(
            "ix_message_quarantine",
            "created_at",
            postgresql_where=text("state = 'held' AND sealed IS NOT NULL"),
            sqlite_where=text("state = 'held' AND sealed IS NOT NULL"),
        ),
        Index(
            "ix_message_residue",
            "created_at",
            postgresql_where=text("contact_id IS NULL"),
            sqlite_where=text("contact_id IS NULL"),
        ),
        Index("uq_message_message_id", "message_id", unique=True),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    controller_id: Mapped[str] = mapped_column(String(40), ForeignKey("controller.id"))
    contact_id: Mapped[str | None] = mapped_column(String(40))
    confirmation_id: Mapped[str | None] = mapped_column(String(40))
    kind: Mapped[str] = mapped_column(String(20))
    locale: Mapped[str] = mapped_column(String(10))
    state: Mapped[MessageState] = mapped_column(Choice(MessageState))
    reason: Mapped[str | None] = mapped_column(Text)  # why it is held, failed or cancelled
    message_id: Mapped[str | None] = mapped_column(Text)
    envelope_from: Mapped[str | None] = mapped_column(Text)
    sealed: Mapped[bytes | None] = mapped_column(LargeBinary, info={"personal": "recipient and bytes of the mail"})
    sha256: Mapped[str | None] = mapped_column(String(64))
    smtp_reply: Mapped[str | None] = mapped_column(Text)
    give_up_at: Mapped[datetime] = mapped_column(UtcDateTime)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    accepted_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class DkimKey(Base):
    """A private key that signs a controller's mails, sealed for the service. It never changes under its id."""

    __tablename__ = "dkim_key"
    __table_args__ = (UniqueConstraint("controller_id", "domain", "selector"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    controller_id: Mapped[str] = mapped_column(String(40), ForeignKey("controller.id"))
    domain: Mapped[str] = mapped_column(Text)
    selector: Mapped[str] = mapped_column(String(63))
    sealed: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class NoticeEvery(Enum):
    """How often staff hear of new subscribers."""

    OFF = "off"
    EACH = "each"
    WEEKLY = "weekly"


class StaffNotice(Base):
    """To whom at a controller new subscribers are told, and up to when they have been."""

    __tablename__ = "staff_notice"

    controller_id: Mapped[str] = mapped_column(String(40), ForeignKey("controller.id"), primary_key=True)
    address: Mapped[str] = mapped_column(Text)
    every: Mapped[NoticeEvery] = mapped_column(Choice(NoticeEvery))
    locale: Mapped[str] = mapped_column(String(10))
    told_until: Mapped[datetime] = mapped_column(UtcDateTime)
    sent_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class SenderCheck(Base):
    """What the DNS records of one sender said when they were last looked up."""

    __tablename__ = "sender_check"

    controller_id: Mapped[str] = mapped_column(String(40), ForeignKey("controller.id"), primary_key=True)
    sender: Mapped[str] = mapped_column(String(320), primary_key=True)
    passed: Mapped[bool] = mapped_column(Boolean)
    findings: Mapped[list[dict[str, str]]] = mapped_column(Json)
    checked_at: Mapped[datetime] = mapped_column(UtcDateTime)
