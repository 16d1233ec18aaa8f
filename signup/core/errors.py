"""What can go wrong in the domain: stable codes, no HTTP."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


class DomainError(Exception):
    """A rule was broken. `code` is stable, `message` is safe to show and says what to do."""

    code = "error"

    def __init__(self, message: str, *, code: str | None = None, details: Mapping[str, object] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or self.code
        self.details = dict(details or {})


class NotFound(DomainError):
    code = "not-found"


class Gone(DomainError):
    code = "gone"


class Invalid(DomainError):
    """Input breaks a rule; `errors` holds one entry a field: field, code, message."""

    code = "invalid"

    def __init__(self, message: str, *, errors: list[dict[str, str]] | None = None, code: str | None = None) -> None:
        super().__init__(message, code=code, details={"errors": errors or []})
        self.errors = errors or []


class Conflict(DomainError):
    code = "conflict"


class Forbidden(DomainError):
    code = "forbidden"


class Unauthenticated(DomainError):
    code = "unauthenticated"


class TooMany(DomainError):
    """A budget is spent; trying again helps after `retry_after_seconds`."""

    code = "too-many"

    def __init__(self, message: str, *, retry_after_seconds: int) -> None:
        super().__init__(message)
        self.retry_after_seconds = retry_after_seconds


class NetworkSpent(TooMany):
    """The client's network has posted too often; the address it typed plays no part in that."""

    code = "network-spent"


class SecondLook(TooMany):
    """The sign-up counts once a proof of work, or our own page, vouches for it.

    Args:
        reasons: what raised the doubt.
        retry_after_seconds: when it will count without one; 0 when waiting does not help.

    Attributes:
        owed: what was counted and is to be written though the sign-up is not.
    """

    code = "proof"
    owed: Sequence[Any] = ()

    def __init__(self, message: str, *, reasons: tuple[str, ...], retry_after_seconds: int) -> None:
        super().__init__(message, retry_after_seconds=retry_after_seconds)
        self.reasons = reasons


class Busy(TooMany):
    """The database could not take the write in time; nothing was written."""

    code = "busy"
