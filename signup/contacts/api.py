"""Contacts and their evidence, for programs."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Annotated, Any

from msgspec import Meta, Struct

from signup.contacts import actions as contacts
from signup.contacts import entries
from signup.contacts.actions import ContactView
from signup.core.db import Session
from signup.core.values import EmailAddress
from signup.eventlog import history
from signup.eventlog.history import Fact
from signup.eventlog.kinds import EventType
from signup.eventlog.record import Subject, client_fields, record
from signup.purposes.actions import LEGAL_BASES
from signup.subscriptions import addresses
from signup.web import api
from signup.web.api import Call, ListQuery, Page
from signup.web.shapes import Basis, Email, Locale, Origin, address, as_dict

blueprint = api.blueprint("contacts")

# Far more than one person's life with us brings; openings of a link are told fifty times at most.
MAX_FACTS = 20_000


class ContactQuery(ListQuery, kw_only=True):
    email: Email | None = None


class NewContact(Struct, forbid_unknown_fields=True):
    """A contact that is kept on another basis than consent."""

    email: Email
    origin: Origin
    legal_basis: Basis
    locale: Locale = "en"


class ContactChange(Struct, forbid_unknown_fields=True):
    locale: Locale | None = None
    email: Annotated[Email | None, Meta(description="In force once its owner confirms it by mail.")] = None


class Contact(Struct):
    id: str
    email: str
    locale: str
    origin: dict[str, Any]
    legal_basis: str
    version: int
    created_at: datetime
    updated_at: datetime
    fields: Annotated[dict[str, Any], Meta(description="What the person said in a form's declared fields, by name.")]


class EvidenceFact(Struct):
    """One event with what it still discloses."""

    id: str
    type: str
    occurred_at: datetime
    fields: dict[str, Any]
    disclosures: Annotated[
        list[str], Meta(description="Canonical JSON of [salt, name, value]; its SHA-256 is in the leaf.")
    ]
    leaf: Annotated[dict[str, Any], Meta(description="What the log keeps for ever: the digests of all disclosures.")]
    leaf_index: int | None
    redacted: Annotated[int, Meta(description="How many fields are gone for good.")]


class Evidence(Struct):
    """Everything the log says about one person, oldest first."""

    contact: Contact
    facts: list[EvidenceFact]
    complete: Annotated[bool, Meta(description=f"False when there are more than {MAX_FACTS} facts.")]


@api.operation(blueprint, "GET", "/contacts", scope="contacts.read")
def list_contacts(session: Session, call: Call, query: ContactQuery) -> Page[Contact]:
    """List contacts, or find one by its address."""
    after = api.position("contacts", query)
    found = contacts.page(session, call.controller_id, after=after, limit=query.limit + 1, email=address(query.email))
    return api.page("contacts", query, [_shown(view) for view in found], lambda contact: contact.id)


@api.operation(blueprint, "POST", "/contacts", scope="contacts.write", status=201)
def create_contact(session: Session, call: Call, body: NewContact) -> Contact:
    """Enter a contact with its origin and legal basis.

    Consent cannot be entered here: ask for it with `POST /api/v1/subscriptions`. A suppressed address is refused \
with 409 and the reason, and so is one that is here already.
    """
    new = contacts.NewContact(
        EmailAddress.parse(body.email), body.locale, as_dict(body.origin, now=call.now), LEGAL_BASES[body.legal_basis]
    )
    return _shown(entries.create(session, call.controller_id, new, client=call.client, actor=call.actor, now=call.now))


@api.operation(blueprint, "GET", "/contacts/<contact_id>", scope="contacts.read")
def get_contact(session: Session, call: Call, contact_id: str) -> Contact:
    """Read one contact."""
    return _shown(contacts.get(session, call.controller_id, contact_id))


@api.operation(blueprint, "PATCH", "/contacts/<contact_id>", scope="contacts.write")
def change_contact(session: Session, call: Call, body: ContactChange, contact_id: str) -> Contact | api.Pending:
    """Change the language or the address of a contact.

    A new address is answered 202: it gets a mail with a link, the old one is told, and nothing changes before the \
link was used. A suppressed address is refused with 409, and so is another contact's.
    """
    who = (call.controller_id, contact_id)
    caller: dict[str, Any] = {"actor": call.actor, "now": call.now}
    view = contacts.get(session, *who)
    if body.locale is not None:
        view = entries.change_locale(session, *who, body.locale, **caller)
    if body.email is None:
        return _shown(view)
    addresses.ask(session, *who, EmailAddress.parse(body.email), client=call.client, **caller)
    return api.Pending("pending")


@api.operation(blueprint, "GET", "/contacts/<contact_id>/evidence", scope="evidence.read", writes=True)
def read_evidence(session: Session, call: Call, contact_id: str) -> Evidence:
    """Read a person's whole history.

    Each fact shows its fields and the salted disclosures that its leaf in the log commits to. Mailed links are named \
by the hash of their token only. Reading is a fact of its own.
    """
    view = contacts.get(session, call.controller_id, contact_id)
    subject = Subject(contact_id, contacts.open_key(session, contact_id))
    facts = history.of_contact(session, call.controller_id, subject, limit=MAX_FACTS + 1)
    fields = {"rows": len(facts[:MAX_FACTS]), **client_fields(call.client)}
    record(
        session, call.controller_id, EventType.EVIDENCE_READ, fields, now=call.now, subject=subject, actor=call.actor
    )
    shown = [_fact(fact) for fact in facts[:MAX_FACTS]]
    return Evidence(_shown(view), shown, complete=len(facts) <= MAX_FACTS)


def _shown(view: ContactView) -> Contact:
    return Contact(
        view.id,
        view.email,
        view.locale,
        view.origin,
        view.legal_basis,
        view.version,
        view.created_at,
        view.updated_at,
        view.fields,
    )


def _fact(fact: Fact) -> EvidenceFact:
    return EvidenceFact(
        id=fact.id,
        type=fact.kind,
        occurred_at=fact.occurred_at,
        fields=fact.fields,
        disclosures=fact.disclosures,
        leaf=json.loads(fact.leaf),
        leaf_index=fact.leaf_index,
        redacted=fact.redacted,
    )
