"""What is wrong now or was, and the notices that tell the operator so."""

from __future__ import annotations

from datetime import datetime
from enum import Enum
from typing import Any

from sqlalchemy import Index, Integer, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from signup.core.db import Base, Choice, Json, UtcDateTime


class AlarmKind(Enum):
    MAIL_STUCK = "mail-stuck"
    QUEUE_AGE = "queue-age"
    JOBS_DEAD = "jobs-dead"
    ENDPOINT_FAILING = "endpoint-failing"
    ENDPOINT_OFF = "endpoint-off"
    FORM_ATTACKED = "form-attacked"
    REPORTS_UNREADABLE = "reports-unreadable"
    LOG_DAMAGED = "log-damaged"
    LOG_UNSTAMPED = "log-unstamped"
    TSA_ENDS = "tsa-ends"


class Way(Enum):
    """How a notice reaches the operator; each goes by itself, so that one may fail."""

    WEBHOOK = "webhook"
    MAIL = "mail"


class Alarm(Base):
    """One thing that is wrong, from when it was seen until it is over."""

    __tablename__ = "alarm"
    __table_args__ = (
        Index(
            "uq_alarm_standing",
            "kind",
            "subject",
            unique=True,
            postgresql_where=text("cleared_at IS NULL"),
            sqlite_where=text("cleared_at IS NULL"),
        ),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    kind: Mapped[AlarmKind] = mapped_column(Choice(AlarmKind))
    subject: Mapped[str] = mapped_column(String(40))
    facts: Mapped[dict[str, Any]] = mapped_column(Json)
    raised_at: Mapped[datetime] = mapped_column(UtcDateTime)
    seen_at: Mapped[datetime] = mapped_column(UtcDateTime)
    told_at: Mapped[datetime] = mapped_column(UtcDateTime)
    cleared_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class AlarmNotice(Base):
    """What one run found, on one way to one target: the row is the queue. Targets stand here as hashes only."""

    __tablename__ = "alarm_notice"
    __table_args__ = (
        Index(
            "ix_alarm_notice_due",
            "next_at",
            postgresql_where=text("sent_at IS NULL"),
            sqlite_where=text("sent_at IS NULL"),
        ),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    way: Mapped[Way] = mapped_column(Choice(Way))
    target: Mapped[str] = mapped_column(String(20))
    content: Mapped[list[dict[str, Any]]] = mapped_column(Json)
    attempt: Mapped[int] = mapped_column(Integer)
    next_at: Mapped[datetime] = mapped_column(UtcDateTime)
    error: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    sent_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
