"""The bundle: everything that proves one person's consents, in one file that needs nobody of us to be checked."""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Any

import msgspec
from msgspec import Meta, Struct
from sqlalchemy import select

from signup.contacts import actions as contacts
from signup.contacts.actions import ContactView
from signup.core.db import Session
from signup.core.values import Actor, ClientInfo, rfc3339
from signup.eventlog import history
from signup.eventlog.history import Fact
from signup.eventlog.kinds import EventType
from signup.eventlog.record import Subject, canonical, client_fields, record
from signup.evidence import mails, statement
from signup.evidence.mails import Shown
from signup.evidence.seals import Previous, Seals
from signup.forms.models import FormVersion

FORMAT = "doi.bundle/1"
# Far more than one person's life with us brings; openings of a link are told fifty times at most.
MAX_FACTS = 20_000


class SealedEvent(Struct):
    """One event: what is in the log for good, what it still discloses, and the proof of its place."""

    leaf: Annotated[str, Meta(description="Canonical JSON; its hash is in the log.")]
    disclosures: Annotated[list[str], Meta(description="Canonical JSON of [salt, name, value].")]
    tlog_proof: Annotated[str | None, Meta(description="c2sp.org/tlog-proof@v1; null until the event is sealed.")]
    tsr: Annotated[str | None, Meta(description="RFC 3161 response over the checkpoint in the proof, base64.")]
    previous: Annotated[Previous | None, Meta(description="A checkpoint from before the event.")]


class LeftOut(Struct):
    """What the bundle could show and does not, with the reason."""

    sha256: Annotated[str, Meta(description="Of the bytes that were handed over to the mail server.")]
    why: Annotated[str, Meta(description="`question-open`: left out; `link-acts`: the tokens of its links blanked.")]
    shown_as: Annotated[str | None, Meta(description="Name of the blanked bytes in `blobs`.")]


class Bundle(Struct):
    """Everything that proves one person's consents."""

    v: str
    made_at: str
    record: Annotated[dict[str, Any], Meta(description="The consents, in the terms of ISO/IEC TS 27560.")]
    events: Annotated[list[SealedEvent], Meta(description="Oldest first.")]
    blobs: Annotated[dict[str, str], Meta(description="SHA-256 to base64: form versions and mails.")]
    left_out: list[LeftOut]
    complete: Annotated[bool, Meta(description=f"False when there are more than {MAX_FACTS} events.")]


def of_contact(session: Session, controller_id: str, contact_id: str, *, now: datetime) -> Bundle:
    """Everything that proves one person's consents, as it can be shown now.

    Raises:
        NotFound: this controller holds no such contact.

    Rule: GDPR 7(1). Each event costs as many reads as the log has levels, however many events others have.
    """
    view = contacts.get(session, controller_id, contact_id)
    key = contacts.open_key(session, contact_id)
    facts = history.of_contact(session, controller_id, Subject(contact_id, key), limit=MAX_FACTS + 1)
    letters = list(mails.asked(session, controller_id, contact_id, key, now=now))
    shown = facts[:MAX_FACTS]
    return of_facts(session, controller_id, view, shown, letters, complete=len(facts) <= MAX_FACTS, now=now)


def of_facts(
    session: Session,
    controller_id: str,
    view: ContactView,
    facts: Sequence[Fact],
    letters: Sequence[Shown],
    *,
    complete: bool,
    now: datetime,
) -> Bundle:
    """What proves these facts about a person.

    Args:
        complete: whether they are all that there are.
    """
    blobs = [*_forms(session, controller_id, facts), *(item.content for item in letters if item.content is not None)]
    seals = Seals(session)
    return Bundle(
        v=FORMAT,
        made_at=rfc3339(now),
        record=statement.of_contact(session, controller_id, view, facts),
        events=[_event(fact, seals) for fact in facts],
        blobs={hashlib.sha256(content).hexdigest(): b64encode(content).decode() for content in blobs},
        left_out=[LeftOut(item.sha256, item.why, item.content_sha256) for item in letters if item.why],
        complete=complete,
    )


def read(
    session: Session, controller_id: str, contact_id: str, *, client: ClientInfo | None, actor: Actor, now: datetime
) -> Bundle:
    """The bundle, and the fact that somebody read it.

    Rule: GDPR 5(2) and 32, who saw what is on record.
    """
    bundle = of_contact(session, controller_id, contact_id, now=now)
    subject = Subject(contact_id, contacts.open_key(session, contact_id))
    fields = {"rows": len(bundle.events), **client_fields(client)}
    record(session, controller_id, EventType.EVIDENCE_READ, fields, now=now, subject=subject, actor=actor)
    return bundle


def encoded(bundle: Bundle) -> bytes:
    """The bundle as a file."""
    return msgspec.json.encode(bundle)


def _event(fact: Fact, seals: Seals) -> SealedEvent:
    seal = seals.of(fact.leaf_index)
    proof, tsr, previous = (seal.tlog_proof, seal.tsr, seal.previous) if seal else (None, None, None)
    return SealedEvent(fact.leaf.decode(), fact.disclosures, proof, tsr, previous)


def _forms(session: Session, controller_id: str, facts: Sequence[Fact]) -> list[bytes]:
    """Each form version that an event names, as the bytes whose hash it names."""
    wanted = {fact.fields["form_sha256"] for fact in facts if "form_sha256" in fact.fields}
    rows = session.execute(
        select(FormVersion.css_sha256, FormVersion.definition, FormVersion.html, FormVersion.locale)
        .where(FormVersion.controller_id == controller_id, FormVersion.sha256.in_(wanted))
        .order_by(FormVersion.id)
    )
    return [
        canonical({"css": row.css_sha256, "definition": row.definition, "html": row.html, "locale": row.locale})
        for row in rows
    ]
