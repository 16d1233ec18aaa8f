"""The listener as work of the worker: it runs beside the queues for as long as the worker does."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from datetime import datetime

from flask import Flask, current_app

from signup.core.config import Config
from signup.core.db import transaction
from signup.intake import actions, listener, reports
from signup.intake.actions import Arrival
from signup.intake.kinds import Way
from signup.intake.listener import Listener

Clock = Callable[[], datetime]

# Another worker of this machine may have the address, and may end.
AGAIN_SECONDS = 30.0

log = logging.getLogger(__name__)


class Reception:
    """One listener a machine, if there is an address to listen on: another worker takes over when this one ends."""

    def __init__(self) -> None:
        self._listener: Listener | None = None
        self._next_try = 0.0

    def __call__(self, clock: Clock) -> int:
        """The listener runs, or another worker's does, or it is tried again in a while."""
        config: Config = current_app.extensions["signup.config"]
        listen = config.intake.listen
        if listen is None or (self._listener and self._listener.alive()) or time.monotonic() < self._next_try:
            return 0
        app: Flask = current_app._get_current_object()  # type: ignore[attr-defined] # the listener's threads need it

        def take(raw: bytes, recipients: list[str]) -> None:
            with app.app_context():
                take_mail(Way(listen.protocol), raw, recipients, now=clock())

        started = Listener(listen, take, lambda address: listener.wanted(config.intake, address))
        try:
            started.start()
        except OSError as error:
            if not self._next_try:
                log.warning("reports are not taken by this worker", extra={"error": error.strerror or "no address"})
            self._next_try = time.monotonic() + AGAIN_SECONDS
            return 0
        self._listener, self._next_try = started, 0.0
        log.info("reports are taken", extra={"port": started.port, "protocol": listen.protocol})
        return 0

    def close(self, clock: Clock) -> None:
        if self._listener:
            self._listener.stop()

    @property
    def port(self) -> int | None:
        """Where mails are taken now."""
        return self._listener.port if self._listener else None


def take_mail(way: Way, raw: bytes, recipients: list[str], *, now: datetime) -> actions.Taken:
    """One mail is taken in a commit of its own."""
    arrival = Arrival(way, raw, reports.read(raw, recipients), actions.own_id(raw, recipients))
    with transaction() as session:
        return actions.take(session, None, arrival, now=now)
