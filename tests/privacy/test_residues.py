"""What is left of the erased answers for three years; then it goes too, and the leaves stay."""

from __future__ import annotations

import json

import pytest
from sqlalchemy import select

from signup.contacts import actions as contacts
from signup.core.db import reading, transaction
from signup.eventlog import audit, merkle, notes, sealing
from signup.eventlog.kinds import FieldClass
from signup.eventlog.models import Disclosure, Event
from signup.mail.models import Message
from signup.privacy import residues, retention
from signup.subscriptions.models import Confirmation
from tests.conftest import Clock
from tests.support import log


@pytest.fixture
def clock(now):
    return Clock(now)


def left() -> dict[str, int]:
    """How much is left of persons who are gone, but for type and time of their events."""
    with reading() as session:
        about = select(Event.id).where(Event.contact_id.is_(None), Event.kind.in_(list(residues.KINDS)))
        rows = session.execute(
            select(Disclosure.field_class, Disclosure.data).where(Disclosure.event_id.in_(about))
        ).all()
    assert {row.field_class for row in rows} <= {FieldClass.RESIDUE}
    fields = [json.loads(line)[1] for row in rows for line in row.data.split(b"\n")]
    assert fields.count("type") == fields.count("time") == len(rows)
    return {"mails": log.count(Message), "questions": log.count(Confirmation), "residue": len(fields) - 2 * len(rows)}


def roots_hold() -> bool:
    """Whether the tree over all leaves that are stored is the one that the newest checkpoint signs."""
    with reading() as session:
        newest = sealing.newest(session)
        head = notes.head_of(newest.note, sealing.verifier_of(session, newest.size))
        leaves = session.scalars(select(Event.leaf).where(Event.leaf_index.is_not(None)).order_by(Event.leaf_index))
        tree = merkle.Tree(lambda _level, _number: b"", 0)
        tree.append([merkle.leaf_hash(leaf) for leaf in leaves])
        return tree.size == head.size and tree.root() == head.root


@pytest.mark.req("E25")
def test_residue_goes_after_three_years_and_every_leaf_stays(sign_up, signup_and_confirm, clock):
    stays = signup_and_confirm("bert@beispiel.de", at=clock())
    sign_up("anna@beispiel.de", at=clock())
    clock.forward(days=9)
    retention.run_now(clock)
    sealing.run([], clock)
    before, facts = left(), len(log.facts(stays.contact_id))
    assert before["residue"] >= 2
    clock.forward(days=3 * 366 - 10)
    assert retention.run_now(clock)["residue"] == 0
    clock.forward(days=11)
    with reading() as session:
        due = residues.count_due(session, now=clock())
    counts = retention.run_now(clock)
    assert {name: counts[name] for name in due} == due == {"mails": 1, "questions": 1, "residue": before["residue"]}
    assert left()["residue"] == 0
    assert len(log.facts(stays.contact_id)) == facts
    assert log.facts(stays.contact_id)[0].fields["form"] == "demo-de"
    assert roots_hold()
    report = audit.audit(contacts.open_keys)
    assert report.wrong is None
    assert report.redacted > before["residue"]


def test_who_is_erased_late_leaves_no_residue_that_is_over(signup_and_confirm, clock):
    person = signup_and_confirm("anna@beispiel.de", at=clock())
    clock.forward(days=4 * 366)
    retention.run_now(clock)
    with transaction() as session:
        retention.forget(session, [person.contact_id], "retention", now=clock())
    assert left()["residue"] == 0
    assert retention.run_now(clock)["mails"] == 1
    assert left() == {"mails": 0, "questions": 0, "residue": 0}


def test_what_staff_and_operator_did_is_no_residue(signup_and_confirm, clock, monkeypatch):
    monkeypatch.setattr(residues, "BATCH", 2)
    with reading() as session:
        events = select(Event.id).where(Event.contact_id.is_(None))
        before = session.scalars(select(Disclosure.event_id).where(Disclosure.event_id.in_(events))).all()
    assert before
    clock.forward(days=20 * 366)
    retention.run_now(clock)
    with reading() as session:
        after = session.scalars(select(Disclosure.event_id)).all()
    assert set(before) <= set(after)
