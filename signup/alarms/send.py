"""Telling the operator, by webhook and by mail: neither waits for the other, nor for the queues it reports on."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from datetime import datetime
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, parseaddr
from urllib.parse import urlsplit

from flask import current_app

from signup.alarms import actions
from signup.alarms.actions import Notice, Target
from signup.alarms.models import Way
from signup.alarms.rules import Change, Step, sentence
from signup.core import outbound
from signup.core.addresses import Allowance
from signup.core.config import Config
from signup.core.db import reading, transaction
from signup.core.outbound import OutboundFailed, OutboundRefused
from signup.core.values import rfc3339
from signup.jobs import Job
from signup.mail.postman import Postman, Unreachable
from signup.webhooks import rules as signing

JOB_RUN = "alarms.run"
EVERY_SECONDS = 60
# Longer than one failing try on each way takes.
LEASE_SECONDS = 180
TOTAL_SECONDS = 10.0
SUBJECT_CHARACTERS = 110

Clock = Callable[[], datetime]

log = logging.getLogger(__name__)


class Undelivered(Exception):
    """The target did not take the notice; says why without naming the target."""


def run(_leased: Sequence[Job], clock: Clock) -> None:
    """What is wrong is on record, and the operator is told, as far as a way works."""
    config: Config = current_app.extensions["signup.config"]
    ways = actions.targets(config)
    with reading() as session:
        findings = actions.measure(session, now=clock())
    with transaction() as session:
        told = actions.note(session, findings, ways, now=clock())
        lost = actions.forget(session, ways, now=clock())
    for step in told:
        _log(step)
    if lost:
        log.error("alarm notices were given up", extra={"notices": lost})
    for target in ways:
        _work_off(target, config, clock)


def _log(step: Step) -> None:
    level = logging.INFO if step.change is Change.CLEARED else logging.ERROR
    log.log(level, "alarm", extra={"change": step.change.value, "text": sentence(step.change, step.finding, "en")})


def _work_off(target: Target, config: Config, clock: Clock) -> None:
    """The notices for this target are sent, or the first that could not be is put off."""
    with reading() as session:
        notices = actions.due(session, target, now=clock())
    for notice in notices:
        try:
            _SEND[target.way](target, notice, config, clock())
        except Exception as error:
            # Whatever is wrong with this way, the other one must still be tried.
            reason = str(error) if isinstance(error, Undelivered) else f"internal: {type(error).__name__}"
            log.error("an alarm could not be sent", extra={"way": target.way.value, "error": reason})
            with transaction() as session:
                actions.failed(session, notice, reason, now=clock())
            return
        with transaction() as session:
            actions.sent(session, notice, now=clock())


def _post(target: Target, notice: Notice, config: Config, now: datetime) -> None:
    document = {
        "id": notice.id,
        "type": "alarm",
        "timestamp": rfc3339(notice.created_at),
        "schema_version": 1,
        # Chat programs show this field of an incoming webhook and need nothing else.
        "text": "\n".join(alarm["text"] for alarm in notice.content),
        "data": {"service": config.public_url, "alarms": notice.content},
    }
    body = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
    headers = {"Content-Type": "application/json"}
    if config.alarm_secret:
        headers |= signing.sign(config.alarm_secret, notice.id, now, body)
    try:
        reply = outbound.post(
            target.address,
            body,
            headers,
            allowance=Allowance.parse(config.outbound_allow),
            total_seconds=TOTAL_SECONDS,
        )
    except OutboundFailed as failure:
        raise Undelivered(str(failure)) from failure
    except OutboundRefused as refusal:
        raise Undelivered(f"refused: {refusal.code}") from refusal
    if not 200 <= reply.status < 300:
        raise Undelivered(f"the receiver answered {reply.status}")


def _mail(target: Target, notice: Notice, config: Config, _now: datetime) -> None:
    if config.mail is None:
        raise Undelivered("MAIL_SERVER is not set")
    # A connection of its own: the queue's may be the one that hangs.
    postman = Postman()
    sender = parseaddr(config.mail.default_sender or "")[1] or target.address
    try:
        answer = postman.hand_over(sender, target.address, compose(sender, target.address, notice, config.public_url))
    except Unreachable as failure:
        raise Undelivered(str(failure)) from failure
    finally:
        postman.close()
    if not answer.accepted:
        raise Undelivered(answer.short)


def compose(sender: str, recipient: str, notice: Notice, public_url: str) -> bytes:
    """The mail about a notice: the same bytes at each try."""
    host = urlsplit(public_url).hostname or "localhost"
    first, count = notice.content[0]["text"], len(notice.content)
    subject = f"[Signup {host}] {first}" + (f" (+{count - 1})" if count > 1 else "")
    message = EmailMessage(policy=SMTP)
    message["From"] = sender
    message["To"] = recipient
    message["Subject"] = subject if len(subject) <= SUBJECT_CHARACTERS else subject[: SUBJECT_CHARACTERS - 1] + "…"
    message["Date"] = format_datetime(notice.created_at)
    message["Message-ID"] = f"<{notice.id}@{host}>"
    message["Auto-Submitted"] = "auto-generated"
    lines = [line for alarm in notice.content for line in (alarm["text"], alarm["text_de"], "")]
    message.set_content("\n".join([*lines, public_url, ""]), cte="quoted-printable")
    return message.as_bytes()


_SEND: dict[Way, Callable[[Target, Notice, Config, datetime], None]] = {Way.WEBHOOK: _post, Way.MAIL: _mail}
