"""A new address for a contact: asked for by a program, in force once its owner confirms it by mail."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

from sqlalchemy import select, update
from sqlalchemy.exc import IntegrityError

from signup.abuse import limits
from signup.contacts import actions as contacts
from signup.contacts import entries
from signup.contacts.actions import ContactView
from signup.contacts.models import AddressChange, Contact
from signup.core.db import Session
from signup.core.errors import Conflict, NotFound, TooMany
from signup.core.signing import new_token_id, token_hash
from signup.core.values import PERSON, Actor, ClientInfo, EmailAddress, mask, new_id, rfc3339
from signup.eventlog.kinds import EventType
from signup.eventlog.record import Subject, client_fields, publish, record
from signup.mail import compose
from signup.purposes import actions as purposes
from signup.purposes.actions import ControllerView
from signup.subscriptions import tone

LINK = "address"


class State(Enum):
    """What a mailed link stands for."""

    OPEN = "open"
    CONFIRMED = "confirmed"
    GONE = "gone"


@dataclass(frozen=True)
class Shown:
    """What the page behind a link tells."""

    state: State
    masked: str
    locale: str
    controller: ControllerView
    expires_at: datetime
    informal: bool


def ask(
    session: Session,
    controller_id: str,
    contact_id: str,
    to: EmailAddress,
    *,
    client: ClientInfo,
    actor: Actor,
    now: datetime,
) -> None:
    """The new address has a mail with a link, the old one knows of it, and nothing has changed yet.

    Raises:
        NotFound: this controller holds no such contact.
        Conflict: it is the contact's address already, or another one's, or suppressed.
        TooMany: the new address has had enough mails, or the contact was asked a moment ago.

    Rule: GDPR 5(1)(d) and 16; only who reads the new mailbox can say that it is theirs.
    """
    if not contacts.take(session, contact_id):
        raise NotFound("There is no such contact.")
    held = contacts.get(session, controller_id, contact_id)
    _refuse(session, held, controller_id, to, now=now)
    _spend(session, controller_id, (held.email, to.comparable), now=now)
    subject = Subject(contact_id, contacts.open_key(session, contact_id))
    token, expires_at = new_token_id(), now + timedelta(days=session.config.token_days)
    _open(session, controller_id, subject, to, token, now=now, expires_at=expires_at)
    owner = purposes.get_controller(session, controller_id)
    message_id = _mails(session, owner, held, subject, to, token, now=now)
    fields = {
        "email": to.typed,
        "message_id": message_id,
        "token_sha256": token_hash(token).hex(),
        "expires_at": rfc3339(expires_at),
        **client_fields(client),
    }
    kind = EventType.ADDRESS_CHANGE_ASKED
    record(session, controller_id, kind, fields, now=now, subject=subject, actor=actor)


def _open(
    session: Session,
    controller_id: str,
    subject: Subject,
    to: EmailAddress,
    token: bytes,
    *,
    now: datetime,
    expires_at: datetime,
) -> None:
    """This change can be confirmed, and no earlier one of the same contact."""
    session.execute(
        update(AddressChange)
        .where(AddressChange.contact_id == subject.contact_id, AddressChange.state == State.OPEN.value)
        .values(state="replaced")
        .execution_options(synchronize_session=False)
    )
    row = {
        "id": new_id("adr", now),
        "controller_id": controller_id,
        "contact_id": subject.contact_id,
        "token_hash": token_hash(token),
        "sealed": session.keys.seal(subject.data_key, to.typed.encode()),
        "state": State.OPEN.value,
        "created_at": now,
        "expires_at": expires_at,
    }
    session.put(AddressChange, row)


def _refuse(session: Session, held: ContactView, controller_id: str, to: EmailAddress, *, now: datetime) -> None:
    if EmailAddress.parse(held.email).comparable == to.comparable:
        raise Conflict("This is the contact's address already.", code="address-unchanged")
    entries.refuse_suppressed(session, controller_id, to, now=now)
    if contacts.find(session, controller_id, to) is not None:
        raise Conflict("Another contact has this address.", code="contact-exists")


def _spend(session: Session, controller_id: str, addresses: tuple[str, str], *, now: datetime) -> None:
    """Both mails are within the caps of their addresses, or none is sent."""
    keys = sorted({limits.address_budget_key(session, controller_id, address.lower()) for address in addresses})
    spent = {key: limits.lock(session, key, now=now) for key in keys}
    wait = max(limits.remaining_seconds(one, limits.ADDRESS_MAIL, now=now) for one in spent.values())
    if wait:
        raise TooMany("One of the addresses has had enough mails for now.", retry_after_seconds=wait)
    for key, one in spent.items():
        limits.save(session, key, limits.spend(one, limits.ADDRESS_MAIL, now=now))


def _mails(
    session: Session,
    controller: ControllerView,
    held: ContactView,
    subject: Subject,
    to: EmailAddress,
    token: bytes,
    *,
    now: datetime,
) -> str:
    when = {"requested_at": compose.local_time(now, held.locale, controller.timezone)}
    url = {"confirm_url": f"{session.config.public_url}/{LINK}/{session.keys.token(LINK, token)}"}
    days = session.config.token_days
    expires_at = now + timedelta(days=days)
    spoken = tone.of_contact(session, held.id)
    told = compose.Wording("address-told", held.locale, controller, (), days, spoken)
    asked = compose.Wording("address", held.locale, controller, (), days, spoken)
    compose.queue(session, compose.Draft(subject, held.email, told, when, None, expires_at), now=now)
    draft = compose.Draft(subject, to.normalised, asked, {**when, **url}, None, expires_at)
    return compose.queue(session, draft, now=now)


def look(session: Session, ident: bytes, *, now: datetime) -> Shown | None:
    """What the link stands for; None when we never sent it, or its time is long over."""
    row = _row(session, ident)
    if row is None:
        return None
    held = contacts.get(session, row.controller_id, row.contact_id)
    state = State.GONE
    if row.state == State.CONFIRMED.value:
        state = State.CONFIRMED
    elif row.state == State.OPEN.value and now < row.expires_at:
        state = State.OPEN
    controller = purposes.get_controller(session, row.controller_id)
    return Shown(
        state,
        mask(_address(session, row).normalised),
        held.locale,
        controller,
        row.expires_at,
        tone.informal(session, held.id),
    )


def confirm(session: Session, ident: bytes, *, client: ClientInfo, page_seconds: int, now: datetime) -> State | None:
    """The contact has the new address, and the outside is told; every other state stays as it is.

    Returns:
        What the link stands for now; None when we never sent it.
    """
    first = _row(session, ident)
    if first is None or not contacts.take(session, first.contact_id):
        return None
    session.refresh(first)
    if first.state != State.OPEN.value or now >= first.expires_at:
        return State.CONFIRMED if first.state == State.CONFIRMED.value else State.GONE
    to = _address(session, first)
    if not _move(session, first, to, now=now):
        first.state = "taken"
        return State.GONE
    first.state = State.CONFIRMED.value
    session.flush()
    _tell(session, first, to, client=client, page_seconds=page_seconds, now=now)
    return State.CONFIRMED


def _move(session: Session, row: AddressChange, to: EmailAddress, *, now: datetime) -> bool:
    """The contact has the address, unless somebody else has it."""
    if contacts.find(session, row.controller_id, to) is not None:
        return False
    changes = {
        "email": to.normalised,
        "email_typed": to.typed,
        "address_key": contacts.address_key(session, row.controller_id, to),
        "version": Contact.version + 1,
        "updated_at": now,
    }
    moved = update(Contact).where(Contact.id == row.contact_id).values(**changes)
    try:
        with session.begin_nested():
            session.execute(moved.execution_options(synchronize_session=False))
    except IntegrityError:
        # A sign-up with this address was under way: nobody could see it, and it has been first.
        return False
    return True


def _tell(
    session: Session, row: AddressChange, to: EmailAddress, *, client: ClientInfo, page_seconds: int, now: datetime
) -> None:
    subject = Subject(row.contact_id, contacts.open_key(session, row.contact_id))
    fields = {
        "email": to.typed,
        "token_sha256": row.token_hash.hex(),
        "act": "button",
        "page_seconds": page_seconds,
        **client_fields(client),
    }
    kind = EventType.CONTACT_UPDATED
    event_id = record(session, row.controller_id, kind, fields, now=now, subject=subject, actor=PERSON)
    data = {"contact": {"id": row.contact_id, "email": to.normalised, "external_ids": {}}, "field_locks": []}
    publish(session, row.controller_id, kind.value, data, now=now, event_id=event_id, subject=subject)


def _row(session: Session, ident: bytes) -> AddressChange | None:
    return session.scalars(select(AddressChange).where(AddressChange.token_hash == token_hash(ident))).first()


def _address(session: Session, row: AddressChange) -> EmailAddress:
    key = contacts.open_key(session, row.contact_id)
    return EmailAddress.parse(session.keys.unseal(key, row.sealed).decode())
