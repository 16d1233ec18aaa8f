"""Says what was lost, halved, doubled or left behind: holds the database against what clients and receivers saw."""

from __future__ import annotations

import base64
import hashlib
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import func, select

from signup import jobs
from signup.consents.models import Consent, ConsentState
from signup.contacts import actions as contacts
from signup.contacts.models import Contact, DataKey
from signup.core.db import Base, Session, reading
from signup.eventlog import history
from signup.eventlog.kinds import EventType
from signup.eventlog.models import Event, Publication
from signup.eventlog.record import Subject
from signup.mail.compose import JOB_SEND
from signup.mail.models import Message, MessageState
from signup.subscriptions.models import Confirmation, Submission, Subscription
from signup.subscriptions.states import ConfirmationState, Status
from signup.webhooks.models import Attempt, Delivery, DeliveryState, Endpoint
from tests.faults.crowd import Ledger, message_id_of
from tests.support.receiver import Request
from tests.support.smtp import Received

REQUESTED, CONFIRMED = "subscription.requested", "subscription.confirmed"


@dataclass
class Verdict:
    """Every list names what is wrong; the counters are for people."""

    lost: list[str] = field(default_factory=list)  # promised, and not there
    half: list[str] = field(default_factory=list)  # there, and not whole
    stuck: list[str] = field(default_factory=list)  # nobody will do it any more
    strange: list[str] = field(default_factory=list)  # there without a reason, or more often than faults explain
    sign_ups: int = 0
    unanswered_but_stored: int = 0
    confirmed: int = 0
    mails: int = 0
    mail_duplicates: int = 0
    posts: int = 0
    post_duplicates: int = 0

    def problems(self) -> list[str]:
        return [*self.lost, *self.half, *self.stuck, *self.strange]


@dataclass
class _Held:
    """The tables, by contact."""

    emails: dict[str, str]
    rows: dict[str, dict[str, list[Any]]]  # table -> contact -> rows
    publications: list[Any]
    deliveries: dict[tuple[str, str], Any]  # publication, endpoint
    endpoints: dict[str, str]  # path -> id
    attempts: Counter[str]

    def of(self, model: type[Base], contact_id: str) -> list[Any]:
        return self.rows[model.__tablename__].get(contact_id, [])


def unfinished() -> int:
    """How much the worker still owes: mails, deliveries, numbers in the feed."""
    with reading() as session:
        return sum(
            session.scalar(query) or 0
            for query in (
                select(func.count()).where(jobs.JobRow.kind == JOB_SEND, jobs.JobRow.state == jobs.DUE),
                select(func.count()).where(Delivery.state == DeliveryState.DUE),
                select(func.count()).where(Publication.seq.is_(None)),
            )
        )


def judge(ledger: Ledger, mails: Sequence[Received], posts: Iterable[Request], *, finished: bool = True) -> Verdict:
    """Everything held against everything seen.

    Args:
        finished: the worker has done all it owes; without it only the rows are judged, not what left the house.
    """
    verdict = Verdict(sign_ups=len(ledger.accepted), confirmed=len(ledger.confirmed))
    with reading() as session:
        held = _load(session)
        _whole_events(session, held, verdict)
    _promises(held, ledger, verdict)
    for contact_id, email in held.emails.items():
        _whole_person(held, contact_id, email, verdict, finished=finished)
    _no_orphans(held, verdict)
    if finished:
        _nothing_stuck(verdict)
        _mails(held, ledger, mails, verdict)
        _posts(held, ledger, list(posts), verdict)
    return verdict


