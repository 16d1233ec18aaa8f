"""The words for where a subscription and its confirmations stand."""

from __future__ import annotations

from enum import Enum


class Status(Enum):
    REQUESTED = "requested"
    ACTIVE = "active"
    ENDED = "ended"
    EXPIRED = "expired"
    REFUSED = "refused"


class Ground(Enum):
    """What made a subscription active."""

    CONFIRMED = "confirmed"
    IMPORTED = "imported"
    SOFT_OPT_IN = "soft-opt-in"
    CONTRACT = "contract"


class Frequency(Enum):
    """How often a person wants to hear from the sender."""

    ALL = "all"
    MONTHLY = "monthly"


class EndReason(Enum):
    UNSUBSCRIBED = "unsubscribed"
    WITHDRAWN = "withdrawn"
    OBJECTED = "objected"
    BOUNCED = "bounced"
    COMPLAINED = "complained"
    ERASED = "erased"


class ConfirmationState(Enum):
    OPEN = "open"
    CONFIRMED = "confirmed"
    REPLACED = "replaced"
    EXPIRED = "expired"
    REFUSED = "refused"
    CANCELLED = "cancelled"
    CHECK = "check"  # yes and no within seconds
