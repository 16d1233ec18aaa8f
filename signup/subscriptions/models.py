"""Subscriptions, the confirmations that lead to them, and the submissions that asked."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Boolean, ForeignKey, Index, Integer, LargeBinary, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from signup.core.db import Base, Choice, Json, UtcDateTime
from signup.subscriptions.states import ConfirmationState, EndReason, Frequency, Ground, Status

# The people whose data goes soon. Queries spell it like this, or SQLite does not use the index.
NEVER_CONFIRMED = "status IN ('expired', 'refused') AND activated_at IS NULL"

# Their proof is kept for years after the end.
ONCE_ACTIVE = "status IN ('ended', 'expired', 'refused') AND activated_at IS NOT NULL"


class Subscription(Base):
    """The standing order that a consent permits; one per contact."""

    __tablename__ = "subscription"
    __table_args__ = (
        Index("uq_subscription_contact", "contact_id", unique=True),
        Index("uq_subscription_link", "link_hash", unique=True),
        Index("ix_subscription_list", "controller_id", "id"),
        Index(
            "ix_subscription_unconfirmed",
            "ended_at",
            postgresql_where=text(NEVER_CONFIRMED),
            sqlite_where=text(NEVER_CONFIRMED),
        ),
        Index(
            "ix_subscription_proof",
            "ended_at",
            postgresql_where=text(ONCE_ACTIVE),
            sqlite_where=text(ONCE_ACTIVE),
        ),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    controller_id: Mapped[str] = mapped_column(String(40), ForeignKey("controller.id"))
    contact_id: Mapped[str] = mapped_column(String(40), ForeignKey("contact.id"))
    status: Mapped[Status] = mapped_column(Choice(Status))
    ground: Mapped[Ground | None] = mapped_column(Choice(Ground))
    end_reason: Mapped[EndReason | None] = mapped_column(Choice(EndReason))
    ended_by: Mapped[str | None] = mapped_column(String(20))  # page, one-click, api, not-me ...
    flagged: Mapped[bool] = mapped_column(Boolean)
    version: Mapped[int] = mapped_column(Integer)
    epoch: Mapped[int] = mapped_column(Integer)  # raising it revokes all mailed links
    link_hash: Mapped[bytes] = mapped_column(LargeBinary)  # of the link that ends everything
    frequency: Mapped[Frequency] = mapped_column(Choice(Frequency), server_default=Frequency.ALL.value)
    paused_until: Mapped[datetime | None] = mapped_column(UtcDateTime)  # a time that is over is no pause
    requested_at: Mapped[datetime] = mapped_column(UtcDateTime)
    activated_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    ended_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)


class Confirmation(Base):
    """One mailed question with its token. Without the person's data it stays as residue."""

    __tablename__ = "confirmation"
    __table_args__ = (
        Index(
            "uq_confirmation_open",
            "contact_id",
            "form_id",
            unique=True,
            postgresql_where=text("state = 'open'"),
            sqlite_where=text("state = 'open'"),
        ),
        Index(
            "ix_confirmation_residue",
            "created_at",
            postgresql_where=text("contact_id IS NULL"),
            sqlite_where=text("contact_id IS NULL"),
        ),
        Index("uq_confirmation_token", "token_hash", unique=True),
        Index("ix_confirmation_contact", "contact_id"),
        Index(
            "ix_confirmation_expiry",
            "expires_at",
            postgresql_where=text("state = 'open'"),
            sqlite_where=text("state = 'open'"),
        ),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    controller_id: Mapped[str] = mapped_column(String(40), ForeignKey("controller.id"))
    contact_id: Mapped[str | None] = mapped_column(String(40))
    subscription_id: Mapped[str | None] = mapped_column(String(40))
    form_id: Mapped[str] = mapped_column(String(40), ForeignKey("form.id"))
    form_version_id: Mapped[str] = mapped_column(String(40), ForeignKey("form_version.id"))
    act_id: Mapped[str] = mapped_column(String(40))
    purpose_ids: Mapped[list[str]] = mapped_column(Json)
    token_hash: Mapped[bytes] = mapped_column(LargeBinary)
    state: Mapped[ConfirmationState] = mapped_column(Choice(ConfirmationState))
    page_host: Mapped[str | None] = mapped_column(Text)
    # What the person said in the form's declared fields, sealed under their key, while the question is open.
    told: Mapped[bytes | None] = mapped_column(LargeBinary, info={"personal": "declared fields, sealed"})
    code_hash: Mapped[bytes | None] = mapped_column(LargeBinary)  # keyed; of the digits in the mail
    code_tries: Mapped[int] = mapped_column(Integer, server_default="0")  # wrong ones behind the mailed link
    sent_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime)
    closed_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class Submission(Base):
    """One press of the button. The same press again finds this row instead of acting twice."""

    __tablename__ = "submission"
    __table_args__ = (Index("uq_submission_handle", "handle", unique=True), Index("ix_submission_expiry", "expires_at"))

    key: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    handle: Mapped[str] = mapped_column(String(40))
    form_id: Mapped[str] = mapped_column(String(40), ForeignKey("form.id"))
    contact_id: Mapped[str | None] = mapped_column(String(40))
    resends: Mapped[int] = mapped_column(Integer, server_default="0")
    code_tries: Mapped[int] = mapped_column(Integer, server_default="0")  # wrong ones, whether there was a mail or not
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)  # or when another mail was asked for last
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime)
