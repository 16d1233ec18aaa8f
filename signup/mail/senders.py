"""Which sender a controller may use: its DNS records are looked up, what they said is kept, and may be required."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from urllib.parse import urlsplit

from sqlalchemy import select

from signup.core.config import Config
from signup.core.db import Session
from signup.core.errors import Conflict
from signup.core.values import OPERATOR
from signup.eventlog.kinds import EventType
from signup.eventlog.record import record
from signup.mail import alignment, dkim, signing
from signup.mail.alignment import DkimRecord, Finding, Sender
from signup.mail.models import SenderCheck
from signup.purposes.actions import ControllerView

# Zones change; whoever publishes next month looks again.
COUNTS_FOR = timedelta(days=30)


@dataclass(frozen=True)
class Standing:
    """What the last look at a sender's records said.

    Args:
        passed: None when nobody has looked.
    """

    sender: str
    passed: bool | None
    checked_at: datetime | None


def presented(session: Session, controller: ControllerView, sender: str = "") -> Sender:
    """How mails of the controller present themselves, so that `alignment.check` can look it up.

    Args:
        sender: an address that it might use; its present one if not given.
    """
    config = session.config
    domain = (sender or controller.sender).rpartition("@")[2]
    returns = (config.intake.bounce_address or "").rpartition("@")[2] or domain
    return Sender(domain, returns, spf_term(config), _dkim(session, controller, domain))


def spf_term(config: Config) -> str:
    """What an SPF record says for mails to leave: as set, or else the mail server, or this machine if it is here.

    Returns:
        A term such as `a:mail.example.org`; empty when nobody can know from where mails reach the world.
    """
    if config.sending.spf:
        return config.sending.spf
    server = config.mail.server if config.mail else ""
    return _term(server) or _term(urlsplit(config.public_url).hostname or "")


def _term(host: str) -> str:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return f"a:{host.lower()}" if "." in host and not host.endswith((".local", ".internal", ".")) else ""
    return f"ip{address.version}:{address}" if address.is_global else ""


def _dkim(session: Session, controller: ControllerView, domain: str) -> DkimRecord | None:
    """The key in use; else the newest for the domain, which is about to be; else the mail server's own."""
    key = signing.key_for(session, controller, domain)
    if key is not None:
        return DkimRecord(key.domain, dkim.record_name(key), dkim.record_text(key))
    selector = session.config.sending.dkim_selector
    return DkimRecord(domain, f"{selector}._domainkey.{domain}", "") if selector else None


def remember(
    session: Session, controller: ControllerView, sender: str, findings: Sequence[Finding], *, now: datetime
) -> bool:
    """What the records of this sender say is on record.

    Returns:
        Whether it may be used where that is required.
    """
    passed = alignment.passed(list(findings))
    said = [{"record": item.record, "verdict": item.verdict.value, "name": item.name} for item in findings]
    row = SenderCheck(controller_id=controller.id, sender=sender.lower(), passed=passed, findings=said, checked_at=now)
    session.merge(row)
    fields = {
        "host": sender.rpartition("@")[2],
        "status": "passed" if passed else "failed",
        "reason": ", ".join(f"{item['record']} {item['verdict']}" for item in said),
    }
    record(session, controller.id, EventType.SENDER_CHECKED, fields, now=now, actor=OPERATOR)
    return passed


def standing(session: Session, controller: ControllerView, sender: str = "") -> Standing:
    """What is known of this sender, or of the one that the controller uses."""
    address = (sender or controller.sender).lower()
    query = select(SenderCheck.passed, SenderCheck.checked_at).where(
        SenderCheck.controller_id == controller.id, SenderCheck.sender == address
    )
    row = session.execute(query).first()
    return Standing(address, *(row if row else (None, None)))


def refuse_unchecked(session: Session, controller: ControllerView, sender: str = "", *, now: datetime) -> None:
    """The sender may be used: nothing is required, or its records were right when somebody looked lately.

    Raises:
        Conflict: nobody looked, too long ago, or something was wrong.
    """
    if not session.config.sending.required:
        return
    known = standing(session, controller, sender)
    look = f"flask sender check {controller.slug}" + (f" --sender {known.sender}" if sender else "")
    if known.checked_at is None:
        raise Conflict(f"The DNS records of {known.sender} have to be checked first: {look}.", code="sender")
    if not known.passed:
        raise Conflict(f"The DNS records of {known.sender} are not right: {look} says which.", code="sender")
    if now - known.checked_at > COUNTS_FOR:
        raise Conflict(f"The DNS records of {known.sender} were checked long ago: {look}.", code="sender")
