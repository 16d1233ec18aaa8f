"""A real SMTP server on a free loopback port that does what the test tells it to."""

import asyncio
import itertools
import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from tests.support.waiting import wait_for


@dataclass(frozen=True)
class Received:
    """One accepted message: the dialogue's addresses and the exact bytes between DATA and the closing dot."""

    mail_from: str
    rcpt_tos: tuple[str, ...]
    content: bytes
    queue_id: str
    tls: bool
    session: int


@dataclass
class Behaviour:
    """What the server does from now on; change it at any time."""

    refuse_rcpt: set[str] = field(default_factory=set)  # addresses answered 550
    refuse_all: bool = False  # every RCPT is answered 550
    greylist: int = 0  # so many RCPT are answered 451, then all are accepted
    data_reply: str | None = None  # the reply to a complete message, instead of 250
    drop_in_data: int = 0  # so many messages lose the connection in the middle of DATA
    drop_after_data: int = 0  # so many are complete, recorded, and then the connection ends without a reply
    hang_in_data: bool = False  # a complete message gets no reply until the server stops
    hang_at_greeting: bool = False  # a new connection is accepted and nothing is said
    slow_seconds: float = 0.0  # each RCPT is answered so late
    pipelining: bool = True  # said to each new connection: several commands may come at once
    wants_message_for_nobody: bool = False  # DATA is agreed to though no RCPT was


class ScriptedSmtp:
    """The server; use it through `running_smtp`."""

    def __init__(
        self, *, starttls: ssl.SSLContext | None, implicit_tls: ssl.SSLContext | None, login: tuple[str, str] | None
    ) -> None:
        self.behaviour = Behaviour()
        self.received: list[Received] = []
        self.commands: list[str] = []
        self.connections = 0
        self.attempts = 0  # RCPT commands seen
        self.unanswered: list[Received] = []  # those of `received` whose sender never heard of it
        self._starttls, self._implicit_tls, self.login = starttls, implicit_tls, login
        self.implicit_tls = implicit_tls is not None
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.host, self.port = self._socket.getsockname()
        self._queue_ids = itertools.count(1)
        self._sessions: list[_Session] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._serve, name="scripted-smtp", daemon=True)

    def wait(self, count: int = 1, *, seconds: float = 10.0) -> list[Received]:
        """At least `count` messages, in the order they were accepted."""
        return wait_for(
            lambda: self.received[:] if len(self.received) >= count else None,
            seconds=seconds,
            describe=f"{count} messages ({len(self.received)} before)",
        )

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._socket.close()

    def go_down(self) -> None:
        """Every connection is cut, and new ones are refused; nobody else can take the port meanwhile."""
        asyncio.run_coroutine_threadsafe(self._close_door(), self._loop).result(10)

    def come_up(self) -> None:
        """The server takes mails again, on the same port."""
        asyncio.run_coroutine_threadsafe(self._open_door(), self._loop).result(10)

    async def _close_door(self) -> None:
        self._server.close()
        for session in self._sessions:
            session.abort()
        self._socket = socket.socket()
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        # Bound and not listening: a connection is refused.
        self._socket.bind((self.host, self.port))

    async def _open_door(self) -> None:
        self._server = await self._loop.create_server(self.new_session, sock=self._socket, ssl=self._implicit_tls)

    def new_session(self) -> SMTP:
        self.connections += 1
        options: dict[str, Any] = {}
        if self.login:
            options = {"authenticator": self._authenticate, "auth_require_tls": self._starttls is not None}
        session = _Session(
            self,
            self.connections,
            hostname="localhost",
            enable_SMTPUTF8=True,
            tls_context=self._starttls,
            require_starttls=self._starttls is not None,
            loop=self._loop,
            **options,
        )
        self._sessions.append(session)
        return session

    def next_queue_id(self) -> str:
        return f"q{next(self._queue_ids):04d}"

    def _authenticate(
        self, server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any
    ) -> AuthResult:
        given = (data.login.decode(), data.password.decode()) if isinstance(data, LoginPassword) else None
        return AuthResult(success=given == self.login, handled=False)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_until_complete(self._open_door())
        self._loop.run_forever()
        self._server.close()
        self._loop.run_until_complete(self._hang_up())
        self._loop.close()

    async def _hang_up(self) -> None:
        for session in self._sessions:
            session.abort()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # An aborted transport closes its socket in the next turns of the loop.
        for _ in range(3):
            await asyncio.sleep(0)


