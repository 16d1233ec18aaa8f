"""What happened after the moment of the rows, as far as the keys file tells: who was erased, who left."""

from __future__ import annotations

from base64 import b64decode
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, select, update

from signup.backup.archive import Reader
from signup.consents.models import Consent, ConsentState
from signup.contacts.models import Contact, DataKey
from signup.core.db import Session, reading, transaction
from signup.core.values import SYSTEM
from signup.eventlog.models import Publication
from signup.jobs import IS_DUE, JobRow
from signup.privacy import retention
from signup.privacy.models import Erasure
from signup.purposes.models import Controller
from signup.subscriptions import endings
from signup.subscriptions.endings import Ending
from signup.subscriptions.models import Subscription
from signup.subscriptions.states import EndReason, Status
from signup.suppression.models import Reason, Suppression
from signup.webhooks.models import Delivery, DeliveryState

# As many as one commit of a retention run takes.
BATCH = 200
# Looking takes no lock on PostgreSQL, and a few milliseconds on SQLite.
LOOK_BATCH = 1000
# How it was ended, for whoever reads the history; a page offers no undo for it.
BY_RESTORE = "restore"
# Receivers may have read numbers that were given after the keys file; new ones must come behind those.
SEQ_MARGIN = 1_000_000


@dataclass
class Settled:
    """How much had to be done again."""

    erased: int = 0
    key_lost: int = 0
    suppressed: int = 0
    ended: int = 0
    withdrawn: int = 0

    @property
    def counts(self) -> dict[str, int]:
        return asdict(self)


def settle(keys: Reader, *, now: datetime) -> Settled:
    """Nobody who was erased or left before the keys file was made is back, and no lease of a dead worker holds."""
    done = Settled()
    _read_journal(keys)
    _forget(done, now=now)
    _suppress(keys, done)
    _end(keys, done)
    _withdraw(keys, done)
    with transaction() as session:
        _void_leases(session, now=now)
        _renumber(session, keys.manifest.last_seq)
    return done


def _read_journal(keys: Reader) -> None:
    for lines in keys.lines(keys.part("erasure"), BATCH):
        with transaction() as session:
            for line in lines:
                row = _row(keys, "erasure", line)
                session.put(Erasure, row, on_conflict="ON CONFLICT (subject_hash) DO NOTHING")


def _row(keys: Reader, name: str, line: list[Any]) -> dict[str, Any]:
    """A line of the keys file as values of the models."""
    columns = keys.part(name).columns
    return {column: _value(way, value) for (column, way), value in zip(columns.items(), line, strict=True)}


def _value(way: str, value: Any) -> Any:
    if value is None:
        return None
    if way == "time":
        return datetime.fromisoformat(value)
    return b64decode(value) if way == "bytes" else value


def _forget(done: Settled, *, now: datetime) -> None:
    """Whoever is in the journal, or has no key any more, is forgotten by every holder as on that day."""
    people = select(Contact.id, DataKey.contact_id.is_(None).label("keyless")).outerjoin(
        DataKey, DataKey.contact_id == Contact.id
    )
    after = ""
    while True:
        with transaction() as session:
            found = session.execute(people.where(Contact.id > after).order_by(Contact.id).limit(LOOK_BATCH)).all()
            if not found:
                return
            after = found[-1].id
            hashes = {retention.journal_hash(session, row.id): row for row in found}
            known = set(session.scalars(select(Erasure.subject_hash).where(Erasure.subject_hash.in_(hashes))))
            gone = [row.id for key, row in hashes.items() if row.keyless or key in known]
            for start in range(0, len(gone), BATCH):
                retention.forget(session, gone[start : start + BATCH], "key-lost", now=now, though_held=True)
        done.erased += len(known)
        done.key_lost += len(gone) - len(known)


