"""Asking Amazon: for the certificate of a notice, and that it may send notices. The only file here that goes out."""

from __future__ import annotations

import threading

from signup.core import outbound
from signup.core.config import Config
from signup.core.db import Database
from signup.core.errors import Busy, Conflict
from signup.core.outbound import Allowance, OutboundFailed, OutboundRefused

OK = 200
# Amazon changes its certificate a few times a year.
MAX_CERTIFICATES = 20

# Strangers can make us ask, so that no more than one thread of a process does at a time.
_asking = threading.Lock()


def certificate(database: Database, url: str) -> bytes:
    """The certificate at this address, whose host was checked; asked for once a process.

    Raises:
        Busy: it cannot be had now; the notice comes again.
    """
    key = ("sns certificate", url)
    if key not in database.memory:
        # Other threads add to it meanwhile.
        kept = [other for other in list(database.memory) if other[0] == key[0]]
        if len(kept) >= MAX_CERTIFICATES:
            database.memory.pop(kept[0], None)
        database.memory[key] = _fetched(database.config, url)
    found: bytes = database.memory[key]
    return found


def _fetched(config: Config, url: str) -> bytes:
    if not _asking.acquire(blocking=False):
        raise Busy("Another notice is being checked. Please send it again.", retry_after_seconds=5)
    try:
        reply = outbound.get(url, allowance=Allowance.parse(config.outbound_allow))
    except (OutboundFailed, OutboundRefused) as failure:
        raise Busy("The certificate could not be fetched. Please send it again.", retry_after_seconds=60) from failure
    finally:
        _asking.release()
    if reply.status != OK:
        raise Busy("There is no such certificate now. Please send it again.", retry_after_seconds=60)
    return reply.body


def confirm(config: Config, url: str) -> None:
    """Amazon knows that we want its notices.

    Raises:
        Conflict: it did not answer, or refused.
    """
    try:
        reply = outbound.get(url, allowance=Allowance.parse(config.outbound_allow))
    except (OutboundFailed, OutboundRefused) as failure:
        raise Conflict(f"Amazon could not be asked: {failure.detail}") from failure
    if reply.status != OK:
        raise Conflict(f"Amazon answered {reply.status}; the request may be too old. Ask for a new one there.")
