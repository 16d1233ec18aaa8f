"""IP addresses and browsers leave the proof in time; the leaves stay valid."""

from __future__ import annotations

import hashlib
import json

import pytest
from sqlalchemy import select

from signup.contacts import actions as contacts
from signup.core.db import database, reading, transaction
from signup.core.signing import b64url
from signup.eventlog import audit, merkle, notes, sealing
from signup.eventlog.models import Event
from signup.privacy import redaction, retention
from signup.privacy.models import LogMark
from signup.subscriptions import answers
from tests.conftest import CLIENT, Clock
from tests.support import log


@pytest.fixture
def clock(now):
    return Clock(now)


def addresses(contact_id: str) -> dict[str, object]:
    """Kind of event to the address that it still discloses."""
    return {fact.kind: fact.fields.get("ip") for fact in log.facts(contact_id)}


def confirm(person, *, at):
    ident = database().sessions.kw["keys"].open_token("confirm", person.confirm_url.rpartition("/")[2])
    with transaction() as session:
        answers.confirm(session, ident, client=CLIENT, page_seconds=7, now=at)


def open_link(person, *, at):
    ident = database().sessions.kw["keys"].open_token("confirm", person.confirm_url.rpartition("/")[2])
    with transaction() as session:
        answers.note_opening(session, ident, "confirm", method="GET", client=CLIENT, now=at)


@pytest.mark.req("E25")
def test_addresses_stay_90_days_after_the_confirmation_and_then_go_with_all_that_led_to_it(sign_up, clock):
    person = sign_up("anna@beispiel.de", at=clock())
    open_link(person, at=clock.forward(days=5))
    confirm(person, at=clock.forward(days=1))
    clock.forward(days=89, hours=23)
    assert retention.run_now(clock)["redacted"] == 0
    assert set(addresses(person.contact_id).values()) == {CLIENT.ip}
    clock.forward(hours=2)
    with reading() as session:
        due = redaction.count_due(session, now=clock())
    assert retention.run_now(clock)["redacted"] == due == 6
    assert set(addresses(person.contact_id).values()) == {None}
    facts = {fact.kind: fact for fact in log.facts(person.contact_id)}
    for kind in ("subscription.requested", "link.opened", "subscription.confirmed"):
        assert "user_agent" not in facts[kind].fields
        assert facts[kind].redacted == 2
        assert facts[kind].fields["ip_source"] == CLIENT.ip_source
    assert facts["subscription.requested"].fields["email"] == "anna@beispiel.de"


@pytest.mark.req("E41")
@pytest.mark.parametrize("everything", [False, True])
def test_leaf_and_inclusion_still_hold_when_one_field_or_all_are_gone(signup_and_confirm, clock, everything):
    person = signup_and_confirm("anna@beispiel.de", at=clock())
    sealing.seal_now(clock)
    before = {fact.id: fact for fact in log.facts(person.contact_id)}
    if everything:
        with transaction() as session:
            retention.forget(session, [person.contact_id], "retention", now=clock())
    else:
        clock.forward(days=91)
        assert retention.run_now(clock)["redacted"] == 4
        for fact in log.facts(person.contact_id):
            digests = {b64url(hashlib.sha256(data.encode()).digest()).decode() for data in fact.disclosures}
            assert digests < set(json.loads(fact.leaf)["sd"])
            assert len(digests) + fact.redacted == len(json.loads(fact.leaf)["sd"])
    report = audit.audit(contacts.open_keys)
    assert report.wrong is None
    assert report.redacted >= 4
    with reading() as session:
        newest = sealing.newest(session)
        head = notes.head_of(newest.note, sealing.verifier_of(session, newest.size))
        tree = sealing.checked_tree(session, newest)
        for event in session.scalars(select(Event).where(Event.id.in_(list(before)))):
            assert event.leaf == before[event.id].leaf
            path = tree.inclusion(event.leaf_index, newest.size)
            assert _root(event.leaf, event.leaf_index, newest.size, path) == head.root


def _root(leaf: bytes, index: int, size: int, path: list[bytes]) -> bytes:
    """RFC 9162 2.1.3.2, written apart from the program."""
    number, last, found = index, size - 1, merkle.leaf_hash(leaf)
    for sibling in path:
        if number % 2 or number == last:
            found = hashlib.sha256(b"\x01" + sibling + found).digest()
            while number and not number % 2:
                number, last = number // 2, last // 2
        else:
            found = hashlib.sha256(b"\x01" + found + sibling).digest()
        number, last = number // 2, last // 2
    assert last == 0
    return found


def test_the_log_is_gone_through_once_when_runs_follow_each_other(signup_and_confirm, clock, monkeypatch):
    monkeypatch.setattr(redaction, "BATCH", 2)
    people = [signup_and_confirm(f"anna{number}@beispiel.de", at=clock.forward(minutes=1)) for number in range(3)]
    clock.forward(days=91)
    assert retention.run_now(clock)["redacted"] == 4 * len(people)
    for person in people:
        assert set(addresses(person.contact_id).values()) == {None}
    with reading() as session:
        mark = session.scalar(select(LogMark.event_id))
        seen = redaction._next(session, mark, redaction._limit(session, clock()))
    assert seen == []
    assert retention.run_now(clock)["redacted"] == 0


def test_a_later_yes_keeps_its_own_request_and_not_the_first_one(signup_and_confirm, sign_up, clock):
    person = signup_and_confirm("anna@beispiel.de", at=clock())
    clock.forward(days=85)
    more = sign_up("anna@beispiel.de", chosen=("invitations",), at=clock())
    confirm(more, at=clock.forward(days=3))
    clock.forward(days=4)
    retention.run_now(clock)
    told = [fact.fields.get("ip") for fact in log.facts(person.contact_id) if "request" in fact.kind]
    assert told == [None, CLIENT.ip]
    clock.forward(days=83)
    retention.run_now(clock)
    assert [fact.fields.get("ip") for fact in log.facts(person.contact_id) if "request" in fact.kind][1] == CLIENT.ip
    clock.forward(days=4)
    retention.run_now(clock)
    assert set(addresses(person.contact_id).values()) == {None}


class TestKept:
    @pytest.fixture
    def settings(self):
        return {"SIGNUP_IP_DAYS": "0"}

    def test_addresses_stay_with_the_proof_when_the_setting_says_so(self, signup_and_confirm, clock):
        person = signup_and_confirm("anna@beispiel.de", at=clock())
        clock.forward(days=4000)
        with reading() as session:
            assert redaction.count_due(session, now=clock()) == 0
        retention.run_now(clock)
        assert set(addresses(person.contact_id).values()) == {CLIENT.ip}