def _suppress(keys: Reader, done: Settled) -> None:
    """Whom we must not write to stays so; of two entries with the same reason the newer one holds."""
    newer = (
        "ON CONFLICT (controller_id, address_key, reason) DO UPDATE SET created_at = excluded.created_at, "
        "expires_at = excluded.expires_at WHERE excluded.created_at > suppression.created_at"
    )
    with reading() as session:
        controllers = set(session.scalars(select(Controller.id)))
        before = session.scalar(select(func.count()).select_from(Suppression)) or 0
    for lines in keys.lines(keys.part("suppression"), BATCH):
        with transaction() as session:
            for line in lines:
                row = _row(keys, "suppression", line)
                if row["controller_id"] in controllers:
                    session.put(Suppression, {**row, "reason": Reason(row["reason"])}, on_conflict=newer)
    with reading() as session:
        done.suppressed = (session.scalar(select(func.count()).select_from(Suppression)) or 0) - before


def _end(keys: Reader, done: Settled) -> None:
    """Subscriptions that had ended by then are ended, with the time and reason of that day."""
    for lines in keys.lines(keys.part("ended"), BATCH):
        rows = [_row(keys, "ended", line) for line in lines]
        going = Subscription.status.in_((Status.ACTIVE, Status.REQUESTED))
        asked = Subscription.contact_id.in_([row["contact_id"] for row in rows])
        with reading() as session:
            query = select(Subscription.contact_id, Subscription.id, Subscription.requested_at)
            standing = {found.contact_id: found for found in session.execute(query.where(going, asked))}
        for row in rows:
            found = standing.get(row["contact_id"])
            # Who asked anew after an ending is not ended by it.
            if found is not None and found.requested_at <= row["ended_at"]:
                # A request that was refused has no reason of its own.
                reason = EndReason(row["reason"]) if row["reason"] else EndReason.WITHDRAWN
                done.ended += _end_one(found.id, reason, row["ended_at"])


def _end_one(subscription_id: str, reason: EndReason, ended_at: datetime) -> bool:
    with transaction() as session:
        order = endings.load(session, subscription_id)
        return endings.end(session, order, Ending(reason, BY_RESTORE), client=None, actor=SYSTEM, now=ended_at)


def _withdraw(keys: Reader, done: Settled) -> None:
    """Topics that were left while the subscription went on are left."""
    for lines in keys.lines(keys.part("withdrawn"), BATCH):
        rows = [_row(keys, "withdrawn", line) for line in lines]
        with reading() as session:
            found = session.execute(
                select(Consent.contact_id, Consent.purpose_id, Consent.given_at).where(
                    Consent.state == ConsentState.GIVEN, Consent.contact_id.in_([row["contact_id"] for row in rows])
                )
            )
            given = {(contact_id, purpose_id): given_at for contact_id, purpose_id, given_at in found}
        for row in rows:
            given_at = given.get((row["contact_id"], row["purpose_id"]))
            if given_at is not None and given_at < row["ended_at"]:
                done.withdrawn += _withdraw_one(row)


def _withdraw_one(row: dict[str, Any]) -> bool:
    with transaction() as session:
        ident = session.scalars(select(Subscription.id).where(Subscription.contact_id == row["contact_id"])).one()
        order = endings.load(session, ident)
        scope = next(item for item in order.held if item.purpose_id == row["purpose_id"])
        ending = Ending(EndReason.UNSUBSCRIBED, BY_RESTORE)
        return endings.end_topic(session, order, scope, ending, client=None, actor=SYSTEM, now=row["ended_at"])


def _void_leases(session: Session, *, now: datetime) -> None:
    """What a worker of the old system had in hand is due: at least once, under the same ids."""
    quiet = {"synchronize_session": False}
    free = {"lease_token": None, "next_at": now}
    session.execute(
        update(JobRow).where(IS_DUE, JobRow.lease_token.is_not(None)).values(**free).execution_options(**quiet)
    )
    session.execute(
        update(Delivery)
        .where(Delivery.state == DeliveryState.DUE, Delivery.lease_token.is_not(None))
        .values(**free)
        .execution_options(**quiet)
    )


def _renumber(session: Session, last_seq: int) -> None:
    """The newest publication is told once more, under a number behind all that any receiver can have read."""
    newest = session.scalar(select(func.max(Publication.seq)))
    if newest is not None:
        session.execute(
            update(Publication)
            .where(Publication.seq == newest)
            .values(seq=max(newest, last_seq) + SEQ_MARGIN)
            .execution_options(synchronize_session=False)
        )
