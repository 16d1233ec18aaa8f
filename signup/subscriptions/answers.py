"""What people answer to a mailed question: yes, that was not me, send it again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import bindparam, select, update

from signup.abuse import scanners
from signup.consents import actions as consents
from signup.consents.actions import Held
from signup.consents.models import ConsentState
from signup.contacts import actions as contacts
from signup.contacts.actions import Found
from signup.contacts.models import Contact
from signup.core.db import Prepared, Session
from signup.core.signing import token_hash
from signup.core.values import PERSON, ClientInfo, EmailAddress, mask
from signup.eventlog.kinds import EventType
from signup.eventlog.record import Subject, client_fields, count_hit, publish, record
from signup.forms import actions as forms
from signup.forms.rules import FormView
from signup.subscriptions import declared, endings, payload, rules, welcoming
from signup.subscriptions.models import Confirmation, Subscription
from signup.subscriptions.rules import Link, NotMe
from signup.subscriptions.states import ConfirmationState, EndReason, Frequency, Ground, Status
from signup.suppression import actions as suppression
from signup.suppression.models import Reason


@dataclass(frozen=True)
class Question:
    """A confirmation link and what stands behind it now."""

    confirmation: Confirmation
    view: FormView
    link: Link
    not_me: NotMe
    email: str | None  # None once the person's data is gone
    fields: Mapping[str, Any]  # what the contact said in declared fields before
    held: tuple[Held, ...]  # consents of this question's purposes
    subscription: Subscription | None

    @property
    def masked(self) -> str | None:
        return mask(self.email) if self.email else None

    @property
    def purposes(self) -> list[dict[str, str]]:
        """What the question is about, in the words that were shown; of the form once the person is gone."""
        if self.held:
            return [item.shown(self.view.locale) for item in self.held]
        wanted = set(self.confirmation.purpose_ids)
        return [item for item in self.view.purposes if item["id"] in wanted]

    @property
    def asked(self) -> list[Held]:
        return [item for item in self.held if item.state is ConsentState.REQUESTED]


def look(session: Session, ident: bytes, *, now: datetime, lock: bool = False) -> Question | None:
    """What a confirmation link stands for; None when we never sent it.

    Args:
        lock: keep everybody else from answering for the same person until the commit.
    """
    return look_up(session, token_hash(ident), now=now, lock=lock)


def look_up(session: Session, hashed: bytes, *, now: datetime, lock: bool = False) -> Question | None:
    """Like `look`, for whoever knows the question by the hash of its token."""
    # The owner first: what is read after the lock cannot change any more.
    owners = session.rows(_OWNER_LOCKED if lock else _OWNER, {"token_hash": hashed})
    query = select(Confirmation).where(Confirmation.token_hash == hashed)
    found = session.scalars(query.execution_options(populate_existing=True)).first()
    if found is None:
        return None
    email, fields = owners[0] if owners and found.contact_id else (None, {})
    subscription = None
    held: list[Held] = []
    if email is not None and found.contact_id:
        subscription = session.scalars(select(Subscription).where(Subscription.contact_id == found.contact_id)).first()
        every = consents.of_contact(session, found.controller_id, found.contact_id)
        held = [item for item in every if item.purpose_id in found.purpose_ids]
    link = rules.link_now(
        found.state,
        expires_at=found.expires_at,
        newest=_newest_state(session, found),
        still_given=any(item.state is ConsentState.GIVEN for item in held),
        now=now,
    )
    view = forms.by_version_id(session, found.form_version_id)
    return Question(found, view, link, rules.not_me_now(link, found.state), email, fields, tuple(held), subscription)


_OWNER_OF = (
    select(Contact.email, Contact.fields)
    .join(Confirmation, Confirmation.contact_id == Contact.id)
    .where(Confirmation.token_hash == bindparam("token_hash"))
)
_OWNER = Prepared(_OWNER_OF)
_OWNER_LOCKED = Prepared(_OWNER_OF.with_for_update(of=Contact))


def _newest_state(session: Session, confirmation: Confirmation) -> ConfirmationState | None:
    if confirmation.state is not ConfirmationState.REPLACED or not confirmation.contact_id:
        return None
    return session.scalar(
        select(Confirmation.state)
        .where(Confirmation.contact_id == confirmation.contact_id, Confirmation.form_id == confirmation.form_id)
        .order_by(Confirmation.created_at.desc(), Confirmation.id.desc())
        .limit(1)
    )


def note_opening(
    session: Session, ident: bytes, purpose: str, *, method: str, client: ClientInfo, now: datetime
) -> None:
    """The opening of a confirmation link is on record, the first fifty one by one. No state changes.

    Rule: what a machine fetched is evidence of a machine, never of a will (GDPR 4(11)).
    """
    found = session.scalars(select(Confirmation).where(Confirmation.token_hash == token_hash(ident))).first()
    if found is None:
        return
    until = max(found.expires_at, now) + rules.DEAD_LINKS_COUNTED
    if count_hit(session, found.token_hash, until=until) > rules.OPENINGS_TOLD:
        return
    key = contacts.open_keys(session, [found.contact_id]) if found.contact_id else {}
    since = int((now - found.sent_at).total_seconds()) if found.sent_at else None
    fields = {
        "confirmation": found.id,
        "token_sha256": found.token_hash.hex(),
        "purpose_of_link": purpose,
        "method": method,
        **scanners.label(scanners.sign_of(method, client.user_agent, client.ip, since)),
        "seconds_since_sent": since,
        **client_fields(client),
    }
    subject = Subject(found.contact_id, key[found.contact_id]) if found.contact_id in key else None
    if subject is None:
        fields = {name: value for name, value in fields.items() if name not in ("ip", "user_agent")}
    record(session, found.controller_id, EventType.LINK_OPENED, fields, now=now, subject=subject)


def confirm(session: Session, ident: bytes, *, client: ClientInfo, page_seconds: int, now: datetime) -> Link | None:
    """An open question is answered with yes: the consents are given, the subscription is active.

    Every other state stays as it is: a repeat is a no-op, an old link revives nothing.

    Returns:
        What the link stands for now; None when we never sent it.

    Rule: GDPR 4(11) and 7(1), an unambiguous act that can be demonstrated.
    """
    return confirm_question(session, token_hash(ident), client=client, page_seconds=page_seconds, now=now)


def confirm_question(
    session: Session, hashed: bytes, *, act: str = "button", client: ClientInfo, page_seconds: int, now: datetime
) -> Link | None:
    """Like `confirm`, for whoever knows the question by the hash of its token.

    Args:
        act: what the person did, for the evidence: `button` behind the link, or `code` typed from the mail.
    """
    question = look_up(session, hashed, now=now, lock=True)
    if question is None or question.link is not Link.OPEN or question.subscription is None:
        return _after_no(session, question, client=client, page_seconds=page_seconds, now=now) if question else None
    confirmation, subscription = question.confirmation, question.subscription
    controller_id, contact_id = confirmation.controller_id, subscription.contact_id
    if not question.asked:
        return _nothing_asked(session, question, now=now)
    session.change(
        Confirmation, {"id": confirmation.id}, {"state": ConfirmationState.CONFIRMED, "closed_at": now, "told": None}
    )
    words = {item["id"]: item for item in question.view.purposes}
    answered = consents.Answered(
        confirmation.act_id, confirmation.form_version_id, [item.purpose_id for item in question.asked], words
    )
    consents.give(session, controller_id, contact_id, answered, now=now)
    first = subscription.status is not Status.ACTIVE
    changes: dict[str, Any] = {"version": subscription.version + 1, "updated_at": now}
    if first:
        # A pause of an earlier time was not meant for what begins now.
        fresh = {"frequency": Frequency.ALL, "paused_until": None}
        changes |= {"status": Status.ACTIVE, "ground": Ground.CONFIRMED, "activated_at": now, **fresh}
    session.change(Subscription, {"id": subscription.id}, changes)
    address_key = contacts.address_key(session, controller_id, EmailAddress.parse(question.email or ""))
    suppression.lift(session, controller_id, address_key)
    how = {"act": act, "method": act if act == "code" else None, "page_seconds": page_seconds}
    _tell(session, question, how, first=first, client=client, now=now)
    return Link.CONFIRMED


def _tell(
    session: Session, question: Question, how: Mapping[str, Any], *, first: bool, client: ClientInfo, now: datetime
) -> None:
    """The act is on record, with how it was done, and told to the outside."""
    confirmation, subscription = question.confirmation, question.subscription
    assert subscription is not None  # noqa: S101 - the caller has looked
    controller_id, contact_id = confirmation.controller_id, subscription.contact_id
    kind = EventType.SUBSCRIPTION_CONFIRMED if first else EventType.SUBSCRIPTION_UPDATED
    stands_on = Ground.CONFIRMED if first else subscription.ground
    ground = stands_on.value if stands_on else None
    subject = Subject(contact_id, contacts.open_key(session, contact_id))
    said = declared.opened(session, subject, confirmation.told)
    known = contacts.learn(session, contact_id, said, now=now) if said else question.fields
    fields = {
        **_link_fields(question),
        **how,
        "fields": said or None,
        "ground": ground,
        "legal_basis": question.held[0].legal_basis,
        **client_fields(client),
    }
    event_id = record(session, controller_id, kind, fields, now=now, subject=subject, actor=PERSON)
    version = subscription.version + 1
    settings = () if first else (subscription.frequency, subscription.paused_until)
    standing = payload.Standing(
        subscription.id, contact_id, Status.ACTIVE.value, ground, version, subscription.epoch, *settings
    )
    held = consents.of_contact(session, controller_id, contact_id)
    # What an earlier question of these gave already belongs to that act.
    given = {item.purpose_id for item in question.asked}
    act = [item for item in held if item.purpose_id in given]
    data = payload.data(session, standing, question.email, held, act, fields=known)
    publish(session, controller_id, kind.value, data, now=now, event_id=event_id, subject=subject)
    if first:
        found = Found(subject, question.email or "", fresh=False)
        welcoming.queue_welcome(session, question.view, found, (subscription.id, subscription.epoch), now=now)


def _nothing_asked(session: Session, question: Question, *, now: datetime) -> Link:
    """The question is closed: what it asked was given by another one, or is not asked any more."""
    given = any(item.state is ConsentState.GIVEN for item in question.held)
    state = ConfirmationState.CONFIRMED if given else ConfirmationState.CANCELLED
    session.change(Confirmation, {"id": question.confirmation.id}, {"state": state, "closed_at": now, "told": None})
    return Link.CONFIRMED if given else Link.CANCELLED


def _link_fields(question: Question) -> dict[str, Any]:
    confirmation = question.confirmation
    return {
        "confirmation": confirmation.id,
        "consent": confirmation.act_id,
        "subscription": confirmation.subscription_id,
        "token_sha256": confirmation.token_hash.hex(),
        "form": question.view.slug,
        "form_version": question.view.version,
        "form_sha256": question.view.sha256,
        "purposes": [item.slug for item in question.held],
    }


def refuse(session: Session, ident: bytes, *, client: ClientInfo, page_seconds: int, now: datetime) -> NotMe | None:
    """The mailbox owner said "that was not me": an open request is over, a confirmed one ends as withdrawn.

    The address gets no further confirmation mail for 90 days.

    Returns:
        What the link can do now; None when we never sent it.

    Rule: GDPR 5(1)(d), 17(1)(d); first act wins.
    """
    question = look(session, ident, now=now, lock=True)
    if question is None or question.subscription is None or not question.email:
        return question.not_me if question else None
    if question.not_me not in (NotMe.OPEN, NotMe.AFTER_CONFIRM):
        return question.not_me
    confirmation, subscription = question.confirmation, question.subscription
    controller_id, contact_id = confirmation.controller_id, subscription.contact_id
    address_key = contacts.address_key(session, controller_id, EmailAddress.parse(question.email))
    if question.not_me is NotMe.AFTER_CONFIRM:
        if just_given := _just_given(question, page_seconds=page_seconds, now=now):
            return _after_yes(session, question, just_given, client=client, now=now)
        endings.end(
            session,
            endings.load(session, subscription.id),
            endings.Ending(EndReason.WITHDRAWN, "not-me", flagged=True),
            client=client,
            now=now,
        )
        session.change(Confirmation, {"id": confirmation.id}, {"state": ConfirmationState.REFUSED})
        suppression.remember(session, controller_id, address_key, Reason.NOT_ME, now=now)
        return NotMe.DONE
    suppression.remember(session, controller_id, address_key, Reason.NOT_ME, now=now)
    _close_questions(session, contact_id, ConfirmationState.REFUSED, confirmation.id, now=now)
    consents.close_requests(session, controller_id, contact_id, ConsentState.REFUSED, now=now)
    if subscription.status is Status.REQUESTED:
        changes = {"status": Status.REFUSED, "version": subscription.version + 1, "ended_at": now, "updated_at": now}
        session.change(Subscription, {"id": subscription.id}, changes)
    subject = Subject(contact_id, contacts.open_key(session, contact_id))
    fields = {**_link_fields(question), **client_fields(client)}
    record(session, controller_id, EventType.SUBSCRIPTION_REFUSED, fields, now=now, subject=subject, actor=PERSON)
    return NotMe.DONE


def _just_given(question: Question, *, page_seconds: int, now: datetime) -> list[Held]:
    """What the question's yes gave, if no person can be contradicting it."""
    given = [item for item in question.held if item.state is ConsentState.GIVEN]
    latest = max((item.given_at for item in given if item.given_at), default=None)
    return given if rules.contradicts(latest, page_seconds=page_seconds, now=now) else []


