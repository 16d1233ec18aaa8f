"""What came back by mail, once each; the fact itself is in the event log."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Index, LargeBinary, String, Text
from sqlalchemy.orm import Mapped, mapped_column

from signup.core.db import Base, Choice, UtcDateTime
from signup.intake.kinds import Kind, Outcome, Way


class InboundReport(Base):
    """One report or mail. Its key keeps it from counting twice; its row goes after 30 days.

    Raw bytes are kept only of what could not be used, sealed by the service because nobody's own key is known.
    """

    __tablename__ = "inbound_report"
    __table_args__ = (
        Index("uq_inbound_report_key", "key", unique=True),
        Index("ix_inbound_report_contact", "contact_id", "received_at"),
        Index("ix_inbound_report_outcome", "outcome", "received_at"),
        Index("ix_inbound_report_expiry", "expires_at"),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    key: Mapped[bytes] = mapped_column(LargeBinary)
    controller_id: Mapped[str | None] = mapped_column(String(40))
    contact_id: Mapped[str | None] = mapped_column(String(40))
    way: Mapped[Way] = mapped_column(Choice(Way))
    kind: Mapped[Kind] = mapped_column(Choice(Kind))
    outcome: Mapped[Outcome] = mapped_column(Choice(Outcome))
    reason: Mapped[str | None] = mapped_column(Text)
    sealed: Mapped[bytes | None] = mapped_column(LargeBinary, info={"personal": "raw bytes of a report, sealed"})
    received_at: Mapped[datetime] = mapped_column(UtcDateTime)
    expires_at: Mapped[datetime] = mapped_column(UtcDateTime)
