"""A small mail server for reports: LMTP or SMTP, for the mail server of the house and nobody else."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from typing import Any

from aiosmtpd.lmtp import LMTP
from aiosmtpd.smtp import SMTP, Envelope, Session

from signup.core import plus
from signup.core.errors import Busy
from signup.core.intake import IntakeConfig, Listen

# A report may carry the whole mail that it is about.
MAX_MAIL_BYTES = 10 * 1024 * 1024
# One that stopped talking is hung up on.
IDLE_SECONDS = 60.0
START_SECONDS = 10.0
STOP_SECONDS = 5.0

Take = Callable[[bytes, list[str]], None]
Known = Callable[[str], bool]

log = logging.getLogger(__name__)


def wanted(config: IntakeConfig, address: str) -> bool:
    """Whether mail to this address is ours to read: one of the mailboxes, with a token or without."""
    mailboxes = [box for box in (config.bounce_address, config.unsubscribe_mailbox) if box]
    return not mailboxes or any(plus.is_mailbox(address, box) or plus.token_in(address, box) for box in mailboxes)


class _Reader:
    """aiosmtpd calls this; the database is asked in another thread, so that the loop goes on."""

    def __init__(self, listen: Listen, take: Take, known: Known) -> None:
        self._lmtp = listen.protocol == "lmtp"
        self._take = take
        self._known = known

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if not self._known(address):
            return "550 5.1.1 No such mailbox here"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        recipients, raw = list(envelope.rcpt_tos), envelope.original_content or b""
        try:
            await asyncio.get_running_loop().run_in_executor(None, self._take, raw, recipients)
            answer = "250 2.0.0 Taken"
        except Busy:
            answer = "451 4.3.0 Busy, try again"
        except Exception as error:
            # The mail stays with its sender, who tries again; its text may hold anything.
            log.error("a report could not be taken", extra={"error": type(error).__name__})
            answer = "451 4.3.0 Our mistake, try again"
        # RFC 2033 4.2: after the message, LMTP answers once for each recipient.
        return "\r\n".join([answer] * (len(recipients) if self._lmtp else 1))


class Listener:
    """Takes mails from when it is started until it is stopped, in a thread of its own.

    Args:
        take: `(raw, recipients)`; called in threads. What it raises makes the sender try again.
        known: whether mail to an address is wanted.
    """

    def __init__(self, listen: Listen, take: Take, known: Known) -> None:
        self._listen = listen
        self._reader = _Reader(listen, take, known)
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._error: OSError | None = None
        self._thread = threading.Thread(target=self._serve, name="reports", daemon=True)
        self.port = listen.port

    def start(self) -> None:
        """Mails are taken.

        Raises:
            OSError: the address is in use, or not ours.
        """
        self._thread.start()
        self._ready.wait(START_SECONDS)
        if self._error:
            raise self._error

    def stop(self) -> None:
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(STOP_SECONDS)

    def alive(self) -> bool:
        return self._thread.is_alive()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        made = self._loop.create_server(self._session, self._listen.host, self._listen.port)
        try:
            server = self._loop.run_until_complete(made)
        except OSError as error:
            self._error = error
            self._ready.set()
            self._loop.close()
            return
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        self._loop.run_forever()
        server.close()
        # Whoever is still being answered gets the answer.
        self._loop.run_until_complete(self._loop.shutdown_default_executor())
        self._loop.run_until_complete(asyncio.sleep(0))
        self._loop.close()

    def _session(self) -> SMTP:
        options: dict[str, Any] = {
            "hostname": "localhost",
            "ident": "Signup reports",
            "enable_SMTPUTF8": True,
            "data_size_limit": MAX_MAIL_BYTES,
            "timeout": IDLE_SECONDS,
            "loop": self._loop,
        }
        return LMTP(self._reader, **options) if self._listen.protocol == "lmtp" else SMTP(self._reader, **options)
