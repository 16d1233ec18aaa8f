"""What the page after a sign-up knows: never whose it is, only when another mail may be asked for."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import select

from signup.abuse import limits
from signup.contacts.models import Contact
from signup.core.db import Session
from signup.core.values import ClientInfo
from signup.forms import actions as forms
from signup.forms.models import Form
from signup.forms.rules import FormView
from signup.subscriptions import resending
from signup.subscriptions.models import Submission

# The shortest of the address caps. The page counts from its own sign-up, so that it is the same for every address.
RESEND_AFTER = timedelta(seconds=limits.ADDRESS_MAIL[0].seconds)


@dataclass(frozen=True)
class Pending:
    view: FormView
    contact_id: str | None
    handle: str
    resend_at: datetime


def find(session: Session, slug: str, handle: str) -> Pending | None:
    """The sign-up behind a pending page, or None."""
    row = session.execute(
        select(Submission.contact_id, Submission.created_at)
        .join(Form, Form.id == Submission.form_id)
        .where(Submission.handle == handle, Form.slug == slug)
    ).first()
    if row is None:
        return None
    return Pending(forms.in_force(session, slug), row.contact_id, handle, row.created_at + RESEND_AFTER)


def resend(session: Session, pending: Pending, *, client: ClientInfo, now: datetime) -> None:
    """Another mail is on its way if the caps allow one. The visitor is told the same in every case."""
    if pending.contact_id is None or now < pending.resend_at:
        return
    email = session.scalar(select(Contact.email).where(Contact.id == pending.contact_id).with_for_update())
    if email:
        resending.resend_to(session, pending.view, pending.contact_id, email, client=client, now=now)
    session.change(Submission, {"handle": pending.handle}, {"created_at": now})
