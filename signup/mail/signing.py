"""The controllers' signing keys: made, put to use, and at hand for each mail."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import bindparam, select, update

from signup.core.db import Prepared, Session, database
from signup.core.errors import Conflict, Invalid, NotFound
from signup.core.values import OPERATOR, new_id
from signup.eventlog.kinds import EventType
from signup.eventlog.record import record
from signup.mail import dkim
from signup.mail.dkim import SigningKey
from signup.mail.models import DkimKey
from signup.purposes.actions import ControllerView
from signup.purposes.models import Controller


@dataclass(frozen=True)
class KeyView:
    """A key as the operator sees it."""

    id: str
    in_use: bool
    name: str  # of the DNS record
    text: str


def make(
    session: Session, controller: ControllerView, selector: str, algorithm: str, *, domain: str = "", now: datetime
) -> KeyView:
    """The controller has a key under this selector, not yet in use: its DNS record must be there first.

    Args:
        domain: of a sender that it is going to use; the present one's if not given.

    Raises:
        Invalid: the selector cannot stand in a host name.
        Conflict: there is one already.
    """
    if not dkim.SELECTOR.fullmatch(selector):
        raise Invalid("The selector must be 1 to 63 lower-case letters, digits and inner hyphens.")
    domain = domain or _domain(controller)
    if _row(session, controller, selector, domain) is not None:
        raise Conflict(f"There is a key {selector!r} for {domain} already.")
    key = dkim.generate(domain, selector, algorithm)
    row = DkimKey(
        id=new_id("dkm", now),
        controller_id=controller.id,
        domain=domain,
        selector=selector,
        sealed=session.keys.seal_own(dkim.saved(key)),
        created_at=now,
    )
    session.add(row)
    session.flush()
    _tell(session, controller, selector, "made", now=now)
    return _view(controller, row.id, key)


def show(session: Session, controller: ControllerView, selector: str, *, domain: str = "") -> KeyView:
    """The key under this selector, with the record that publishes it.

    Raises:
        NotFound: there is none.
    """
    row = _row(session, controller, selector, domain)
    if row is None:
        raise NotFound(f"There is no key {selector!r}: leave out --use to make it.")
    return _view(controller, row.id, _opened(session, row))


def use(session: Session, controller: ControllerView, selector: str | None, *, now: datetime) -> None:
    """Every mail of the controller that is queued from now on is signed with this key; None: with none.

    Raises:
        NotFound: there is no such key for the controller's domain.
    """
    row = _row(session, controller, selector) if selector else None
    if selector and row is None:
        raise NotFound(f"There is no key {selector!r} for {_domain(controller)}.")
    session.execute(update(Controller).where(Controller.id == controller.id).values(dkim_key=row.id if row else ""))
    _tell(session, controller, selector, "in use" if row else "none in use", now=now)


def sign(session: Session, controller: ControllerView, raw: bytes, *, now: datetime) -> bytes:
    """The mail as it leaves: signed when the controller has a key in use, else as it is."""
    if not controller.dkim_key:
        return raw
    # A key never changes under its id, so each process opens it once.
    memory = database().memory
    key: SigningKey | None = memory.get(("dkim", controller.dkim_key))
    if key is None:
        ((domain, selector, sealed),) = session.rows(_BY_ID, {"id": controller.dkim_key}, keep_queue=True)
        key = memory["dkim", controller.dkim_key] = dkim.loaded(domain, selector, session.keys.unseal_own(sealed))
    return dkim.signed(raw, key, now=now)


_BY_ID = Prepared(select(DkimKey.domain, DkimKey.selector, DkimKey.sealed).where(DkimKey.id == bindparam("id")))


def key_for(session: Session, controller: ControllerView, domain: str) -> SigningKey | None:
    """The key that signs for this domain or is about to: the one in use, else the newest; else the one of another."""
    rows = session.scalars(select(DkimKey).where(DkimKey.controller_id == controller.id).order_by(DkimKey.id)).all()
    ours = [row for row in rows if row.domain == domain]
    used = [row for row in rows if row.id == controller.dkim_key]
    best = [*used, *ours[-1:], *(row for row in used if row.domain == domain)][-1:]
    return _opened(session, best[0]) if best else None


def _domain(controller: ControllerView) -> str:
    return controller.sender.rpartition("@")[2]


def _row(session: Session, controller: ControllerView, selector: str, domain: str = "") -> DkimKey | None:
    return session.scalars(
        select(DkimKey).where(
            DkimKey.controller_id == controller.id,
            DkimKey.domain == (domain or _domain(controller)),
            DkimKey.selector == selector,
        )
    ).first()


def _opened(session: Session, row: DkimKey) -> SigningKey:
    return dkim.loaded(row.domain, row.selector, session.keys.unseal_own(row.sealed))


def _view(controller: ControllerView, ident: str, key: SigningKey) -> KeyView:
    return KeyView(ident, controller.dkim_key == ident, dkim.record_name(key), dkim.record_text(key))


def _tell(session: Session, controller: ControllerView, selector: str | None, status: str, *, now: datetime) -> None:
    fields = {"selector": selector, "status": status}
    record(session, controller.id, EventType.DKIM_KEY_CHANGED, fields, now=now, actor=OPERATOR)
