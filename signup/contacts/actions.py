"""Finding and adding contacts, and opening what is sealed for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, delete, select, update

from signup.contacts.models import Contact, DataKey
from signup.core.db import Claim, Prepared, Session, claim_of
from signup.core.errors import NotFound
from signup.core.values import EmailAddress, new_id
from signup.eventlog.record import Subject
from signup.purposes.models import LegalBasis


@dataclass(frozen=True)
class Found:
    """A contact we hold now, and whether it is new in this transaction."""

    subject: Subject
    email: str
    fresh: bool

    @property
    def contact_id(self) -> str:
        return self.subject.contact_id


def address_key(session: Session, controller_id: str, email: EmailAddress) -> bytes:
    """The keyed hash under which an address is found, per controller."""
    return session.keys.keyed_hash("address", f"{controller_id}|{email.comparable}")


@dataclass(frozen=True)
class NewContact:
    """Who is entered, how they came about and why we may keep them."""

    email: EmailAddress
    locale: str
    origin: Mapping[str, Any]  # type, detail, collected_by
    legal_basis: LegalBasis


@dataclass(frozen=True)
class Claimed:
    """The row of a contact, ours until the commit, before its key is opened."""

    id: str
    email: str
    fresh: bool


def find_or_add(session: Session, controller_id: str, new: NewContact, *, now: datetime) -> Found:
    """The contact with this address exists, and its row is ours until the commit.

    An existing contact is returned as it is: a sign-up that nobody confirmed must not change a profile.
    """
    ask = claim(session, controller_id, new, now=now)
    rows = session.claim([ask])
    claimed = claimed_by(ask, rows[0])
    rows = [] if claimed.fresh else session.rows(_KEY, {"contact_id": claimed.id})
    return with_key(session, claimed, rows[0][0] if rows else None)


def claim(session: Session, controller_id: str, new: NewContact, *, now: datetime) -> Claim:
    """The claim to the contact with this address, for callers that claim more in the same statement."""
    row = {
        "id": new_id("con", now),
        "controller_id": controller_id,
        "email": new.email.normalised,
        "email_typed": new.email.typed,
        "address_key": address_key(session, controller_id, new.email),
        "locale": new.locale,
        "origin": dict(new.origin),
        "legal_basis": new.legal_basis.value,
        "version": 1,
        "created_at": now,
        "updated_at": now,
    }
    return claim_of(
        Contact,
        row,
        on=["controller_id", "address_key"],
        update="controller_id = excluded.controller_id",
        returning=["id", "email"],
    )


def claimed_by(ask: Claim, row: tuple[str, str]) -> Claimed:
    """What `ask` has returned: the contact that was there, or the new one."""
    return Claimed(row[0], row[1], fresh=row[0] == ask.values[0])


def disclaim(session: Session, claimed: Claimed) -> None:
    """A contact that was claimed for nothing is not kept."""
    if claimed.fresh:
        session.execute(delete(Contact).where(Contact.id == claimed.id).execution_options(synchronize_session=False))


def with_key(session: Session, claimed: Claimed, wrapped: bytes | None) -> Found:
    """The claimed contact with its opened data key; a fresh one gets its key now.

    Raises:
        NotFound: the contact was erased, and its key with it.
    """
    if claimed.fresh:
        plain, wrapped = session.keys.new_data_key()
        session.put(DataKey, {"contact_id": claimed.id, "wrapped": wrapped})
    elif wrapped is None:
        raise NotFound("There is no such contact.")
    else:
        plain = session.keys.unwrap(wrapped)
    return Found(Subject(claimed.id, plain), claimed.email, claimed.fresh)


def lock(session: Session, contact_ids: Sequence[str]) -> list[str]:
    """These contacts are ours until the commit; those in other hands, or gone, are left out.

    Whoever changes anything about a person takes their contact's row first: then nobody reads what another is
    about to change, and two cannot wait for each other.
    """
    query = select(Contact.id).where(Contact.id.in_(contact_ids)).order_by(Contact.id)
    return list(session.scalars(query.with_for_update(skip_locked=True)))


def take(session: Session, contact_id: str) -> bool:
    """Whether the contact is held; if so, it is ours until the commit, after whoever has it now."""
    return session.scalar(select(Contact.id).where(Contact.id == contact_id).with_for_update()) is not None


def open_key(session: Session, contact_id: str) -> bytes:
    """The contact's data key.

    Raises:
        NotFound: the contact was erased, and its key with it.
    """
    rows = session.rows(_KEY, {"contact_id": contact_id})
    if not rows:
        raise NotFound("There is no such contact.")
    return session.keys.unwrap(rows[0][0])


_KEY = Prepared(select(DataKey.wrapped).where(DataKey.contact_id == bindparam("contact_id")))


def open_keys(session: Session, contact_ids: Sequence[str]) -> dict[str, bytes]:
    """The data keys of those of the contacts that are still held."""
    rows = session.execute(_KEYS, {"ids": list(contact_ids)})
    return {contact_id: session.keys.unwrap(wrapped) for contact_id, wrapped in rows}


_KEYS = select(DataKey.contact_id, DataKey.wrapped).where(DataKey.contact_id.in_(bindparam("ids", expanding=True)))


@dataclass(frozen=True)
class ContactView:
    """A contact as the API shows it."""

    id: str
    email: str
    locale: str
    origin: dict[str, Any]
    legal_basis: str
    version: int
    created_at: datetime
    updated_at: datetime
    fields: dict[str, Any]


_VIEW = (
    Contact.id,
    Contact.email,
    Contact.locale,
    Contact.origin,
    Contact.legal_basis,
    Contact.version,
    Contact.created_at,
    Contact.updated_at,
    Contact.fields,
)


def get(session: Session, controller_id: str, contact_id: str) -> ContactView:
    """The contact with this id.

    Raises:
        NotFound: this controller holds no such contact.
    """
    row = session.execute(
        select(*_VIEW).where(Contact.controller_id == controller_id, Contact.id == contact_id)
    ).first()
    if row is None:
        raise NotFound("There is no such contact.")
    return ContactView(*row)


def find(session: Session, controller_id: str, email: EmailAddress) -> ContactView | None:
    """The contact with this address, if this controller holds one."""
    key = address_key(session, controller_id, email)
    row = session.execute(
        select(*_VIEW).where(Contact.controller_id == controller_id, Contact.address_key == key)
    ).first()
    return ContactView(*row) if row else None


def page(
    session: Session, controller_id: str, *, after: str, limit: int, email: EmailAddress | None = None
) -> list[ContactView]:
    """Contacts in the order of their ids, after the id `after`."""
    query = select(*_VIEW).where(Contact.controller_id == controller_id, Contact.id > after)
    if email is not None:
        query = query.where(Contact.address_key == address_key(session, controller_id, email))
    return [ContactView(*row) for row in session.execute(query.order_by(Contact.id).limit(limit))]


def learn(session: Session, contact_id: str, said: Mapping[str, Any], *, now: datetime) -> dict[str, Any]:
    """What the person said and confirmed is part of the contact; the newer word counts.

    Returns:
        All that the contact has said by now.
    """
    before = session.scalar(select(Contact.fields).where(Contact.id == contact_id)) or {}
    values = {"fields": {**before, **said}, "version": Contact.version + 1, "updated_at": now}
    change = update(Contact).where(Contact.id == contact_id).values(**values)
    session.execute(change.execution_options(synchronize_session=False))
    return {**before, **said}


def forget(session: Session, contact_ids: Sequence[str]) -> None:
    """The contacts and their data keys are gone; whatever was sealed for them can never be opened again.

    Rule: GDPR 17(1).
    """
    quiet = {"synchronize_session": False}
    session.execute(delete(DataKey).where(DataKey.contact_id.in_(contact_ids)).execution_options(**quiet))
    session.execute(delete(Contact).where(Contact.id.in_(contact_ids)).execution_options(**quiet))