def _load(session: Session) -> _Held:
    rows: dict[str, dict[str, list[Any]]] = {}
    for model in (Subscription, Consent, Confirmation, Message, Event, DataKey, Submission, Publication):
        by_contact: dict[str, list[Any]] = defaultdict(list)
        wanted = [column for column in model.__table__.columns if column.name not in ("sealed", "leaf", "payload")]
        for row in session.execute(select(*wanted)):
            if row.contact_id is not None:
                by_contact[row.contact_id].append(row)
        rows[model.__tablename__] = by_contact
    return _Held(
        emails={row.id: row.email for row in session.execute(select(Contact.id, Contact.email))},
        rows=rows,
        publications=list(session.execute(select(Publication.id, Publication.type))),
        deliveries={
            (row.publication_id, row.endpoint_id): row
            for row in session.execute(
                select(Delivery.id, Delivery.publication_id, Delivery.endpoint_id, Delivery.state)
            )
        },
        endpoints={
            "/" + row.url.rpartition("/")[2]: row.id for row in session.execute(select(Endpoint.id, Endpoint.url))
        },
        attempts=Counter(session.scalars(select(Attempt.delivery_id))),
    )


def _promises(held: _Held, ledger: Ledger, verdict: Verdict) -> None:
    """Who was told "we have it" is there; who was told "you are in" is in, and nobody else."""
    there = {email: contact_id for contact_id, email in held.emails.items()}
    verdict.lost += [f"{email} was accepted and is not there" for email in ledger.accepted - there.keys()]
    verdict.strange += [f"{email} never signed up" for email in there.keys() - ledger.tried]
    verdict.unanswered_but_stored = len((there.keys() & ledger.tried) - ledger.accepted)
    active = {
        held.emails[contact_id]
        for contact_id, rows in held.rows["subscription"].items()
        if contact_id in held.emails and rows[0].status is Status.ACTIVE
    }
    verdict.lost += [f"{email} confirmed and is not active" for email in ledger.confirmed - active]
    verdict.strange += [f"{email} is active and never confirmed" for email in active - ledger.confirming]


def _whole_person(held: _Held, contact_id: str, email: str, verdict: Verdict, *, finished: bool) -> None:
    """All rows of one sign-up, each once, whatever happened while it was written."""
    subscriptions = held.of(Subscription, contact_id)
    active = bool(subscriptions) and subscriptions[0].status is Status.ACTIVE
    consents, questions = held.of(Consent, contact_id), held.of(Confirmation, contact_id)
    events = Counter(row.kind for row in held.of(Event, contact_id))
    told = Counter(row.type for row in held.of(Publication, contact_id))
    mails = held.of(Message, contact_id)
    state = ConsentState.GIVEN if active else ConsentState.REQUESTED
    question = ConfirmationState.CONFIRMED if active else ConfirmationState.OPEN
    checks = {
        "one subscription": len(subscriptions) == 1,
        "one data key": len(held.of(DataKey, contact_id)) == 1,
        "one consent in the right state": [row.state for row in consents] == [state],
        "one question in the right state": [row.state for row in questions] == [question],
        "one request in the log": events[EventType.SUBSCRIPTION_REQUESTED] == 1,
        "its confirmation in the log": events[EventType.SUBSCRIPTION_CONFIRMED] == int(active),
        "its publications": told == Counter({REQUESTED: 1, **({CONFIRMED: 1} if active else {})}),
        "one mail": len(mails) == 1,
        "a mail that went": not finished or [row.state for row in mails] == [MessageState.ACCEPTED],
        "one hand-over in the log": not finished or events[EventType.MAIL_ACCEPTED] == 1,
    }
    verdict.half += [f"{email} has not {what}" for what, holds in checks.items() if not holds]
    owed = {(row.id, endpoint) for row in held.of(Publication, contact_id) for endpoint in held.endpoints.values()}
    verdict.half += [f"{email}: {publication} is owed to nobody" for publication, _ in owed - held.deliveries.keys()]


def _no_orphans(held: _Held, verdict: Verdict) -> None:
    for table, by_contact in held.rows.items():
        verdict.half += [f"{table} of {ident}, who is not there" for ident in by_contact.keys() - held.emails.keys()]


