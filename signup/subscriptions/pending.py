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
from signup.subscriptions import codes, resending
from signup.subscriptions.models import Submission

# The caps of an address. The page counts from its own sign-up, so that it is the same for every address.
SHORTEST, DAILY = limits.ADDRESS_MAIL[:2]
RESEND_AFTER = timedelta(seconds=SHORTEST.seconds)


@dataclass(frozen=True)
class Pending:
    view: FormView
    contact_id: str | None
    handle: str
    resend_at: datetime | None  # None: no more from this page
    resends: int
    tries_left: int


def find(session: Session, slug: str, handle: str) -> Pending | None:
    """The sign-up behind a pending page, or None."""
    row = session.execute(
        select(Submission.contact_id, Submission.created_at, Submission.resends, Submission.code_tries)
        .join(Form, Form.id == Submission.form_id)
        .where(Submission.handle == handle, Form.slug == slug)
    ).first()
    if row is None:
        return None
    # The sign-up's own mail counts too. The page goes with the day, before the next one would be allowed.
    more = row.resends + 1 < DAILY.count
    resend_at = row.created_at + RESEND_AFTER if more else None
    tries_left = max(0, codes.TRIES - row.code_tries)
    return Pending(forms.in_force(session, slug), row.contact_id, handle, resend_at, row.resends, tries_left)


def resend(session: Session, pending: Pending, *, client: ClientInfo, now: datetime) -> None:
    """Another mail is on its way if the caps allow one. The visitor is told the same in every case."""
    if pending.contact_id is None or pending.resend_at is None or now < pending.resend_at:
        return
    email = session.scalar(select(Contact.email).where(Contact.id == pending.contact_id).with_for_update())
    if email:
        resending.resend_to(session, pending.view, pending.contact_id, email, client=client, now=now)
    # A new mail has a new code.
    asked_again = {"created_at": now, "resends": pending.resends + 1, "code_tries": 0}
    session.change(Submission, {"handle": pending.handle}, asked_again)
