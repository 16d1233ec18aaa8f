"""Forms and their immutable versions."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Boolean, ForeignKey, Integer, String, Text, UniqueConstraint
from sqlalchemy.orm import Mapped, mapped_column

from signup.core.db import Base, Json, UtcDateTime


class Form(Base):
    __tablename__ = "form"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    controller_id: Mapped[str] = mapped_column(String(40), ForeignKey("controller.id"), index=True)
    slug: Mapped[str] = mapped_column(String(60), unique=True)
    name: Mapped[str] = mapped_column(Text)
    closed: Mapped[bool] = mapped_column(Boolean)
    allowed_origins: Mapped[list[str]] = mapped_column(Json)
    live_version: Mapped[int] = mapped_column(Integer)
    draft: Mapped[dict[str, Any] | None] = mapped_column(Json)  # the next version, as staff wrote it
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class FormVersion(Base):
    """One published state of a form: never changed, so that evidence can point at it."""

    __tablename__ = "form_version"
    __table_args__ = (UniqueConstraint("form_id", "number"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    controller_id: Mapped[str] = mapped_column(String(40), ForeignKey("controller.id"))
    form_id: Mapped[str] = mapped_column(String(40), ForeignKey("form.id"))
    number: Mapped[int] = mapped_column(Integer)
    locale: Mapped[str] = mapped_column(String(10))
    definition: Mapped[dict[str, Any]] = mapped_column(Json)
    html: Mapped[str] = mapped_column(Text)
    css_sha256: Mapped[str] = mapped_column(String(64))
    sha256: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[datetime] = mapped_column(UtcDateTime)


class FormViews(Base):
    """How often a form was seen in one hour. Nothing about who saw it."""

    __tablename__ = "form_views"

    form_id: Mapped[str] = mapped_column(String(40), ForeignKey("form.id"), primary_key=True)
    hour: Mapped[datetime] = mapped_column(UtcDateTime, primary_key=True)
    controller_id: Mapped[str] = mapped_column(String(40), ForeignKey("controller.id"))
    views: Mapped[int] = mapped_column(Integer)
