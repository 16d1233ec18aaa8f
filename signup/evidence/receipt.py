"""What somebody who confirmed can keep: their own answer with its proof, out of our reach."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import Enum

from signup.contacts import actions as contacts
from signup.core.db import Session
from signup.eventlog import history
from signup.eventlog.history import Fact
from signup.eventlog.kinds import EventType
from signup.eventlog.record import Subject
from signup.evidence import bundle, files, mails
from signup.evidence.bundle import Bundle
from signup.forms.rules import FormView
from signup.subscriptions import answers, shown
from signup.subscriptions.answers import Question
from signup.subscriptions.rules import Link

# What the person did and what we did for it. Who of our staff looked at it is theirs, not the person's.
OWN = frozenset(
    kind.value
    for kind in (
        EventType.SUBSCRIPTION_REQUESTED,
        EventType.CONFIRMATION_RESENT,
        EventType.MAIL_ACCEPTED,
        EventType.SUBSCRIPTION_CONFIRMED,
        EventType.SUBSCRIPTION_UPDATED,
    )
)


class State(Enum):
    """Whether there is a receipt."""

    READY = "ready"
    WAITING = "waiting"  # confirmed, and not sealed yet
    OPEN = "open"  # not confirmed yet
    GONE = "gone"  # withdrawn, cancelled, or the link is over its time


@dataclass(frozen=True)
class Receipt:
    """A receipt, or why there is none yet.

    Args:
        seconds: after how many at most what was written is sealed.
    """

    state: State
    view: FormView
    seconds: int
    content: bytes | None = None


def of_link(session: Session, ident: bytes, *, now: datetime) -> Receipt | None:
    """The receipt behind a confirmation link; None when we never sent it. Nothing changes by reading it.

    It is a bundle of the person's own events, so the same verifier checks it; the log cannot drop them any more
    without contradicting a file that it does not hold.

    Rule: GDPR 7(1) from the other side, and 15(3); ISO/IEC TS 27560, consent receipt.
    """
    question = answers.look(session, ident, now=now)
    if question is None:
        return None
    seconds = session.config.evidence.seal_seconds
    if not shown.has_receipt(question, now=now):
        state = State.OPEN if question.link is Link.OPEN else State.GONE
        return Receipt(state, question.view, seconds)
    made = _bundle(session, question, now=now)
    content = bundle.encoded(made) if made is not None else None
    return Receipt(State.READY if content else State.WAITING, question.view, seconds, content)


def _bundle(session: Session, question: Question, *, now: datetime) -> Bundle | None:
    """The person's own part of everything; None while some of it waits to be sealed."""
    asked = question.confirmation
    if asked.contact_id is None:
        return None
    key = contacts.open_key(session, asked.contact_id)
    facts = history.of_contact(session, asked.controller_id, Subject(asked.contact_id, key), limit=bundle.MAX_FACTS)
    own = [fact for fact in facts if fact.kind in OWN and fact.fields.get("confirmation") == asked.id]
    if not own or any(fact.leaf_index is None for fact in own):
        return None
    named = _named(own)
    letters = [
        item
        for item in mails.asked(session, asked.controller_id, asked.contact_id, key, now=now)
        if item.sha256 in named
    ]
    view = contacts.get(session, asked.controller_id, asked.contact_id)
    made = bundle.of_facts(session, asked.controller_id, view, own, letters, complete=False, now=now)
    made.record["purposes"] = [item for item in made.record["purposes"] if item["consent"] == asked.act_id]
    return made


def _named(facts: list[Fact]) -> set[str]:
    return {fact.fields[name] for fact in facts for name in files.MAIL_FIELDS if name in fact.fields}
