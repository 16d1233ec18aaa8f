"""The log's own promises."""

import hashlib
import json
from base64 import urlsafe_b64encode

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import select

from signup.core.db import reading, transaction
from signup.core.values import PERSON
from signup.eventlog.history import feed, number_publications, of_contact
from signup.eventlog.kinds import FIELDS, SEALED_CLASSES, EventType, FieldClass
from signup.eventlog.models import Disclosure, Event, Publication
from signup.eventlog.record import Subject, canonical, forget_person, leaf, opened, publish, record, redact
from tests.conftest import in_threads

texts = st.text(st.characters(exclude_categories=["Cs"]))
keys = st.text(st.characters(min_codepoint=32, max_codepoint=126))
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | texts,
    lambda inner: st.lists(inner) | st.dictionaries(keys, inner),
)


@pytest.mark.req("E32")
@given(values)
def test_canonical_json_equals_the_standard(value):
    assert canonical(value) == rfc8785.dumps(value)


def test_a_float_is_refused():
    with pytest.raises(TypeError, match="floating point"):
        canonical({"a": [1.5]})


@pytest.fixture
def subject(app):
    with transaction() as session:
        plain, _ = session.keys.new_data_key()
    return Subject("con_1", plain)


def write(demo, subject, now, **fields):
    with transaction() as session:
        return record(
            session,
            demo.controller.id,
            EventType.LINK_OPENED,
            fields or {"ip": "203.0.113.7", "method": "GET", "user_agent": "x"},
            now=now,
            subject=subject,
            actor=PERSON,
        )


def facts(demo, subject):
    with reading() as session:
        return of_contact(session, demo.controller.id, subject)


@pytest.mark.req("E32")
def test_the_leaf_holds_salted_digests_only(demo, subject, now):
    ident = write(demo, subject, now)
    with reading() as session:
        stored = session.scalar(select(Event.leaf).where(Event.id == ident))
    content = json.loads(stored)
    assert content["v"] == "doi.event/1"
    (fact,) = facts(demo, subject)
    digests = [
        urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode() for text in fact.disclosures
    ]
    assert content["sd"] == sorted(digests)
    assert len(content["sd"]) == 6
    assert b"203.0.113.7" not in stored
    plain = urlsafe_b64encode(hashlib.sha256(b"203.0.113.7").digest()).rstrip(b"=")
    assert plain not in stored


@pytest.mark.req("E32")
def test_the_same_fact_has_another_leaf_each_time(demo, subject, now):
    write(demo, subject, now)
    write(demo, subject, now)
    first, second = facts(demo, subject)
    assert first.leaf != second.leaf


def test_a_redacted_field_is_gone_and_the_leaf_stays_valid(demo, subject, now):
    ident = write(demo, subject, now)
    with transaction() as session:
        assert redact(session, [ident], [FieldClass.IP]) == 1
    (fact,) = facts(demo, subject)
    assert "ip" not in fact.fields
    assert fact.redacted == 1
    rest = set(json.loads(leaf(text.encode() for text in fact.disclosures))["sd"])
    assert rest < set(json.loads(fact.leaf)["sd"])


def test_a_forgotten_person_leaves_residue_that_names_nobody(demo, subject, now):
    ident = write(demo, subject, now)
    with transaction() as session:
        publish(session, demo.controller.id, "x.y", {"a": 1}, now=now, event_id=ident, subject=subject)
    with transaction() as session:
        forget_person(session, [subject.contact_id])
    with reading() as session:
        (data,) = session.scalars(select(Disclosure.data).where(Disclosure.event_id == ident))
        assert session.scalar(select(Event.contact_id).where(Event.id == ident)) is None
        assert session.execute(select(Publication.payload, Publication.contact_id)).one() == (None, None)
    assert {json.loads(line)[1] for line in data.split(b"\n")} == {"type", "time", "actor", "method"}


def test_personal_fields_are_sealed_and_residue_is_not(demo, subject, now):
    write(demo, subject, now)
    with reading() as session:
        rows = session.execute(
            select(Disclosure.sealed, Disclosure.data, Disclosure.field_class)
            .join(Event, Event.id == Disclosure.event_id)
            .where(Event.contact_id == subject.contact_id)
        ).all()
        lines = [
            (row, json.loads(line)[1])
            for row in rows
            for line in opened(session, subject.data_key, sealed=row.sealed, data=row.data)
        ]
    assert {"ip", "type"} <= {name for _, name in lines}
    for row, name in lines:
        assert row.field_class is FIELDS[name]
        assert row.sealed is (FIELDS[name] in SEALED_CLASSES)
        assert b"203.0.113.7" not in row.data


def test_a_field_nobody_classified_is_refused(demo, subject, now):
    with pytest.raises(KeyError):
        write(demo, subject, now, shoe_size=44)


@pytest.mark.req("E33")
def test_parallel_writers_all_commit_and_none_assigns_an_index(app, demo, subject, now):
    def one(number):
        with app.app_context():
            return write(demo, subject, now)

    assert len(set(in_threads(8, one))) == 8
    with reading() as session:
        indexes = session.scalars(select(Event.leaf_index).where(Event.contact_id == subject.contact_id)).all()
    assert indexes == [None] * 8


def test_the_feed_is_numbered_without_gaps_and_read_from_a_place(demo, subject, now):
    with transaction() as session:
        for number in range(5):
            publish(session, demo.controller.id, "x.y", {"n": number}, now=now, subject=subject)
    with transaction() as session:
        assert number_publications(session) == 5
        assert number_publications(session) == 0
    with reading() as session:
        rows = list(feed(session, demo.controller.id, after=2, limit=10))
        read = [json.loads(session.keys.unseal(subject.data_key, payload))["data"]["n"] for _, _, payload, _ in rows]
    assert [row[0] for row in rows] == [3, 4, 5]
    assert read == [2, 3, 4]


def test_the_published_bytes_are_the_envelope(demo, subject, now):
    with transaction() as session:
        ident = publish(session, demo.controller.id, "x.y", {"name": "Zoë 🎉"}, now=now, subject=subject)
    with reading() as session:
        payload = session.scalar(select(Publication.payload).where(Publication.id == ident))
        content = json.loads(session.keys.unseal(subject.data_key, payload))
    assert content == {
        "id": ident,
        "type": "x.y",
        "timestamp": "2026-11-23T09:14:02.125Z",
        "schema_version": 1,
        "data": {"name": "Zoë 🎉"},
    }
