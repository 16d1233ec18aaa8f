"""The mailed questions and notes: a confirmation with its token, and the word that nothing needs to be done."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import update

from signup.contacts.actions import Found
from signup.core.db import Session
from signup.core.signing import new_token_id, token_hash
from signup.core.values import new_id, rfc3339
from signup.forms.rules import FormView
from signup.mail import compose
from signup.mail.models import Message, MessageState
from signup.subscriptions import codes, links
from signup.subscriptions.models import Confirmation
from signup.subscriptions.rules import UNDER_ATTACK
from signup.subscriptions.states import ConfirmationState


@dataclass(frozen=True)
class Asked:
    """What a question belongs to.

    Args:
        page_host: host of the embedding page, when staff listed it.
        hold: why no mail may go out, or None.
        told: what the person said in declared fields, sealed.
        quarantined: the mail is made and waits until somebody releases it.
    """

    subscription_id: str
    act_id: str
    page_host: str | None
    hold: str | None = None
    told: bytes | None = None
    quarantined: bool = False


def open_confirmation(
    session: Session,
    view: FormView,
    found: Found,
    items: Sequence[Mapping[str, str]],
    asked: Asked,
    *,
    replaces: str | None,
    now: datetime,
) -> dict[str, Any]:
    """One question is open, with its mail queued or held; the one before is replaced.

    Args:
        replaces: id of the one before.

    Returns:
        The disclosures that tie the event to the mail and its token.

    Rule: GDPR 7(1); RFC 3834; the token itself is in the sealed mail only.
    """
    if replaces is not None:
        _replace(session, replaces, now=now)
    token, expires_at = new_token_id(), now + timedelta(days=session.config.token_days)
    code = codes.new_code() if codes.offered(view) else ""
    ident = _write(session, view, found, items, asked, (token, code), now=now, expires_at=expires_at)
    link = {
        "confirmation": ident,
        "token_sha256": hashlib.sha256(token).hexdigest(),
        "expires_at": rfc3339(expires_at),
    }
    way = (
        {"code_url": links.code_url(session, token)}
        if codes.strict(view)
        else {"confirm_url": links.confirm_url(session, token)}
    )
    values = {
        **way,
        "code": code,
        "not_me_url": links.not_me_url(session, token),
        **_when_and_where(session, view, asked.page_host, now=now),
    }
    draft = compose.Draft(
        found.subject, found.email, _wording(session, "confirm", view, items), values, ident, give_up_at=expires_at
    )
    if asked.hold is not None:
        compose.hold(session, draft, asked.hold, now=now)
        return link
    waits = UNDER_ATTACK if asked.quarantined else None
    return {**link, "message_id": compose.queue(session, draft, now=now, waits=waits)}


def _write(
    session: Session,
    view: FormView,
    found: Found,
    items: Sequence[Mapping[str, str]],
    asked: Asked,
    secrets: tuple[bytes, str],
    *,
    now: datetime,
    expires_at: datetime,
) -> str:
    token, code = secrets
    ident = new_id("cnf", now)
    row = {
        "id": ident,
        "controller_id": view.controller.id,
        "contact_id": found.contact_id,
        "subscription_id": asked.subscription_id,
        "form_id": view.id,
        "form_version_id": view.version_id,
        "act_id": asked.act_id,
        "purpose_ids": [item["id"] for item in items],
        "token_hash": token_hash(token),
        "state": ConfirmationState.OPEN,
        "page_host": asked.page_host,
        "code_hash": codes.code_hash(session, ident, code) if code else None,
        "created_at": now,
        "expires_at": expires_at,
    }
    if asked.told is not None:
        row["told"] = asked.told
    session.put(Confirmation, row)
    return ident


def _wording(session: Session, kind: str, view: FormView, items: Sequence[Mapping[str, str]]) -> compose.Wording:
    days = session.config.token_days
    return compose.wording_of(kind, view.locale, view.controller, view.definition, items=items, valid_days=days)


def hold(
    session: Session, view: FormView, found: Found, kind: str, reason: str, *, about: str | None, now: datetime
) -> None:
    """It is on record that no mail of this kind was sent, and why.

    Args:
        about: id of the open confirmation that the mail would have been about.
    """
    wording = _wording(session, kind, view, [])
    compose.hold(
        session, compose.Draft(found.subject, found.email, wording, {}, about, give_up_at=now), reason, now=now
    )


def _replace(session: Session, old_id: str, *, now: datetime) -> None:
    """The older question is closed before the new one is written: the index allows one open question.

    Its mail, if it has not left yet, stays here: two mails with one of them dead would only confuse.
    """
    for model, where, values in (
        (
            Confirmation,
            Confirmation.id == old_id,
            {"state": ConfirmationState.REPLACED, "closed_at": now, "told": None},
        ),
        (
            Message,
            (Message.confirmation_id == old_id) & compose.UNSENT,
            {"state": MessageState.CANCELLED, "reason": "a newer mail replaced it"},
        ),
    ):
        session.execute(update(model).where(where).values(**values).execution_options(synchronize_session=False))


def queue_notice(
    session: Session,
    view: FormView,
    found: Found,
    link_of: tuple[str, int],
    given: frozenset[str],
    *,
    page_host: str | None,
    now: datetime,
) -> str:
    """A mail is queued that says: you are signed up already, nothing changes.

    Args:
        link_of: id and epoch of the subscription that its links are about.

    Returns:
        Its Message-ID.
    """
    items = [item for item in view.purposes if item["id"] in given]
    values = {
        "unsubscribe_url": links.unsubscribe_url(session, *link_of),
        "preferences_url": links.preferences_url(session, links.unsubscribe_id(session, *link_of)),
        **_when_and_where(session, view, page_host, now=now),
    }
    wording = _wording(session, "already", view, items)
    tomorrow = now + timedelta(days=1)
    return compose.queue(
        session, compose.Draft(found.subject, found.email, wording, values, None, give_up_at=tomorrow), now=now
    )


def _when_and_where(session: Session, view: FormView, page_host: str | None, *, now: datetime) -> dict[str, str]:
    return {
        "requested_at": compose.local_time(now, view.locale, view.controller.timezone),
        "page_host": page_host or f"{session.config.public_url}/f/{view.slug}",
    }
