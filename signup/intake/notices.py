"""Notices of providers: who may send them, and that each has its effect once."""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64decode
from datetime import datetime

import msgspec

from signup.core.db import Database, Session, transaction
from signup.core.errors import Conflict, Forbidden, Invalid, NotFound, Unauthenticated
from signup.intake import actions, providers, send, sns
from signup.intake.actions import Arrival, Taken
from signup.intake.kinds import Kind, Way
from signup.intake.providers import PROVIDERS
from signup.intake.reports import Report


def take(database: Database, name: str, raw: bytes, authorization: str, *, now: datetime) -> Taken | None:
    """The notice is checked and has its effect; None for an event that means nothing to us.

    Raises:
        NotFound: no such provider, or it is not set up.
        Unauthenticated, Forbidden: it is not from the provider.
        Invalid: it is no notice at all.
        Busy: it cannot be checked now, or not be written; the provider sends it again.
    """
    if name == "ses" and database.config.intake.ses_topics:
        arrival = _of_amazon(database, raw, now=now)
    elif name == "brevo" and database.config.intake.brevo_token:
        _check_token(database.config.intake.brevo_token, authorization)
        arrival = _arrival(name, raw, hashlib.sha256(raw).hexdigest())
    else:
        raise NotFound("No provider of this name is set up.")
    if arrival.report.kind is Kind.IGNORED:
        # Deliveries and openings are told too; a row for each would be a row a mail.
        return None
    with transaction() as session:
        return actions.take(session, None, arrival, now=now)


def _arrival(name: str, raw: bytes, own_id: str) -> Arrival:
    provider = PROVIDERS[name]
    return Arrival(provider.way, raw, providers.read(provider, raw), f"{name}|{own_id}")


def _of_amazon(database: Database, raw: bytes, *, now: datetime) -> Arrival:
    try:
        content = msgspec.json.decode(raw)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise Invalid("This is not JSON.") from None
    try:
        notice = sns.envelope(content, database.config.intake.ses_topics)
        sns.verify(notice, send.certificate(database, notice.fields["SigningCertURL"]), now=now)
    except sns.Refused as refused:
        raise Forbidden(str(refused)) from None
    if notice.kind == sns.NOTIFICATION:
        return _arrival("ses", notice.message.encode("utf-8", "replace"), notice.ident)
    kind = Kind.CONFIRMATION if notice.kind == sns.CONFIRMATION else Kind.IGNORED
    report = Report(kind, reason=f"Amazon asks whether the topic {notice.fields['TopicArn']} may send")
    return Arrival(Way.SES, raw, report, f"ses|{notice.ident}")


def _check_token(token: str, authorization: str) -> None:
    """The token as bearer token, or as the password of a user of any name in the provider's URL for us."""
    kind, _, value = authorization.partition(" ")
    given = value.strip().encode()
    if kind.lower() == "basic":
        try:
            given = b64decode(given, validate=True).partition(b":")[2]
        except ValueError:
            given = b""
    if not hmac.compare_digest(given, token.encode()):
        raise Unauthenticated("The token of this notice is missing or wrong.")


def confirmation_url(session: Session, report_id: str) -> str:
    """Where the topic of a kept request is confirmed.

    Raises:
        NotFound: no such request waits.
        Conflict: it leads elsewhere than to Amazon, or its topic is not listed any more.
    """
    raw = actions.raw_of(session, report_id, kind=Kind.CONFIRMATION)
    try:
        notice = sns.envelope(msgspec.json.decode(raw), session.config.intake.ses_topics)
    except (sns.Refused, msgspec.DecodeError) as refused:
        raise Conflict(str(refused)) from None
    url = notice.fields["SubscribeURL"]
    if not sns.is_confirmation_url(url, notice.fields["TopicArn"]):
        raise Conflict("This request leads elsewhere than to Amazon SNS.")
    return url
