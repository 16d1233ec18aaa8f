"""Sending a question again: a fresh link for what is still asked, within the caps."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from sqlalchemy import select, update

from signup.abuse import admission, domains, limits
from signup.consents import actions as consents
from signup.consents.models import ConsentState
from signup.contacts import actions as contacts
from signup.contacts.actions import Found
from signup.core.db import Session
from signup.core.values import PERSON, ClientInfo, EmailAddress
from signup.eventlog.kinds import EventType
from signup.eventlog.record import Subject, client_fields, record
from signup.forms import actions as forms
from signup.forms.rules import FormView
from signup.subscriptions import answers, questions
from signup.subscriptions.models import Confirmation, Subscription
from signup.subscriptions.rules import Link
from signup.subscriptions.states import ConfirmationState, Status
from signup.suppression import actions as suppression


def resend(session: Session, ident: bytes, *, client: ClientInfo, now: datetime) -> bool:
    """A fresh link is on its way for an expired or replaced one, within the address's caps.

    Returns:
        Whether a mail was queued. The visitor is told the same either way.
    """
    question = answers.look(session, ident, now=now, lock=True)
    if question is None or question.link not in (Link.EXPIRED, Link.REPLACED) or not question.email:
        return False
    contact_id = question.confirmation.contact_id or ""
    return resend_to(session, question.view, contact_id, question.email, client=client, now=now)


def resend_to(
    session: Session, view: FormView, contact_id: str, email: str, *, client: ClientInfo, now: datetime
) -> bool:
    """A fresh link for what a contact asked for on this form and did not confirm, within the caps."""
    newest = _unanswered(session, view, contact_id)
    address, controller_id = EmailAddress.parse(email), view.controller.id
    if (
        newest is None
        or view.closed
        or domains.is_role(address.comparable)
        or _blocked(session, controller_id, address, now=now)
    ):
        return False
    budget = limits.address_budget_key(session, controller_id, address.comparable)
    spent = limits.lock(session, budget, now=now)
    if limits.remaining_seconds(spent, limits.ADDRESS_MAIL, now=now):
        return False
    shown = forms.by_version_id(session, newest.form_version_id)
    _reopen(session, controller_id, contact_id, newest, now=now)
    items = _still_asked(session, shown, contact_id, newest)
    if not items:
        return False
    subject = Subject(contact_id, contacts.open_key(session, contact_id))
    held = admission.is_held(session, view.id, now=now)
    asked = questions.Asked(newest.subscription_id or "", newest.act_id, newest.page_host, None, newest.told, held)
    recipient = Found(subject, email, fresh=False)
    link = questions.open_confirmation(session, shown, recipient, items, asked, replaces=newest.id, now=now)
    limits.save(session, budget, limits.spend(spent, limits.ADDRESS_MAIL, now=now))
    fields = {
        "form": view.slug,
        "form_version": shown.version,
        "consent": newest.act_id,
        **link,
        **client_fields(client),
    }
    record(session, controller_id, EventType.CONFIRMATION_RESENT, fields, now=now, subject=subject, actor=PERSON)
    return True


def _unanswered(session: Session, view: FormView, contact_id: str) -> Confirmation | None:
    """The newest question on this form, if it can be asked again.

    What has ended since, or was refused, needs a fresh sign-up: an old link revives nothing.
    """
    status = session.scalar(select(Subscription.status).where(Subscription.contact_id == contact_id))
    if status not in (Status.REQUESTED, Status.EXPIRED, Status.ACTIVE):
        return None
    newest = session.scalars(
        select(Confirmation)
        .where(Confirmation.contact_id == contact_id, Confirmation.form_id == view.id)
        .order_by(Confirmation.created_at.desc(), Confirmation.id.desc())
        .limit(1)
    ).first()
    if newest is None or newest.state not in (ConfirmationState.OPEN, ConfirmationState.EXPIRED):
        return None
    return newest


def _blocked(session: Session, controller_id: str, address: EmailAddress, *, now: datetime) -> bool:
    key = contacts.address_key(session, controller_id, address)
    reason = suppression.covering(session, controller_id, key, now=now)
    return reason is not None and reason not in suppression.LIFTED_BY_CONFIRMATION


def _still_asked(session: Session, shown: FormView, contact_id: str, newest: Confirmation) -> list[Mapping[str, str]]:
    """What the question is about, with what was asked for while a cap held its mail back."""
    offered = {item["id"] for item in shown.purposes} | set(newest.purpose_ids)
    return [
        item.shown(shown.locale)
        for item in consents.of_contact(session, shown.controller.id, contact_id)
        if item.state is ConsentState.REQUESTED and item.purpose_id in offered
    ]


def _reopen(session: Session, controller_id: str, contact_id: str, newest: Confirmation, *, now: datetime) -> None:
    """What expired with the old link is requested again: the person asked for the new one themselves."""
    if newest.state is not ConfirmationState.EXPIRED:
        return
    consents.reopen(session, controller_id, contact_id, newest.purpose_ids)
    session.execute(
        update(Subscription)
        .where(Subscription.contact_id == contact_id, Subscription.status == Status.EXPIRED)
        .values(status=Status.REQUESTED, version=Subscription.version + 1, ended_at=None, updated_at=now)
        .execution_options(synchronize_session=False)
    )
