"""One connection to the mail server: the only file that speaks SMTP."""

from __future__ import annotations

import re
import smtplib
import ssl
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from flask import current_app
from flask_mail import Connection, Mail

from signup.core.config import MailConfig
from signup.core.db import assert_no_transaction

mail = Mail()

# RFC 5321 4.2.3: the server says goodbye, or wants the message.
CLOSING = 421
SEND_MESSAGE = 354
END_OF_MESSAGE = b".\r\n"

# RFC 3463 2: class, subject, detail. It opens the text of a reply, and unlike the rest cannot repeat an address.
_ENHANCED = re.compile(r"[245]\.\d{1,3}\.\d{1,3}(?!\S)")


class VerifiedConnection(Connection):
    """Flask-Mail's connection with a time limit and a checked certificate, which it lacks.

    Rule: RFC 3207 4.1, the client decides whether the certificate is good enough.
    """

    def configure_host(self) -> smtplib.SMTP | smtplib.SMTP_SSL:
        settings: MailConfig = current_app.extensions["signup.config"].mail
        context = ssl.create_default_context(cafile=settings.ca_file)
        host: smtplib.SMTP | smtplib.SMTP_SSL
        if settings.use_ssl:
            host = smtplib.SMTP_SSL(settings.server, settings.port, timeout=settings.timeout_seconds, context=context)
        else:
            host = smtplib.SMTP(settings.server, settings.port, timeout=settings.timeout_seconds)
        if settings.use_tls:
            host.starttls(context=context)
        if settings.username and settings.password:
            host.login(settings.username, settings.password)
        return host


class Unreachable(Exception):
    """The mail server could not be talked to; nothing is known about the mail."""


@dataclass(frozen=True)
class Answer:
    """What the mail server said about one mail."""

    code: int
    text: str

    @classmethod
    def of(cls, reply: tuple[int, bytes | str]) -> Answer:
        """As smtplib gives it."""
        code, text = reply
        return cls(code, (text.decode("utf-8", "replace") if isinstance(text, bytes) else text)[:500])

    @property
    def full(self) -> str:
        """All the server said. It may repeat the address, so it is kept sealed only."""
        return f"{self.code} {self.text}"

    @property
    def short(self) -> str:
        """Code and enhanced status, such as `550 5.1.1`."""
        enhanced = _ENHANCED.match(self.text)
        return f"{self.code} {enhanced[0]}" if enhanced else str(self.code)

    @property
    def accepted(self) -> bool:
        return 200 <= self.code < 300

    @property
    def goes_on(self) -> bool:
        """Whether the dialogue can go on: one command was accepted, or the message is wanted."""
        return 200 <= self.code < 400

    @property
    def final(self) -> bool:
        return self.code >= 500


class Postman:
    """One connection to the mail server, kept open between mails. Belongs to one thread."""

    def __init__(self) -> None:
        self._connection: Connection | None = None

    def hand_over(self, sender: str, recipient: str, raw: bytes) -> Answer:
        """The server's last answer about this mail.

        Raises:
            Unreachable: the connection failed before an answer came.
        """
        assert_no_transaction()
        reused = self._connection is not None
        try:
            return self._dialogue(sender, recipient, raw)
        except (smtplib.SMTPException, OSError) as error:
            self.close()
            if not reused:
                raise Unreachable(_trouble(error)) from error
        # A server may close an idle connection at any time; that says nothing about the mail.
        try:
            return self._dialogue(sender, recipient, raw)
        except (smtplib.SMTPException, OSError) as error:
            self.close()
            raise Unreachable(_trouble(error)) from error

    def _dialogue(self, sender: str, recipient: str, raw: bytes) -> Answer:
        host = self._host()
        host.ehlo_or_helo_if_needed()
        answer = _envelope(host, sender, recipient)
        if answer.code == SEND_MESSAGE:
            # RFC 5321 4.5.2: a line that begins with a dot gets another one.
            host.send(raw.replace(b"\r\n.", b"\r\n..") + END_OF_MESSAGE)
            answer = Answer.of(host.getreply())
        elif answer.code != CLOSING:
            with suppress(smtplib.SMTPException, OSError):
                host.rset()
        if answer.code == CLOSING:
            self.close()
        return answer

    def _host(self) -> Any:
        if self._connection is None:
            self._connection = VerifiedConnection(current_app.extensions["mail"]).__enter__()
        return self._connection.host

    def close(self) -> None:
        if self._connection is None:
            return
        host, self._connection = self._host(), None
        with suppress(smtplib.SMTPException, OSError):
            host.quit()


def _envelope(host: Any, sender: str, recipient: str) -> Answer:
    """The server wants the message (354), or the first answer that stands against it.

    Rule: RFC 2920 3.1, a server that says so takes all commands at once: two round trips a mail instead of four.
    """
    commands = (f"MAIL FROM:<{sender}>", f"RCPT TO:<{recipient}>", "DATA")
    for group in [commands] if host.has_extn("pipelining") else [(command,) for command in commands]:
        host.send("".join(f"{command}\r\n" for command in group))
        answers = [Answer.of(host.getreply()) for _ in group]
        refusal = next((answer for answer in answers if not answer.goes_on), None)
        if refusal:
            if answers[-1].code == SEND_MESSAGE:
                # RFC 2920 3.1: it may want a message for nobody; without one it would read our next commands as such.
                host.send(END_OF_MESSAGE)
                host.getreply()
            return refusal
    return answers[-1]


def _trouble(error: Exception) -> str:
    """What went wrong with the connection, without what the server wrote."""
    told = str(error)
    if isinstance(error, smtplib.SMTPResponseException):
        told = Answer.of((error.smtp_code, error.smtp_error)).short
    return f"{type(error).__name__}: {told}"
