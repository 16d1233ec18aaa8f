"""Handing mails to the mail server: the only file that speaks SMTP."""

from __future__ import annotations

import logging
import smtplib
import ssl
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from flask import current_app
from flask_mail import Connection, Mail
from sqlalchemy import select

from signup import jobs
from signup.contacts import actions as contacts
from signup.core.config import MailConfig
from signup.core.db import Session, assert_no_transaction, reading, transaction
from signup.eventlog.kinds import EventType
from signup.eventlog.record import Subject, record
from signup.mail import compose
from signup.mail.models import Message, MessageState

mail = Mail()

Clock = Callable[[], datetime]

# Handing over one mail takes milliseconds; a dead worker's mails go to another after this.
LEASE_SECONDS = 300
BATCH = 20
# RFC 5321 4.2.3: the server says goodbye.
CLOSING = 421
# A server that answers "later" (4xx) is asked again after these, then every four hours until the link expires.
LATER_SECONDS = (60, 300, 900, 3600, 14_400)
# No connection burns no retry: after 10, 30 and 60 s, then every minute.
CONNECTION_STEPS_SECONDS = (10, 30, 60)
# An outage shorter than this mends itself unnoticed.
ALARM_AFTER = timedelta(minutes=15)

log = logging.getLogger(__name__)


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

    @property
    def accepted(self) -> bool:
        return 200 <= self.code < 300

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
                raise Unreachable(f"{type(error).__name__}: {error}") from error
        # A server may close an idle connection at any time; that says nothing about the mail.
        try:
            return self._dialogue(sender, recipient, raw)
        except (smtplib.SMTPException, OSError) as error:
            self.close()
            raise Unreachable(f"{type(error).__name__}: {error}") from error

    def _dialogue(self, sender: str, recipient: str, raw: bytes) -> Answer:
        host = self._host()
        host.ehlo_or_helo_if_needed()
        for command, address in ((host.mail, sender), (host.rcpt, recipient)):
            code, text = command(address)
            if not 200 <= code < 300:
                self._give_up_mail(host, code)
                return Answer(code, _text(text))
        try:
            code, text = host.data(raw)
        except smtplib.SMTPDataError as refused:
            code, text = refused.smtp_code, refused.smtp_error
        if code == CLOSING:
            self.close()
        return Answer(code, _text(text))

    def _host(self) -> Any:
        if self._connection is None:
            self._connection = VerifiedConnection(current_app.extensions["mail"]).__enter__()
        return self._connection.host

    def _give_up_mail(self, host: Any, code: int) -> None:
        if code == CLOSING:
            self.close()
            return
        with suppress(smtplib.SMTPException, OSError):
            host.rset()

    def close(self) -> None:
        if self._connection is None:
            return
        host, self._connection = self._host(), None
        with suppress(smtplib.SMTPException, OSError):
            host.quit()


def _text(reply: bytes | str) -> str:
    text = reply.decode("utf-8", "replace") if isinstance(reply, bytes) else reply
    return text[:500]


@dataclass(frozen=True)
class Outgoing:
    """A leased mail, opened and ready to go; `stop` says why it must not go any more."""

    job: jobs.Job
    message_id: str
    controller_id: str
    confirmation_id: str | None
    subject: Subject | None
    header_id: str
    sender: str
    recipient: str
    raw: bytes
    sha256: str
    give_up_at: datetime
    stop: str | None


def run(leased: Sequence[jobs.Job], postman: Postman, clock: Clock, *, on_accepted: Callable[..., None]) -> None:
    """Each leased mail is handed over, refused, given up or due again.

    Args:
        on_accepted: `(session, confirmation_id, now)`; told in the commit that records the hand-over.
    """
    with reading() as session:
        outgoing = _open_all(session, leased, now=clock())
    results: list[tuple[Outgoing, Answer | None, str]] = []
    unreachable = ""
    for item in outgoing:
        if item.stop or unreachable:
            results.append((item, None, item.stop or unreachable))
            continue
        try:
            results.append((item, postman.hand_over(item.sender, item.recipient, item.raw), ""))
        except Unreachable as failure:
            unreachable = str(failure)
            results.append((item, None, unreachable))
    now = clock()
    with transaction() as session:
        gone = {item.job.id for item in outgoing}
        jobs.finish(session, [job for job in leased if job.id not in gone])
        for item, answer, error in results:
            _settle(session, item, answer, error, now=now, on_accepted=on_accepted)


