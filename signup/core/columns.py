"""Column types that mean the same on SQLite and PostgreSQL."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from enum import Enum
from functools import partial
from typing import Any, TypeVar

import msgspec
from sqlalchemy import Boolean, DateTime, Dialect, Text
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import FunctionElement
from sqlalchemy.types import TypeDecorator, TypeEngine

from signup.core.values import rfc3339


def _json_text(value: Any) -> str | None:
    return None if value is None else msgspec.json.encode(value).decode()


class UtcDateTime(TypeDecorator[datetime]):
    """An aware UTC time in whole milliseconds; sortable text on SQLite."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def load_dialect_impl(self, dialect: Dialect) -> TypeEngine[Any]:
        return dialect.type_descriptor(Text() if dialect.name == "sqlite" else DateTime(timezone=True))

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        if value is None or dialect.name != "sqlite":
            return value
        return rfc3339(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return datetime.fromisoformat(value) if isinstance(value, str) else value.astimezone(UTC)


class Json(TypeDecorator[Any]):
    """A JSON document kept as text: read whole, never queried into."""

    impl = Text
    cache_ok = True

    def process_bind_param(self, value: Any, dialect: Dialect) -> str | None:
        return _json_text(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> Any:
        return None if value is None else json.loads(value)


def _value_of(value: Enum | None) -> str | None:
    return None if value is None else value._value_  # `value` itself is a descriptor and twice as slow


E = TypeVar("E", bound=Enum)


class Choice(TypeDecorator[E]):
    """A member of one enumeration, kept as its value."""

    impl = Text
    cache_ok = True

    def __init__(self, kind: type[E]) -> None:
        super().__init__()
        self.kind = kind

    def process_bind_param(self, value: E | None, dialect: Dialect) -> str | None:
        return _value_of(value)

    def process_result_value(self, value: str | None, dialect: Dialect) -> E | None:
        return None if value is None else self.kind(value)


class Rfc3339(FunctionElement[str]):
    """A time as RFC 3339 text in UTC with milliseconds, made by the database; `Rfc3339(column)`."""

    type = Text()
    inherit_cache = True


@compiles(Rfc3339)
def _rfc3339(element: Rfc3339, compiler: SQLCompiler, **options: Any) -> str:
    return compiler.process(element.clauses, **options)  # SQLite holds just this text


@compiles(Rfc3339, "postgresql")
def _rfc3339_postgresql(element: Rfc3339, compiler: SQLCompiler, **options: Any) -> str:
    moment = compiler.process(element.clauses, **options)
    return f"to_char(timezone('UTC', {moment}), 'YYYY-MM-DD\"T\"HH24:MI:SS.MS\"Z\"')"


Convert = Callable[[Any], Any] | None


def bound(kind: TypeEngine[Any], dialect: str) -> Convert:
    """How a value of this type is spelled for the driver; None when the driver takes it as it is."""
    if isinstance(kind, UtcDateTime):
        return _time_or_none if dialect == "sqlite" else None
    if isinstance(kind, Json):
        return _json_text
    return _value_of if isinstance(kind, Choice) else None


def _time_or_none(value: datetime | None) -> str | None:
    return None if value is None else rfc3339(value)


def loaded(kind: TypeEngine[Any]) -> Convert:
    """How a mapped row would hold what the driver returns for this type; None when as it is."""
    if isinstance(kind, UtcDateTime | Json | Choice):
        return partial(kind.process_result_value, dialect=None)  # type: ignore[arg-type] # none of them asks the dialect
    return _truth if isinstance(kind, Boolean) else None


def _truth(value: Any) -> bool | None:
    return None if value is None else bool(value)


def converted(converts: Iterable[Convert], values: Iterable[Any]) -> list[Any]:
    """Each of `values` by its own convert."""
    return [value if convert is None else convert(value) for convert, value in zip(converts, values, strict=True)]