def _after_yes(
    session: Session, question: Question, just_given: Sequence[Held], *, client: ClientInfo, now: datetime
) -> NotMe:
    """A no within seconds of the yes: neither counts. What the yes gave ends; the no keeps nobody out."""
    assert question.subscription is not None  # noqa: S101 - the caller has looked
    order = endings.load(session, question.subscription.id)
    given = {item.purpose_id for item in just_given}
    ending = endings.Ending(EndReason.WITHDRAWN, "contradiction", flagged=True)
    scopes = [item for item in order.given if item.purpose_id in given]
    endings.end_topics(session, order, scopes, ending, client=client, now=now)
    _neither(session, question, order.email, Reason.UNSUBSCRIBED, client=client, now=now)
    return NotMe.CHECK


def _after_no(session: Session, question: Question, *, client: ClientInfo, page_seconds: int, now: datetime) -> Link:
    """What the link stands for. A yes within seconds of a no counts as little as the no."""
    confirmation, refused = question.confirmation, question.confirmation.state is ConfirmationState.REFUSED
    contradicted = refused and rules.contradicts(confirmation.closed_at, page_seconds=page_seconds, now=now)
    if not contradicted or not question.email:
        return question.link
    _neither(session, question, question.email, Reason.NOT_ME, client=client, now=now)
    return Link.CHECK