def _open_all(session: Session, leased: Sequence[jobs.Job], *, now: datetime) -> list[Outgoing]:
    by_message = {job.payload["message"]: job for job in leased}
    rows = session.scalars(
        select(Message).where(Message.id.in_(list(by_message)), Message.state == MessageState.QUEUED)
    ).all()
    keys = contacts.open_keys(session, [row.contact_id for row in rows if row.contact_id])
    outgoing = []
    for row in rows:
        key = keys.get(row.contact_id or "")
        stop = None
        if row.sealed is None or key is None:
            stop, recipient, raw = "the person was erased", "", b""
        else:
            recipient, raw = compose.opened(session, key, row.sealed)
            if now >= row.give_up_at:
                stop = "the link in it has expired"
        outgoing.append(
            Outgoing(
                job=by_message[row.id],
                message_id=row.id,
                controller_id=row.controller_id,
                confirmation_id=row.confirmation_id,
                subject=Subject(row.contact_id, key) if row.contact_id and key else None,
                header_id=row.message_id or "",
                sender=row.envelope_from or "",
                recipient=recipient,
                raw=raw,
                sha256=row.sha256 or "",
                give_up_at=row.give_up_at,
                stop=stop,
            )
        )
    return sorted(outgoing, key=lambda item: item.message_id)


def _settle(
    session: Session,
    item: Outgoing,
    answer: Answer | None,
    error: str,
    *,
    now: datetime,
    on_accepted: Callable[..., None],
) -> None:
    if item.stop:
        session.change(Message, {"id": item.message_id}, {"state": MessageState.CANCELLED, "reason": item.stop})
        jobs.finish(session, [item.job])
    elif answer is None:
        _raise_alarm(item.job, error, now=now)
        jobs.retry(session, item.job, at=_next_connection(item.job, now=now), error=error[:500], burns_attempt=False)
    elif answer.accepted:
        _accepted(session, item, answer, now=now)
        on_accepted(session, item.confirmation_id, now)
        jobs.finish(session, [item.job])
    elif answer.final:
        _failed(session, item, answer, now=now)
        jobs.finish(session, [item.job])
    else:
        at = now + timedelta(seconds=LATER_SECONDS[min(item.job.attempt, len(LATER_SECONDS)) - 1])
        jobs.retry(session, item.job, at=at, error=f"{answer.code} {answer.text}"[:500])


def _raise_alarm(job: jobs.Job, error: str, *, now: datetime) -> None:
    age = now - job.created_at
    if age > ALARM_AFTER:
        minutes = int(age.total_seconds() // 60)
        log.error("mail has been waiting for the mail server", extra={"minutes": minutes, "error": error})


def _next_connection(job: jobs.Job, *, now: datetime) -> datetime:
    """Soon while the outage is young; the age of the job is the age of the outage at most."""
    age = (now - job.created_at).total_seconds()
    step = next((step for step in CONNECTION_STEPS_SECONDS if age < step), CONNECTION_STEPS_SECONDS[-1])
    return now + timedelta(seconds=step)


def _evidence(item: Outgoing, answer: Answer) -> dict[str, Any]:
    settings: MailConfig = current_app.extensions["signup.config"].mail
    return {
        "message_id": item.header_id,
        "mail_sha256": item.sha256,
        "confirmation": item.confirmation_id,
        "recipient": item.recipient,
        "smtp_server": settings.server,
        "smtp_reply": f"{answer.code} {answer.text}",
    }


def _accepted(session: Session, item: Outgoing, answer: Answer, *, now: datetime) -> None:
    session.change(
        Message,
        {"id": item.message_id},
        {"state": MessageState.ACCEPTED, "smtp_reply": f"{answer.code} {answer.text}", "accepted_at": now},
    )
    record(session, item.controller_id, EventType.MAIL_ACCEPTED, _evidence(item, answer), now=now, subject=item.subject)


def _failed(session: Session, item: Outgoing, answer: Answer, *, now: datetime) -> None:
    reply = f"{answer.code} {answer.text}"
    session.change(
        Message, {"id": item.message_id}, {"state": MessageState.FAILED, "reason": reply, "smtp_reply": reply}
    )
    record(session, item.controller_id, EventType.MAIL_FAILED, _evidence(item, answer), now=now, subject=item.subject)
