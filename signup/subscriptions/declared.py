"""What people say in declared fields: sealed with the question, and the contact's once they confirm."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from signup.core.db import Session
from signup.eventlog.record import Subject, canonical


def sealed(session: Session, subject: Subject, held: bytes | None, said: Mapping[str, Any] | None) -> bytes | None:
    """What was said before and now, the newer word counting, under the person's key."""
    if not said:
        return held
    return session.keys.seal(subject.data_key, canonical({**opened(session, subject, held), **said}))


def opened(session: Session, subject: Subject, held: bytes | None) -> dict[str, Any]:
    """What was said, by name of the field."""
    found: dict[str, Any] = json.loads(session.keys.unseal(subject.data_key, held)) if held else {}
    return found
