"""Endpoints, what is to be delivered to them, and each try."""

from __future__ import annotations

from datetime import datetime
from enum import Enum
from typing import Any

from sqlalchemy import ForeignKey, Index, Integer, LargeBinary, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from signup.core.db import Base, Choice, Json, UtcDateTime


class EndpointState(Enum):
    ACTIVE = "active"
    PAUSED = "paused"
    DISABLED = "disabled"


class DeliveryState(Enum):
    DUE = "due"
    HELD = "held"  # the endpoint is paused or disabled; nothing is dropped
    DELIVERED = "delivered"
    DEAD = "dead"


class Endpoint(Base):
    __tablename__ = "endpoint"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    controller_id: Mapped[str] = mapped_column(String(40), ForeignKey("controller.id"), index=True)
    url: Mapped[str] = mapped_column(Text)
    state: Mapped[EndpointState] = mapped_column(Choice(EndpointState))
    sealed_secret: Mapped[bytes] = mapped_column(LargeBinary)
    sealed_old_secret: Mapped[bytes | None] = mapped_column(LargeBinary)
    old_secret_until: Mapped[datetime | None] = mapped_column(UtcDateTime)
    state_reason: Mapped[str | None] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    updated_at: Mapped[datetime] = mapped_column(UtcDateTime)


class EndpointType(Base):
    """One event type an endpoint asked for; fan-out joins on it."""

    __tablename__ = "endpoint_type"
    __table_args__ = (Index("ix_endpoint_type_match", "controller_id", "type"),)

    endpoint_id: Mapped[str] = mapped_column(String(40), ForeignKey("endpoint.id"), primary_key=True)
    type: Mapped[str] = mapped_column(String(60), primary_key=True)
    controller_id: Mapped[str] = mapped_column(String(40), ForeignKey("controller.id"))


class Delivery(Base):
    """One publication owed to one endpoint; the row is the queue."""

    __tablename__ = "delivery"
    __table_args__ = (
        Index("uq_delivery_once", "publication_id", "endpoint_id", unique=True),
        Index("ix_delivery_due", "next_at", postgresql_where=text("state = 'due'"), sqlite_where=text("state = 'due'")),
        Index(
            "ix_delivery_endpoint_due",
            "endpoint_id",
            "next_at",
            postgresql_where=text("state = 'due'"),
            sqlite_where=text("state = 'due'"),
        ),
        Index("ix_delivery_list", "controller_id", "id"),
        Index("ix_delivery_endpoint", "endpoint_id", "state"),
    )

    id: Mapped[str] = mapped_column(String(90), primary_key=True)
    controller_id: Mapped[str] = mapped_column(String(40), ForeignKey("controller.id"))
    publication_id: Mapped[str] = mapped_column(String(40), ForeignKey("publication.id"))
    endpoint_id: Mapped[str] = mapped_column(String(40), ForeignKey("endpoint.id"))
    state: Mapped[DeliveryState] = mapped_column(Choice(DeliveryState))
    next_at: Mapped[datetime] = mapped_column(UtcDateTime)
    attempt: Mapped[int] = mapped_column(Integer)
    lease_token: Mapped[str | None] = mapped_column(String(40))
    trigger: Mapped[str] = mapped_column(String(20))  # event, resend, replay, test
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    finished_at: Mapped[datetime | None] = mapped_column(UtcDateTime)


class Attempt(Base):
    """One POST: what we sent, what came back, what follows."""

    __tablename__ = "attempt"
    __table_args__ = (Index("ix_attempt_delivery", "delivery_id", "number"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    delivery_id: Mapped[str] = mapped_column(String(90), ForeignKey("delivery.id"))
    number: Mapped[int] = mapped_column(Integer)
    trigger: Mapped[str] = mapped_column(String(20))
    started_at: Mapped[datetime] = mapped_column(UtcDateTime)
    milliseconds: Mapped[int] = mapped_column(Integer)
    ip: Mapped[str | None] = mapped_column(Text)
    status: Mapped[int | None] = mapped_column(Integer)
    error: Mapped[str | None] = mapped_column(Text)
    request_headers: Mapped[dict[str, Any]] = mapped_column(Json)
    response_body: Mapped[bytes | None] = mapped_column(LargeBinary, info={"personal": "what the receiver answered"})
    next_at: Mapped[datetime | None] = mapped_column(UtcDateTime)
