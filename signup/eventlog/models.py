"""Tables of the append-only log: events, their disclosures, and what is published of them."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import BigInteger, ForeignKey, Index, Integer, LargeBinary, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from signup.core.db import Base, Choice, UtcDateTime
from signup.eventlog.kinds import EventType, FieldClass


class Event(Base):
    """One fact. The leaf holds salted digests only, so it may stay when the fact's content must go."""

    __tablename__ = "event"
    __table_args__ = (
        Index("ix_event_contact", "contact_id", "occurred_at"),
        Index("ix_event_controller", "controller_id", "occurred_at", "id"),
        Index(
            "ix_event_unsealed",
            "occurred_at",
            "id",
            postgresql_where=text("leaf_index IS NULL"),
            sqlite_where=text("leaf_index IS NULL"),
        ),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    controller_id: Mapped[str | None] = mapped_column(String(40))
    contact_id: Mapped[str | None] = mapped_column(String(40))
    kind: Mapped[EventType] = mapped_column(Choice(EventType))
    occurred_at: Mapped[datetime] = mapped_column(UtcDateTime)
    leaf: Mapped[bytes] = mapped_column(LargeBinary)
    leaf_index: Mapped[int | None] = mapped_column(BigInteger, unique=True)


class Disclosure(Base):
    """The fields of one class of an event, each with its salt, one a line; removing the row removes them for good.

    Rows of the first release hold one field each, under its own name.
    """

    __tablename__ = "disclosure"

    event_id: Mapped[str] = mapped_column(String(40), ForeignKey("event.id"), primary_key=True)
    name: Mapped[str] = mapped_column(String(40), primary_key=True)
    field_class: Mapped[FieldClass] = mapped_column(Choice(FieldClass))
    sealed: Mapped[bool] = mapped_column()
    data: Mapped[bytes] = mapped_column(LargeBinary, info={"personal": "sealed under the person's data key"})


class Publication(Base):
    """What one event tells the outside: the exact bytes every endpoint receives."""

    __tablename__ = "publication"
    __table_args__ = (
        Index("ix_publication_feed", "controller_id", "seq"),
        Index("ix_publication_contact", "contact_id"),
        Index(
            "ix_publication_unnumbered",
            "created_at",
            "id",
            postgresql_where=text("seq IS NULL"),
            sqlite_where=text("seq IS NULL"),
        ),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    controller_id: Mapped[str] = mapped_column(String(40))
    event_id: Mapped[str | None] = mapped_column(String(40), ForeignKey("event.id"))
    contact_id: Mapped[str | None] = mapped_column(String(40))
    type: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
    seq: Mapped[int | None] = mapped_column(BigInteger, unique=True)
    sealed: Mapped[bool] = mapped_column()
    payload: Mapped[bytes | None] = mapped_column(LargeBinary, info={"personal": "sealed under the person's data key"})


class LinkHits(Base):
    """How often one mailed link was opened; from some point on only counted, not told one by one."""

    __tablename__ = "link_hits"
    __table_args__ = (Index("ix_link_hits_expiry", "expires_at"),)

    token_hash: Mapped[bytes] = mapped_column(LargeBinary, primary_key=True)
    hits: Mapped[int] = mapped_column(Integer)
    expires_at: Mapped[datetime | None] = mapped_column(UtcDateTime)  # none: counted by an older release


class LogTile(Base):
    """Hashes of the log's tree, 256 of one level at most; only the last tile of a level ever changes."""

    __tablename__ = "log_tile"

    level: Mapped[int] = mapped_column(Integer, primary_key=True)
    number: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    hashes: Mapped[bytes] = mapped_column(LargeBinary)


class Checkpoint(Base):
    """The signed state of the log when it had `size` leaves, and the time stamp that somebody else gave it."""

    __tablename__ = "checkpoint"
    __table_args__ = (Index("ix_checkpoint_created", "created_at"),)

    size: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    note: Mapped[str] = mapped_column(Text)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class LogKey(Base):
    """A public key that signs checkpoints from `first_size` leaves on, until the next key does."""

    __tablename__ = "log_key"

    first_size: Mapped[int] = mapped_column(BigInteger, primary_key=True, autoincrement=False)
    name: Mapped[str] = mapped_column(Text)
    public_key: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class LogTimestamp(Base):
    """What a time stamping authority answered about one checkpoint; a later one renews it before it wears out."""

    __tablename__ = "log_timestamp"
    __table_args__ = (
        Index(
            "ix_log_timestamp_unlinked",
            "size",
            postgresql_where=text("NOT linked"),
            sqlite_where=text("NOT linked"),
        ),
    )

    size: Mapped[int] = mapped_column(BigInteger, ForeignKey("checkpoint.size"), primary_key=True, autoincrement=False)
    number: Mapped[int] = mapped_column(Integer, primary_key=True, autoincrement=False)
    token: Mapped[bytes] = mapped_column(LargeBinary)
    authority: Mapped[str] = mapped_column(Text)
    stamped_at: Mapped[datetime] = mapped_column(UtcDateTime)
    good_until: Mapped[datetime] = mapped_column(UtcDateTime)  # the end of the authority's certificate
    linked: Mapped[bool] = mapped_column()  # whether a later leaf of the log names it


class LogHealth(Base):
    """What sealing, stamping or the audit of the log found last."""

    __tablename__ = "log_health"

    part: Mapped[str] = mapped_column(String(20), primary_key=True)
    checked_at: Mapped[datetime] = mapped_column(UtcDateTime)
    trouble: Mapped[str | None] = mapped_column(Text)
    since: Mapped[datetime | None] = mapped_column(UtcDateTime)
    size: Mapped[int] = mapped_column(BigInteger)
