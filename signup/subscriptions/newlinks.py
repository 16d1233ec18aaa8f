"""A new link for somebody whose own does not work. It goes to the mailbox, and nobody else learns whether it went."""

from __future__ import annotations

import secrets
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timedelta
from typing import Any

import msgspec
from sqlalchemy import select

from signup import jobs
from signup.abuse import admission, limits
from signup.abuse.admission import Look, Press
from signup.contacts import actions as contacts
from signup.core.db import Session, transaction
from signup.core.errors import NotFound
from signup.core.values import PERSON, ClientInfo, EmailAddress
from signup.eventlog.kinds import EventType
from signup.eventlog.record import client_fields, record
from signup.jobs import Job
from signup.mail import compose
from signup.subscriptions import endings, links, presses, tone
from signup.subscriptions.endings import Order
from signup.subscriptions.models import Subscription
from signup.subscriptions.states import Status
from signup.suppression import actions as suppression

JOB_MAIL = "preferences.link"
# Whoever asks waits for it.
GIVE_UP = timedelta(days=1)
CAPPED = "cap of links to this address"
FLOODED = "flood of requests for links"


@dataclass(frozen=True)
class Desk:
    """Where links are asked for, as the guard sees it: like a form of its own for each controller."""

    id: str
    allowed_origins: tuple[str, ...] = ()


def desk(controller_id: str) -> Desk:
    return Desk(f"links|{controller_id}")


def ask(
    session: Session, controller_id: str, email: EmailAddress, look: Look, *, client: ClientInfo, now: datetime
) -> None:
    """Somebody wants a new link for this address. Whether there is anybody behind it shows only in the mailbox.

    What is done here is the same for every address: whose it is, is looked up later.

    Raises:
        NetworkSpent, SecondLook: as on a form; the address plays no part in that.

    Rule: GDPR 32 (nobody learns who is subscribed).
    """
    place, domain = desk(controller_id), email.comparable.rpartition("@")[2]
    counted = not presses.is_developer(session.config, client)
    press = Press(controller_id, place.id, domain, client, look, counted, secrets.token_urlsafe(16))
    budget = limits.link_budget_key(session, controller_id, email.comparable)
    ticket = admission.ticket(session, press, now=now)
    budgets = limits.claims([budget, *ticket.budgets], now=now)
    amounts = session.claim([*budgets.values(), *ticket.claims])
    spent = {key: amount for key, (amount,) in zip(budgets, amounts, strict=False)}
    admitted = admission.admit(session, ticket, spent, amounts[len(budgets) :], now=now)
    capped = limits.remaining_seconds(spent[budget], limits.LINK_MAIL, now=now) > 0
    if not capped:
        limits.save(session, budget, limits.spend(spent[budget], limits.LINK_MAIL, now=now))
    reason = FLOODED if admitted.held else CAPPED if capped else None
    said = {"email": email.normalised, "client": asdict(client), "hold": reason}
    sealed = b64encode(session.keys.seal_own(msgspec.json.encode(said))).decode()
    jobs.enqueue(session, JOB_MAIL, {"controller": controller_id, "sealed": sealed}, now=now)


def run(leased: Sequence[Job], clock: Callable[[], datetime]) -> None:
    """Who asked for a link and may have one has a mail queued."""
    for job in leased:
        with transaction() as session:
            try:
                said = msgspec.json.decode(session.keys.unseal_own(b64decode(job.payload["sealed"])))
            except ValueError:
                jobs.bury(session, job, error="no key of ours opens it")
                continue
            answer(session, job.payload["controller"], said, now=clock())
            jobs.finish(session, [job])


def answer(session: Session, controller_id: str, said: Mapping[str, Any], *, now: datetime) -> str | None:
    """The link to the preferences is on its way to an address with an active subscription, or it is on record why not.

    Args:
        said: the address as normalised, who asked, and why the mail may not go out, if it may not.

    Returns:
        The Message-ID; None when no mail goes out.
    """
    order = _order(session, controller_id, EmailAddress.parse(said["email"]), now=now)
    if order is None:
        return None
    ident = links.unsubscribe_id(session, order.subscription.id, order.subscription.epoch)
    values = {
        "preferences_url": links.preferences_url(session, ident),
        "requested_at": compose.local_time(now, order.locale, order.controller.timezone),
    }
    spoken = tone.of_contact(session, order.subject.contact_id)
    wording = compose.Wording("preferences", order.locale, order.controller, (), session.config.token_days, spoken)
    draft = compose.Draft(order.subject, order.email, wording, values, None, now + GIVE_UP)
    message_id = None
    if said["hold"]:
        compose.hold(session, draft, said["hold"], now=now)
    else:
        message_id = compose.queue(session, draft, now=now)
    facts = {"message_id": message_id, "reason": said["hold"], **client_fields(ClientInfo(**said["client"]))}
    record(session, controller_id, EventType.LINK_ASKED, facts, now=now, subject=order.subject, actor=PERSON)
    return message_id


def _order(session: Session, controller_id: str, email: EmailAddress, *, now: datetime) -> Order | None:
    """The active subscription of this address, unless we must not write to it."""
    key = contacts.address_key(session, controller_id, email)
    if suppression.covering(session, controller_id, key, now=now) is not None:
        return None
    contact = contacts.find(session, controller_id, email)
    if contact is None:
        return None
    ident = session.scalar(select(Subscription.id).where(Subscription.contact_id == contact.id))
    try:
        order = endings.load(session, ident or "", controller_id=controller_id)
    except NotFound:
        return None
    return order if order.subscription.status is Status.ACTIVE and order.given else None
