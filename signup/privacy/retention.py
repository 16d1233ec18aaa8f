"""What is kept no longer than needed: unconfirmed sign-ups, spent counters, old answers."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, String, and_, delete, exists, func, literal_column, or_, select, text, update
from sqlalchemy.orm import InstrumentedAttribute

from signup.abuse.models import Budget, Flow, SpentProof
from signup.consents import actions as consents
from signup.consents import uses
from signup.consents.models import Consent, ConsentState
from signup.contacts import actions as contacts
from signup.contacts import holds
from signup.contacts.models import AddressChange, Contact, Hold
from signup.core.db import Session, affected, database, reading, scrub, transaction
from signup.core.errors import Conflict
from signup.eventlog.kinds import EventType
from signup.eventlog.models import LinkHits
from signup.eventlog.record import Subject, forget_person, publish, record
from signup.forms import views
from signup.intake import actions as intake
from signup.intake.models import InboundReport
from signup.jobs import Job
from signup.mail.models import Message
from signup.privacy import caught, proofs, redaction, residues
from signup.privacy.models import Erasure
from signup.purposes.models import LegalBasis
from signup.staff.models import IdempotencyKey
from signup.subscriptions import payload
from signup.subscriptions.models import NEVER_CONFIRMED, Confirmation, Submission, Subscription
from signup.subscriptions.states import ConfirmationState, Status
from signup.webhooks import deliveries, pruning

JOB_RUN = "retention.run"
EVERY_SECONDS = 900
# The promise is 24 h after expiry. Half of it leaves room for a worker that was down over night,
# and the visitor with an expired link can still ask for a new one without typing the address again.
HELD_AFTER_EXPIRY = timedelta(hours=12)
# Spelled out, not bound: SQLite uses a partial index only when the query repeats its condition.
IS_OPEN = Confirmation.state == literal_column("'open'", String)
# One batch holds the writers' lock for a few milliseconds.
BATCH = 50
FORGET_BATCH = 500

log = logging.getLogger(__name__)


def run(_leased: Sequence[Job], clock: Callable[[], datetime]) -> None:
    run_now(clock)


def run_now(clock: Callable[[], datetime]) -> dict[str, int]:
    """Everything that is over its time is gone, in small commits, and the run is on record.

    Returns:
        How many of each were expired, erased or forgotten.

    Rule: GDPR 5(1)(e).
    """
    counts: Counter[str] = Counter()
    more = True
    while more:
        more = _step(counts, clock())
    config = database().config
    if config.development:
        with reading() as session:
            mails = caught.stale(session, config.instance / "mailbox")
        caught.remove(mails)
    if not scrub():
        log.warning("erased data may still be in the write-ahead log; the next run tries again")
    if any(counts.values()):
        with transaction() as session:
            policy = {name: getattr(config, name) for name in ("token_days", "ip_days", "proof_years")}
            fields = {"counts": dict(counts), "policy": policy}
            record(session, None, EventType.RETENTION_RUN, fields, now=clock())
    return dict(counts)


def preview(session: Session, *, now: datetime) -> dict[str, int]:
    """How many of each a run would expire, erase or forget now; changes nothing."""
    questions = select(func.count()).where(Confirmation.state == ConfirmationState.OPEN, Confirmation.expires_at <= now)
    return {
        "expired": session.scalar(questions) or 0,
        "erased": session.scalar(select(func.count()).where(_unconfirmed(now))) or 0,
        "ended": proofs.count(session, now=now),
        "redacted": redaction.count_due(session, now=now),
        **residues.count_due(session, now=now),
        **{name: _number(session, _over(key.class_, now)) for name, key in _EXPIRING.items()},
        "flows": _number(session, Flow.expires_at <= now),
        "views": views.old(session, now=now),
        **{name: _number(session, condition) for name, (_, condition) in pruning.due(now=now).items()},
    }


# What goes as a whole when its own time is over.
_EXPIRING: dict[str, InstrumentedAttribute[Any]] = {
    "submissions": Submission.key,
    "answers": IdempotencyKey.key_hash,
    "budgets": Budget.key,
    "addresses": AddressChange.id,
    "reports": InboundReport.id,
    "proofs": SpentProof.nonce,
    "openings": LinkHits.token_hash,
}


def _over(model: Any, now: datetime) -> ColumnElement[bool]:
    over: ColumnElement[bool] = model.expires_at <= now
    return and_(over, ~holds.is_held(model.contact_id)) if hasattr(model, "contact_id") else over


def _number(session: Session, condition: ColumnElement[bool]) -> int:
    return session.scalar(select(func.count()).where(condition)) or 0


def _unconfirmed(now: datetime) -> ColumnElement[bool]:
    due = or_(Subscription.ended_at <= now - HELD_AFTER_EXPIRY, Subscription.status == Status.REFUSED)
    # Whom we know for another reason, such as a contract, stays known when a request runs out.
    only_asked = Subscription.contact_id.in_(
        select(Contact.id).where(Contact.legal_basis == LegalBasis.CONSENT.value, Contact.id == Subscription.contact_id)
    )
    return and_(text(NEVER_CONFIRMED), due, only_asked, ~holds.is_held(Subscription.contact_id))


def _step(counts: Counter[str], now: datetime) -> bool:
    """One batch of each is done and counted; whether there may be more."""
    with transaction() as session:
        people = {"expired": expire(session, now=now)}
        orphans = close_orphans(session, now=now)
    with transaction() as session:
        people["erased"] = erase_unconfirmed(session, now=now)
    with transaction() as session:
        people["ended"] = erase_ended(session, now=now)
    with transaction() as session:
        rows = {name: _forget(session, key, now=now) for name, key in _EXPIRING.items()}
        # Few enough for one statement: a row an hour for each form, and for a domain that several people share.
        few = {"flows": affected(session.execute(delete(Flow).where(Flow.expires_at <= now)))}
        few["views"] = views.prune(session, now=now)
    with transaction() as session:
        rows |= pruning.prune(session, now=now, limit=FORGET_BATCH)
    with transaction() as session:
        redacted = redaction.redact(session, now=now)
    with transaction() as session:
        left = residues.prune(session, now=now)
        looked = left.pop("looked")
    counts.update(people | rows | few | left | {"redacted": redacted.count})
    in_batches = [*left.values(), looked]
    return (
        max(orphans, *people.values()) >= BATCH
        or FORGET_BATCH in rows.values()
        or residues.BATCH in in_batches
        or redacted.more
    )


def _forget(session: Session, key: InstrumentedAttribute[Any], *, now: datetime) -> int:
    """A batch of rows that are over their time is gone."""
    model = key.class_
    due = select(key).where(_over(model, now)).limit(FORGET_BATCH)
    gone = session.execute(
        delete(model).where(key.in_(due.scalar_subquery())).execution_options(synchronize_session=False)
    )
    return affected(gone)


def expire(session: Session, *, now: datetime) -> int:
    """Questions whose time is over are expired, and so is what was requested only by them.

    Returns:
        How many, at most one batch.
    """
    owners = session.scalars(
        select(Confirmation.contact_id)
        .where(IS_OPEN, Confirmation.expires_at <= now, Confirmation.contact_id.is_not(None))
        .order_by(Confirmation.expires_at)
        .limit(BATCH)
    )
    ours = contacts.lock(session, [owner for owner in dict.fromkeys(owners) if owner])
    # Only now: until the contact was ours, its owner could still confirm or ask again.
    due = session.scalars(
        select(Confirmation)
        .where(IS_OPEN, Confirmation.expires_at <= now, Confirmation.contact_id.in_(ours))
        .order_by(Confirmation.expires_at)
    ).all()
    held = holds.held_among(session, ours)
    for question in due:
        question.state = ConfirmationState.EXPIRED
        question.closed_at = now
        if question.contact_id not in held:
            question.told = None
    session.flush()
    # Counted from the promise in the mail, not from when a worker came by.
    last = {question.contact_id: question for question in due if question.contact_id}
    for contact_id, question in last.items():
        _expire_contact(session, contact_id, question, now=now)
    return len(due)


def close_orphans(session: Session, *, now: datetime) -> int:
    """Purposes that were asked for while a cap held their mail, and never came into a question, are expired.

    Returns:
        How many, at most one batch.
    """
    covered = exists().where(Confirmation.contact_id == Consent.contact_id, IS_OPEN)
    orphaned = and_(
        Consent.state == literal_column("'requested'", String),
        Consent.requested_at <= now - timedelta(days=session.config.token_days),
        ~covered,
    )
    owners = session.scalars(select(Consent.contact_id).where(orphaned).limit(BATCH)).all()
    ours = contacts.lock(session, list(dict.fromkeys(owners)))
    # Only now: until the contact was ours, its owner could ask again.
    closed = session.execute(
        update(Consent)
        .where(orphaned, Consent.contact_id.in_(ours))
        .values(state=ConsentState.EXPIRED, ended_at=now)
        .execution_options(synchronize_session=False)
    )
    return affected(closed)


def _expire_contact(session: Session, contact_id: str, last: Confirmation, *, now: datetime) -> None:
    still_open = session.scalar(
        select(Confirmation.id)
        .where(Confirmation.contact_id == contact_id, Confirmation.state == ConfirmationState.OPEN)
        .limit(1)
    )
    found = session.scalars(select(Subscription).where(Subscription.contact_id == contact_id)).first()
    if still_open or found is None:
        return
    consents.close_requests(session, found.controller_id, contact_id, ConsentState.EXPIRED, now=now)
    if found.status is not Status.REQUESTED:
        return
    version = found.version + 1
    changes = {"status": Status.EXPIRED, "version": version, "ended_at": last.expires_at, "updated_at": now}
    session.change(Subscription, {"id": found.id}, changes)
    subject = Subject(contact_id, contacts.open_key(session, contact_id))
    event_id = record(
        session,
        found.controller_id,
        EventType.SUBSCRIPTION_EXPIRED,
        {"subscription": found.id, "confirmation": last.id},
        now=now,
        subject=subject,
    )
    standing = payload.Standing(found.id, contact_id, Status.EXPIRED.value, None, version, found.epoch)
    data = payload.data(session, standing, None, [], [])
    publish(session, found.controller_id, "subscription.expired", data, now=now, event_id=event_id, subject=subject)


def erase_unconfirmed(session: Session, *, now: datetime) -> int:
    """The personal data of people who never confirmed, or refused, is gone; an address-free residue stays.

    Returns:
        How many contacts were erased, at most one batch.

    Rule: GDPR 17(1)(a); what stays (times, form version, Message-ID, hashes) answers "why did you write to me".
    """
    found = session.scalars(select(Subscription.contact_id).where(_unconfirmed(now)).limit(BATCH)).all()
    ours = contacts.lock(session, found)
    # Only now: until the contact was ours, its owner could still sign up again.
    due = session.scalars(
        select(Subscription.contact_id).where(_unconfirmed(now), Subscription.contact_id.in_(ours))
    ).all()
    if due:
        forget(session, due, "retention", now=now)
    return len(due)


def erase_ended(session: Session, *, now: datetime) -> int:
    """People whose subscription ended so long ago that nobody can ask for its proof are gone, and recipients are told.

    Returns:
        How many contacts were erased, at most one batch.

    Rule: GDPR 5(1)(e), 19.
    """
    due = proofs.over(session.config, now=now)
    found = session.scalars(select(Subscription.contact_id).where(due).limit(BATCH)).all()
    ours = contacts.lock(session, found)
    owners = select(Subscription.contact_id, Subscription.controller_id)
    rows = session.execute(owners.where(due, Subscription.contact_id.in_(ours))).all()
    if rows:
        forget(session, [row.contact_id for row in rows], "proof-over", now=now)
    for row in rows:
        proofs.tell_erased(session, row.controller_id, row.contact_id, now=now)
    return len(rows)


def forget(
    session: Session, contact_ids: Sequence[str], reason: str, *, now: datetime, though_held: bool = False
) -> None:
    """Every holder of these persons' data has let go of it, in an order that no reference is left hanging.

    The journal says so in the same commit, and says it for good: an old copy that comes back is held against it.

    Args:
        though_held: they were forgotten before; an old copy that came back does not know that their hold was released.

    Raises:
        Conflict: one of them is under a legal hold.

    Rule: GDPR 17(1); 17(3)(e), what a claim needs stays.
    """
    if not though_held and holds.held_among(session, contact_ids):
        raise Conflict("A legal hold forbids this erasure. It has to be released first.", code="held")
    for contact_id in contact_ids:
        entry = {"subject_hash": journal_hash(session, contact_id), "erased_at": now, "reason": reason}
        session.put(Erasure, entry, on_conflict="ON CONFLICT (subject_hash) DO NOTHING")
    ids, quiet = list(contact_ids), {"synchronize_session": False}
    deliveries.forget(session, ids)
    intake.forget(session, ids)
    uses.forget(session, ids)
    residues.forget(session, ids)
    forget_person(session, ids)
    nobody = {"contact_id": None}
    for statement in (
        update(Message).where(Message.contact_id.in_(ids)).values(sealed=None, reason=None, smtp_reply=None, **nobody),
        update(Confirmation)
        .where(Confirmation.contact_id.in_(ids))
        .values(subscription_id=None, page_host=None, told=None, **nobody),
        delete(Submission).where(Submission.contact_id.in_(ids)),
        delete(Hold).where(Hold.contact_id.in_(ids)),
        delete(AddressChange).where(AddressChange.contact_id.in_(ids)),
        delete(Consent).where(Consent.contact_id.in_(ids)),
        delete(Subscription).where(Subscription.contact_id.in_(ids)),
    ):
        session.execute(statement.execution_options(**quiet))
    contacts.forget(session, ids)


def journal_hash(session: Session, contact_id: str) -> bytes:
    """Under which the journal of erasures knows a contact; it leads back to nobody."""
    return session.keys.keyed_hash("erasure", contact_id)