class _Session(SMTP):
    """One connection; aiosmtpd's own command methods are where the script steps in."""

    def __init__(self, owner: ScriptedSmtp, number: int, **options: Any) -> None:
        super().__init__(self, **options)
        self.owner, self.number = owner, number
        self.unanswered: Received | None = None

    async def _handle_client(self) -> None:
        if self.owner.behaviour.hang_at_greeting:
            await asyncio.Event().wait()
        await super()._handle_client()

    def abort(self) -> None:
        if self.unanswered:
            self.owner.unanswered.append(self.unanswered)
            self.unanswered = None
        if isinstance(self.transport, asyncio.Transport):
            self.transport.abort()

    async def handle_EHLO(
        self, server: SMTP, session: Session, envelope: Envelope, hostname: str, responses: list[str]
    ) -> list[str]:
        session.host_name = hostname
        if not self.owner.behaviour.pipelining:
            return responses
        return [*responses[:-1], "250-PIPELINING", responses[-1]]

    async def handle_MAIL(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        if self.owner.login and not session.authenticated:
            return "530 5.7.0 Authentication required"
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 2.1.0 OK"

    async def handle_RCPT(
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        owner, behaviour = self.owner, self.owner.behaviour
        owner.attempts += 1
        if behaviour.slow_seconds:
            await asyncio.sleep(behaviour.slow_seconds)
        if behaviour.refuse_all or address in behaviour.refuse_rcpt:
            return "550 5.1.1 no such mailbox"
        if behaviour.greylist > 0:
            behaviour.greylist -= 1
            return "451 4.7.1 greylisted, try again later"
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def smtp_DATA(self, arg: str) -> None:
        if self.owner.behaviour.wants_message_for_nobody and self.envelope and not self.envelope.rcpt_tos:
            await self.push("354 End data with <CR><LF>.<CR><LF>")
            await self._reader.readuntil(b".\r\n")
            await self.push("554 5.5.1 No valid recipients")
            return
        if self.owner.behaviour.drop_in_data > 0 and self.envelope and self.envelope.rcpt_tos:
            self.owner.behaviour.drop_in_data -= 1
            await self.push("354 End data with <CR><LF>.<CR><LF>")
            # Part of the message has arrived when the connection dies.
            await self._reader.read(16)
            self.abort()
            return
        await super().smtp_DATA(arg)
        self.unanswered = None

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        behaviour = self.owner.behaviour
        if behaviour.hang_in_data:
            await asyncio.Event().wait()
        if behaviour.data_reply:
            return behaviour.data_reply
        queue_id = self.owner.next_queue_id()
        self.unanswered = Received(
            mail_from=envelope.mail_from or "",
            rcpt_tos=tuple(envelope.rcpt_tos),
            content=bytes(envelope.original_content or b""),
            queue_id=queue_id,
            tls=session.ssl is not None or self.owner.implicit_tls,
            session=self.number,
        )
        self.owner.received.append(self.unanswered)
        if behaviour.drop_after_data > 0:
            behaviour.drop_after_data -= 1
            self.abort()
        return f"250 2.0.0 Ok: queued as {queue_id}"


@contextmanager
def running_smtp(
    *,
    starttls: ssl.SSLContext | None = None,
    implicit_tls: ssl.SSLContext | None = None,
    login: tuple[str, str] | None = None,
) -> Iterator[ScriptedSmtp]:
    """A server for as long as the block runs; with `starttls`, it takes no mail before TLS."""
    server = ScriptedSmtp(starttls=starttls, implicit_tls=implicit_tls, login=login)
    server.start()
    try:
        yield server
    finally:
        server.stop()