def _neither(
    session: Session, question: Question, email: str, block: Reason, *, client: ClientInfo, now: datetime
) -> None:
    """Both answers are void, the block that the first or second one set is gone, and it is on record why."""
    confirmation = question.confirmation
    controller_id, contact_id = confirmation.controller_id, confirmation.contact_id or ""
    key = contacts.address_key(session, controller_id, EmailAddress.parse(email))
    session.write_queued()
    suppression.lift(session, controller_id, key, {block})
    session.change(Confirmation, {"id": confirmation.id}, {"state": ConfirmationState.CHECK})
    fields = {**_link_fields(question), **client_fields(client)}
    subject = Subject(contact_id, contacts.open_key(session, contact_id))
    kind = EventType.CONFIRMATION_CONTRADICTED
    record(session, controller_id, kind, fields, now=now, subject=subject, actor=PERSON)


def _close_questions(session: Session, contact_id: str, state: ConfirmationState, this: str, *, now: datetime) -> None:
    """All open questions to a person are closed, `this` one too, and their mails no longer leave."""
    quiet = {"synchronize_session": False}
    session.execute(
        update(Confirmation)
        .where(
            Confirmation.contact_id == contact_id,
            (Confirmation.state == ConfirmationState.OPEN) | (Confirmation.id == this),
        )
        .values(state=state, closed_at=now, told=None)
        .execution_options(**quiet)
    )
    endings.stop_mails(session, contact_id, "the request was refused")


def mail_accepted(session: Session, confirmation_id: str | None, now: datetime) -> None:
    """The question is known to be on its way: hits on its link are timed from here."""
    if confirmation_id:
        session.change(Confirmation, {"id": confirmation_id}, {"sent_at": now})
