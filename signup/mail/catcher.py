"""The development mail server: takes every message on the loopback interface and keeps it as files."""

from __future__ import annotations

import asyncio
import json
import secrets
import socket
import threading
import weakref
from datetime import UTC, datetime
from pathlib import Path

from aiosmtpd.smtp import SMTP, Envelope, Session

# Receiving and writing one message takes milliseconds; a client still busy after this is left behind.
STOP_SECONDS = 2.0


def write_message(folder: Path, envelope: Envelope, *, now: datetime) -> str:
    """Both files of one message are complete in `folder`; returns the id they share, which sorts by time.

    The bytes are kept as received. What only the SMTP dialogue says (`mail_from`, `rcpt_tos`, `received_at`) is in
    `<id>.json`, which is there before `<id>.eml` is.
    """
    message_id = f"{now:%Y%m%dT%H%M%S}.{now.microsecond:06d}-{secrets.token_hex(4)}"
    received_at = now.isoformat(timespec="milliseconds").replace("+00:00", "Z")
    facts = {"mail_from": envelope.mail_from, "rcpt_tos": envelope.rcpt_tos, "received_at": received_at}
    content = envelope.original_content or b""
    _write_atomically(folder / f"{message_id}.json", json.dumps(facts, ensure_ascii=False).encode())
    _write_atomically(folder / f"{message_id}.eml", content)
    return message_id


def _write_atomically(path: Path, content: bytes) -> None:
    temporary = path.with_name(f".{path.name}.part")
    # A message holds live links, so only the account that runs the program may read it.
    temporary.touch(mode=0o600)
    temporary.write_bytes(content)
    temporary.replace(path)


class _Keeper:
    """aiosmtpd calls this once per received message."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        message_id = write_message(self.folder, envelope, now=datetime.now(UTC))
        return f"250 2.0.0 queued as {message_id}"


class Catcher:
    """A running SMTP server on a free loopback port, in a thread of its own."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._keeper = _Keeper(folder)
        # Listening before the thread runs: a client that comes early waits instead of being refused.
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.host, self.port = self._socket.getsockname()
        self._loop = asyncio.new_event_loop()
        self._sessions: weakref.WeakSet[SMTP] = weakref.WeakSet()
        self._thread = threading.Thread(target=self._serve, name="mail-catcher", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(STOP_SECONDS)
        self._socket.close()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(self._loop.create_server(self._session, sock=self._socket))
        self._loop.run_forever()
        server.close()
        self._loop.run_until_complete(self._hang_up())
        self._loop.close()

    async def _hang_up(self) -> None:
        for session in self._sessions:
            if isinstance(session.transport, asyncio.Transport):
                session.transport.abort()
        # An aborted transport closes its socket, and its session ends, in the next turns of the loop.
        for _ in range(3):
            await asyncio.sleep(0)

    def _session(self) -> SMTP:
        # Naming the host here spares a reverse look-up, which can take seconds without a network.
        session = SMTP(
            self._keeper, hostname="localhost", ident="Signup mailbox", enable_SMTPUTF8=True, loop=self._loop
        )
        self._sessions.add(session)
        return session