def _whole_events(session: Session, held: _Held, verdict: Verdict) -> None:
    """Each event of a person has exactly the fields that its leaf was made of."""
    controllers = dict(session.execute(select(Contact.id, Contact.controller_id)).all())
    keys = contacts.open_keys(session, list(held.emails))
    for contact_id, email in held.emails.items():
        if contact_id not in keys:
            verdict.half.append(f"{email} has no key")
            continue
        for fact in history.of_contact(session, controllers[contact_id], Subject(contact_id, keys[contact_id])):
            digests = {_digest(disclosure) for disclosure in fact.disclosures}
            if fact.redacted or digests != set(json.loads(fact.leaf)["sd"]):
                verdict.half.append(f"{fact.id} of {email} does not hold what its leaf says")


def _digest(disclosure: str) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(disclosure.encode()).digest()).rstrip(b"=").decode()


def _nothing_stuck(verdict: Verdict) -> None:
    with reading() as session:
        waiting = session.execute(select(jobs.JobRow.id, jobs.JobRow.error).where(jobs.JobRow.kind == JOB_SEND))
        verdict.stuck += [f"{row.id} still waits: {row.error}" for row in waiting]
        undone = session.execute(select(Delivery.id, Delivery.state).where(Delivery.state != DeliveryState.DELIVERED))
        verdict.stuck += [f"{row.id} is {row.state.value}" for row in undone]
        numbers = session.scalars(select(Publication.seq).order_by(Publication.seq)).all()
        if numbers != list(range(1, len(numbers) + 1)):
            verdict.stuck.append("the feed has gaps")


def _mails(held: _Held, ledger: Ledger, mails: Sequence[Received], verdict: Verdict) -> None:
    """Each mail once, and again at most for each fault that met it on its way; every copy is the same."""
    copies: dict[str, list[Received]] = defaultdict(list)
    for mail in mails:
        copies[message_id_of(mail.content)].append(mail)
    owed = {row.message_id: contact for contact, rows in held.rows["message"].items() for row in rows}
    verdict.lost += [f"the mail {ident} never arrived" for ident in owed.keys() - copies.keys()]
    verdict.strange += [f"the mail {ident} is not on record" for ident in copies.keys() - owed.keys()]
    verdict.mails = len(copies)
    for ident, same in copies.items():
        if len({(mail.content, mail.rcpt_tos) for mail in same}) != 1 or same[0].rcpt_tos != (
            held.emails.get(owed.get(ident, "")),
        ):
            verdict.strange.append(f"the copies of {ident} differ, or went to somebody else")
        again = len(same) - 1
        verdict.mail_duplicates += again
        if again > ledger.mails_in_flight[ident]:
            verdict.strange.append(f"{ident} came {again} times too often, {ledger.mails_in_flight[ident]} explained")


def _posts(held: _Held, ledger: Ledger, posts: Sequence[Request], verdict: Verdict) -> None:
    """Each publication at each endpoint once, again for each try on record and each fault that met it on its way."""
    copies: dict[tuple[str, str], list[bytes]] = defaultdict(list)
    for post in posts:
        if len(post.body) < int(post.headers["content-length"]):
            # Its sender died in the middle, and no receiver takes half a request for a whole one.
            continue
        copies[(post.path, post.headers["webhook-id"])].append(post.body)
    owed = {(path, row.id) for path in held.endpoints for row in held.publications}
    verdict.lost += [f"{ident} never came to {path}" for path, ident in owed - copies.keys()]
    verdict.strange += [f"{ident} came to {path} and is not on record" for path, ident in copies.keys() - owed]
    verdict.posts = len(copies)
    for key, bodies in copies.items():
        path, ident = key
        if len(set(bodies)) != 1:
            verdict.strange.append(f"the copies of {ident} differ")
        row = held.deliveries.get((ident, held.endpoints.get(path, "")))
        tries = held.attempts[row.id] if row else 0
        verdict.post_duplicates += len(bodies) - 1
        unexplained = len(bodies) - tries - ledger.posts_in_flight[key]
        if unexplained > 0:
            verdict.strange.append(f"{ident} came {unexplained} times more to {path} than tries and faults explain")
