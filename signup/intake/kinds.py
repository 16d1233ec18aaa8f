"""What comes back: its kinds, the ways it takes, and what it leads to."""

from __future__ import annotations

from enum import Enum


class Kind(Enum):
    """What a report means for the address."""

    HARD = "hard"
    SOFT = "soft"
    DELAYED = "delayed"
    COMPLAINT = "complaint"
    UNSUBSCRIBE = "unsubscribe"
    IGNORED = "ignored"
    UNREADABLE = "unreadable"
    CONFIRMATION = "confirmation"  # a provider asks whether it may send to us


class Way(Enum):
    """How it reached us."""

    FILE = "file"
    LMTP = "lmtp"
    SMTP = "smtp"
    API = "api"
    SES = "amazon-ses"
    BREVO = "brevo"
    HAND_OVER = "hand-over"  # the mail server's own answer


class Outcome(Enum):
    """What it led to."""

    ENDED = "ended"
    COUNTED = "counted"
    RECORDED = "recorded"
    UNKNOWN = "unknown"  # about no mail and nobody of ours
    IGNORED = "ignored"
    WAITING = "waiting"  # for the operator
    DONE = "done"  # by the operator
