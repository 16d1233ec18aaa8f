"""How a contact is addressed where no form is at hand: as on the form that asked them last."""

from __future__ import annotations

from sqlalchemy import select

from signup.core.db import Session
from signup.forms.models import FormVersion
from signup.forms.rules import whole
from signup.mail.compose import FORMAL, INFORMAL
from signup.subscriptions.models import Confirmation


def of_contact(session: Session, contact_id: str) -> str:
    """The tone of the form that this contact was asked by last; formal when none ever asked."""
    definition = session.scalars(
        select(FormVersion.definition)
        .join(Confirmation, Confirmation.form_version_id == FormVersion.id)
        .where(Confirmation.contact_id == contact_id)
        .order_by(Confirmation.created_at.desc(), Confirmation.id.desc())
        .limit(1)
    ).first()
    return str(whole(definition)["tone"]) if definition else FORMAL


def of_controller(session: Session, controller_id: str) -> str:
    """The tone of the German form that was published last, for pages about no person; formal when there is none."""
    definition = session.scalars(
        select(FormVersion.definition)
        .where(FormVersion.controller_id == controller_id, FormVersion.locale == "de")
        .order_by(FormVersion.created_at.desc(), FormVersion.id.desc())
        .limit(1)
    ).first()
    return str(whole(definition)["tone"]) if definition else FORMAL


def informal(session: Session, contact_id: str) -> bool:
    """Whether German says du to this contact."""
    return of_contact(session, contact_id) == INFORMAL
