"""Controllers, their topics and purposes, and the wording people consent to."""

from __future__ import annotations

from datetime import datetime
from enum import Enum

from sqlalchemy import ForeignKey, Integer, LargeBinary, String, Text, UniqueConstraint, text
from sqlalchemy.orm import Mapped, mapped_column

from signup.core.db import Base, Json, UtcDateTime


class LegalBasis(Enum):
    """Why we may process."""

    CONSENT = "gdpr-6-1-a"
    CONTRACT = "gdpr-6-1-b"
    LEGITIMATE_INTEREST = "gdpr-6-1-f"
    SOFT_OPT_IN = "eprivacy-13-2"


class Controller(Base):
    """The tenant, legally responsible for everything below it."""

    __tablename__ = "controller"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    slug: Mapped[str] = mapped_column(String(60), unique=True)
    name: Mapped[str] = mapped_column(Text)
    address: Mapped[str] = mapped_column(Text)
    sender: Mapped[str] = mapped_column(Text)
    reply_to: Mapped[str] = mapped_column(Text)
    imprint_url: Mapped[str] = mapped_column(Text)
    privacy_url: Mapped[str] = mapped_column(Text)
    accent: Mapped[str] = mapped_column(String(7))
    timezone: Mapped[str] = mapped_column(String(40))
    logo: Mapped[str] = mapped_column(Text, server_default=text("''"))  # name of a picture, or none
    mail_logo: Mapped[str] = mapped_column(Text, server_default=text("''"))  # name of the picture in its mails, or none
    dkim_key: Mapped[str] = mapped_column(String(40), server_default=text("''"))  # id of the key in use, or none
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class Logo(Base):
    """A picture that pages show. Never changed or removed: published versions of forms go on showing it."""

    __tablename__ = "logo"

    name: Mapped[str] = mapped_column(String(80), primary_key=True)  # SHA-256 of the content, and what it is
    controller_id: Mapped[str] = mapped_column(String(40), ForeignKey("controller.id"))
    content: Mapped[bytes] = mapped_column(LargeBinary)
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class Topic(Base):
    """What people choose."""

    __tablename__ = "topic"
    __table_args__ = (UniqueConstraint("controller_id", "slug"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    controller_id: Mapped[str] = mapped_column(String(40), ForeignKey("controller.id"))
    slug: Mapped[str] = mapped_column(String(60))
    label: Mapped[dict[str, str]] = mapped_column(Json)  # locale -> text
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class Purpose(Base):
    """What the law asks for: one reason to process, on one channel."""

    __tablename__ = "purpose"
    __table_args__ = (UniqueConstraint("controller_id", "slug"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    controller_id: Mapped[str] = mapped_column(String(40), ForeignKey("controller.id"))
    topic_id: Mapped[str] = mapped_column(String(40), ForeignKey("topic.id"))
    slug: Mapped[str] = mapped_column(String(60))
    channel: Mapped[str] = mapped_column(String(20))
    label: Mapped[dict[str, str]] = mapped_column(Json)
    hint: Mapped[dict[str, str]] = mapped_column(Json)  # how often, in a few words
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class ConsentText(Base):
    """One immutable version of the sentence people agree to."""

    __tablename__ = "consent_text"
    __table_args__ = (UniqueConstraint("purpose_id", "locale", "version"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    controller_id: Mapped[str] = mapped_column(String(40), ForeignKey("controller.id"))
    purpose_id: Mapped[str] = mapped_column(String(40), ForeignKey("purpose.id"))
    locale: Mapped[str] = mapped_column(String(10))
    version: Mapped[int] = mapped_column(Integer)
    text: Mapped[str] = mapped_column(Text)
    sha256: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)
