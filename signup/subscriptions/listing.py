"""Subscriptions as lists and exports show them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Integer, Text, bindparam, func, select, type_coerce

from signup.consents.models import Consent, ConsentState
from signup.contacts import actions as contacts
from signup.contacts.models import Contact
from signup.core.db import Prepared, Rfc3339, Session
from signup.core.errors import NotFound
from signup.core.values import EmailAddress
from signup.purposes.models import Purpose
from signup.subscriptions import links, payload
from signup.subscriptions.models import Subscription
from signup.subscriptions.states import Frequency, Ground, Status

STATUSES = {item.value: item for item in Status}


@dataclass(frozen=True)
class Row:
    """A subscription with its person, what they agreed to, and ready header values."""

    id: str
    contact_id: str
    email: str
    status: Status
    ground: Ground | None
    end_reason: str | None
    version: int
    purposes: list[str]  # slugs with a consent in force
    requested_at: datetime
    activated_at: datetime | None
    ended_at: datetime | None
    origin: dict[str, Any]
    legal_basis: str
    proof_url: str
    list_unsubscribe: str
    list_unsubscribe_post: str
    frequency: Frequency
    paused_until: datetime | None
    preferences_url: str
    fields: dict[str, Any]  # declared ones of the contact

    @property
    def confirmed_at(self) -> datetime | None:
        """When the person clicked; None when another ground made it active."""
        return self.activated_at if self.ground is Ground.CONFIRMED else None

    @property
    def is_confirmed_address(self) -> bool:
        """Whether anybody but a stranger at a form vouches for the address."""
        return self.activated_at is not None


_COLUMNS = (
    Subscription.id,
    Subscription.contact_id,
    Contact.email,
    Subscription.status,
    Subscription.ground,
    Subscription.end_reason,
    Subscription.version,
    Subscription.epoch,
    Subscription.requested_at,
    Subscription.activated_at,
    Subscription.ended_at,
    Contact.origin,
    Contact.legal_basis,
    Subscription.frequency,
    Subscription.paused_until,
    Contact.fields,
)


def page(
    session: Session,
    controller_id: str,
    *,
    after: str = "",
    limit: int,
    email: EmailAddress | None = None,
    status: Status | None = None,
) -> list[Row]:
    """Subscriptions in the order of their ids, after the id `after`; two queries, whatever the limit."""
    query = (
        select(*_COLUMNS)
        .join(Contact, Contact.id == Subscription.contact_id)
        .where(Subscription.controller_id == controller_id, Subscription.id > after)
    )
    if email is not None:
        query = query.where(Contact.address_key == contacts.address_key(session, controller_id, email))
    if status is not None:
        query = query.where(Subscription.status == status)
    return _rows(session, session.execute(query.order_by(Subscription.id).limit(limit)).all())


def count(session: Session, controller_id: str, *, status: Status | None = None) -> int:
    """How many subscriptions a list would hold now."""
    query = select(func.count()).select_from(Subscription).where(Subscription.controller_id == controller_id)
    if status is not None:
        query = query.where(Subscription.status == status)
    return session.scalar(query) or 0


def get(session: Session, controller_id: str, subscription_id: str) -> Row:
    """The subscription with this id.

    Raises:
        NotFound: this controller has none.
    """
    query = (
        select(*_COLUMNS)
        .join(Contact, Contact.id == Subscription.contact_id)
        .where(Subscription.controller_id == controller_id, Subscription.id == subscription_id)
    )
    found = _rows(session, session.execute(query).all())
    if not found:
        raise NotFound("There is no such subscription.")
    return found[0]


def _rows(session: Session, rows: Sequence[Any]) -> list[Row]:
    given: dict[str, list[Any]] = {row.contact_id: [] for row in rows}
    query = (
        select(Consent.contact_id, Purpose.slug, Consent.state, Consent.origin, Consent.legal_basis)
        .join(Purpose, Purpose.id == Consent.purpose_id)
        .where(Consent.contact_id.in_(list(given)), Consent.given_at.is_not(None))
        .order_by(Consent.contact_id, Purpose.slug)
    )
    for consent in session.execute(query):
        given[consent.contact_id].append(consent)
    return [_row(session, row, given[row.contact_id]) for row in rows]


def _row(session: Session, row: Any, given: Sequence[Any]) -> Row:
    # What the person agreed to last says more than how the contact first came in.
    basis = given[0] if given else row
    list_unsubscribe, preferences_url = links.of_all(session, row.id, row.epoch)
    return Row(
        id=row.id,
        contact_id=row.contact_id,
        email=row.email,
        status=row.status,
        ground=row.ground,
        end_reason=row.end_reason.value if row.end_reason else None,
        version=row.version,
        purposes=[item.slug for item in given if item.state is ConsentState.GIVEN],
        requested_at=row.requested_at,
        activated_at=row.activated_at,
        ended_at=row.ended_at,
        origin=basis.origin,
        legal_basis=basis.legal_basis,
        proof_url=payload.proof_url(session, row.contact_id),
        list_unsubscribe=list_unsubscribe,
        list_unsubscribe_post=links.ONE_CLICK,
        frequency=row.frequency,
        paused_until=row.paused_until,
        preferences_url=preferences_url,
        fields=row.fields,
    )


class Line(NamedTuple):
    """A subscription as an export writes it: text as the database has it, since a million rows are not parsed twice."""

    subscription_id: str
    contact_id: str
    email: str | None  # None while nobody confirmed it: it may not be written to
    status: str
    ground: str | None
    end_reason: str | None
    purposes: list[str]
    requested_at: str
    confirmed_at: str | None
    ended_at: str | None
    origin: str  # JSON
    legal_basis: str
    proof_url: str
    list_unsubscribe: str
    list_unsubscribe_post: str
    frequency: str
    paused_until: str | None
    fields: str  # JSON
    preferences_url: str


def _text(column: Any) -> Any:
    return type_coerce(column, Text)


_LINE = (
    select(
        Subscription.id,
        Subscription.contact_id,
        Contact.email,
        _text(Subscription.status),
        _text(Subscription.ground),
        _text(Subscription.end_reason),
        Subscription.epoch,
        Rfc3339(Subscription.requested_at),
        Rfc3339(Subscription.activated_at),
        Rfc3339(Subscription.ended_at),
        _text(Contact.origin),
        Contact.legal_basis,
        _text(Subscription.frequency),
        Rfc3339(Subscription.paused_until),
        _text(Contact.fields),
    )
    .join(Contact, Contact.id == Subscription.contact_id)
    .where(Subscription.controller_id == bindparam("controller_id"), Subscription.id > bindparam("after"))
    .order_by(Subscription.id)
    .limit(bindparam("limit", type_=Integer))
)
_LINES = Prepared(_LINE)
_LINES_OF_STATUS = Prepared(_LINE.where(Subscription.status == bindparam("status")))
_GIVEN = Prepared(
    select(Consent.contact_id, Purpose.slug, _text(Consent.state), _text(Consent.origin), Consent.legal_basis)
    .join(Purpose, Purpose.id == Consent.purpose_id)
    .join(Subscription, Subscription.contact_id == Consent.contact_id)
    .where(
        Subscription.controller_id == bindparam("controller_id"),
        Subscription.id > bindparam("after"),
        Subscription.id <= bindparam("last"),
        Consent.given_at.is_not(None),
    )
    .order_by(Purpose.slug)
)


def lines(
    session: Session, controller_id: str, *, after: str = "", limit: int, status: Status | None = None
) -> list[Line]:
    """Subscriptions in the order of their ids, after the id `after`; two queries, whatever the limit."""
    wanted = {"controller_id": controller_id, "after": after, "limit": limit, "status": status}
    rows = session.rows(_LINES_OF_STATUS if status else _LINES, wanted)
    if not rows:
        return []
    given: dict[str, list[Any]] = {}
    for consent in session.rows(_GIVEN, {**wanted, "last": rows[-1][0]}):
        given.setdefault(consent[0], []).append(consent)
    return [_line(session, row, given.get(row[1], ())) for row in rows]


def _line(session: Session, row: Sequence[Any], given: Sequence[Sequence[Any]]) -> Line:
    ident, contact_id, email, status, ground, end_reason, epoch = row[:7]
    requested, activated, ended, origin, basis, frequency, paused_until, fields = row[7:]
    list_unsubscribe, preferences_url = links.of_all(session, ident, epoch)
    return Line(
        ident,
        contact_id,
        email if activated else None,
        status,
        ground,
        end_reason,
        [slug for _, slug, state, _, _ in given if state == _IN_FORCE],
        requested,
        activated if ground == _CONFIRMED else None,
        ended,
        # What the person agreed to last says more than how the contact first came in.
        given[0][3] if given else origin,
        given[0][4] if given else basis,
        payload.proof_url(session, contact_id),
        list_unsubscribe,
        links.ONE_CLICK,
        frequency,
        paused_until,
        fields,
        preferences_url,
    )


_IN_FORCE, _CONFIRMED = ConsentState.GIVEN.value, Ground.CONFIRMED.value
