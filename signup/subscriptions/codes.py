"""The six digits of a confirmation mail: typed where one signed up, they answer like the button behind the link."""

from __future__ import annotations

import hmac
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum

from sqlalchemy import select

from signup.contacts.models import Contact
from signup.core.db import Session
from signup.core.signing import token_hash
from signup.core.values import ClientInfo
from signup.eventlog.record import count_hit
from signup.forms.rules import FormView
from signup.mail import compose
from signup.subscriptions import answers
from signup.subscriptions.answers import Question
from signup.subscriptions.models import Confirmation, Submission
from signup.subscriptions.rules import Link

DIGITS = 6
# With a million codes, and as many mails as the caps of an address allow, guessing leads nowhere.
TRIES = 5
# From when the mail server took the mail: a queue that was slow is not the reader's fault.
VALID = timedelta(minutes=60)


class Typed(Enum):
    """What came of typed digits."""

    RIGHT = "right"
    WRONG = "wrong"  # or too late, or for nothing: never said which
    SPENT = "spent"


@dataclass(frozen=True)
class Outcome:
    typed: Typed
    question: Question | None = None  # what the right code answered


def offered(view: FormView) -> bool:
    """Whether this form's mails carry a code."""
    return compose.way_of(view.definition) != compose.LINK


def strict(view: FormView) -> bool:
    """Whether only the typed code confirms: no mailed link does then, whoever opens it."""
    return compose.way_of(view.definition) == compose.CODE


def new_code() -> str:
    return f"{secrets.randbelow(10**DIGITS):0{DIGITS}d}"


def code_hash(session: Session, confirmation_id: str, code: str) -> bytes:
    """What is stored of a code: without our key nobody can try the million."""
    return session.keys.keyed_hash("code", f"{confirmation_id}|{code}")


def enter(
    session: Session, view: FormView, handle: str, typed: str, *, client: ClientInfo, page_seconds: int, now: datetime
) -> Outcome:
    """The question that was mailed for this sign-up is answered, if the code is the one in its mail.

    A sign-up without a mail counts its tries alike, so nobody learns from them whether there was one.

    Rule: GDPR 4(11), an explicit act; GDPR 32, nobody learns who is known.
    """
    contact_id = session.scalar(select(Submission.contact_id).where(Submission.handle == handle))
    # The contact first, as everywhere: two that want the same rows then cannot wait for each other.
    session.scalar(select(Contact.id).where(Contact.id == contact_id).with_for_update())
    page = select(Submission.code_tries, Submission.created_at).where(Submission.handle == handle).with_for_update()
    tries, asked_at = session.execute(page).one()
    if tries >= TRIES:
        return Outcome(Typed.SPENT)
    newest = _newest(session, view, contact_id) if contact_id else None
    may = newest is None or _try_on_page(session, newest, asked_at)
    if not fits(session, newest, typed, now=now) or not may:
        session.change(Submission, {"handle": handle}, {"code_tries": tries + 1})
        return Outcome(Typed.WRONG)
    return _answer(session, newest, client=client, page_seconds=page_seconds, now=now)


def _newest(session: Session, view: FormView, contact_id: str) -> Confirmation | None:
    return session.scalars(
        select(Confirmation)
        .where(Confirmation.contact_id == contact_id, Confirmation.form_id == view.id)
        .order_by(Confirmation.created_at.desc(), Confirmation.id.desc())
        .limit(1)
    ).first()


def _try_on_page(session: Session, confirmation: Confirmation, asked_at: datetime) -> bool:
    """Whether one more try for this mail may be made on a page; the try is counted.

    Whoever knows an address can make more pages for it. They share their tries, and use up none of the page that the
    mail was asked for on, which was written with it.
    """
    place = b"code here " if confirmation.created_at == asked_at else b"code elsewhere "
    counted = token_hash(place + confirmation.id.encode())
    # Once the question is over, no code answers it.
    return count_hit(session, counted, until=confirmation.expires_at) <= TRIES


def enter_behind_link(
    session: Session, ident: bytes, typed: str, *, client: ClientInfo, page_seconds: int, now: datetime
) -> Outcome | None:
    """Like `enter`, on the page that a mail without a confirming link leads to; None when we never mailed it."""
    question = answers.look(session, ident, now=now, lock=True)
    if question is None:
        return None
    if question.confirmation.code_tries >= TRIES:
        return Outcome(Typed.SPENT)
    if not fits(session, question.confirmation, typed, now=now):
        tries = question.confirmation.code_tries + 1
        session.change(Confirmation, {"id": question.confirmation.id}, {"code_tries": tries})
        return Outcome(Typed.WRONG)
    return _answer(session, question.confirmation, client=client, page_seconds=page_seconds, now=now)


def fits(session: Session, confirmation: Confirmation | None, typed: str, *, now: datetime) -> bool:
    """Whether these digits are those of the mail, and in time. It takes the same time in any case."""
    digits = "".join(character for character in typed if character in "0123456789")[: DIGITS + 1]
    ident = confirmation.id if confirmation else ""
    stored = confirmation.code_hash if confirmation and confirmation.code_hash else b"\0" * 32
    same = hmac.compare_digest(code_hash(session, ident, digits), stored)
    if not same or confirmation is None:
        return False
    # The mail can be read before it is on record that it left.
    return confirmation.sent_at is None or now - confirmation.sent_at <= VALID


def _answer(
    session: Session, confirmation: Confirmation | None, *, client: ClientInfo, page_seconds: int, now: datetime
) -> Outcome:
    assert confirmation is not None  # noqa: S101 - nothing fits where there is none
    link = answers.confirm_question(
        session, confirmation.token_hash, act="code", client=client, page_seconds=page_seconds, now=now
    )
    if link is not Link.CONFIRMED:
        return Outcome(Typed.WRONG)
    return Outcome(Typed.RIGHT, answers.look_up(session, confirmation.token_hash, now=now))
