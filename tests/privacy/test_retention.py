"""What is kept no longer than needed."""

from datetime import timedelta

import pytest
from flask_migrate import downgrade, upgrade
from sqlalchemy import select

from signup.core.db import reading, transaction
from signup.core.values import utc_now
from signup.eventlog.kinds import EventType, FieldClass
from signup.eventlog.models import Disclosure, Event, LinkHits, Publication
from signup.mail.models import Message
from signup.privacy import retention
from signup.subscriptions import answers
from signup.subscriptions.models import Confirmation, Submission, Subscription
from signup.subscriptions.rules import OPENINGS_TOLD
from signup.subscriptions.states import ConfirmationState, Status
from tests.conftest import Clock, elsewhere
from tests.support import log
from tests.support.pages import ident_of


@pytest.fixture
def clock(now):
    return Clock(now)


@pytest.mark.req("E23")
def test_an_unconfirmed_person_is_gone_within_a_day_of_expiry(sign_up, clock, place):
    person = sign_up("canary@beispiel.de", at=clock())
    clock.forward(days=7, minutes=10)
    assert retention.run_now(clock)["expired"] == 1
    assert log.subscription(person.contact_id).status is Status.EXPIRED
    assert log.published(person.contact_id)[-1] == "subscription.expired"
    clock.forward(hours=23)
    assert retention.run_now(clock)["erased"] == 1
    with reading() as session:
        assert session.scalars(select(Subscription.id)).all() == []
        kept = session.execute(select(Disclosure.field_class, Disclosure.data)).all()
        message = session.scalars(select(Message)).one()
        question = session.scalars(select(Confirmation)).one()
        assert session.scalars(select(Publication.payload)).all() == [None, None]
    assert {row.field_class for row in kept} == {FieldClass.RESIDUE}
    assert b"canary" not in b"".join(row.data for row in kept)
    assert (message.sealed, message.contact_id) == (None, None)
    assert message.message_id is not None
    assert (question.state, question.contact_id) == (ConfirmationState.EXPIRED, None)
    if place.url is None:
        stored = b"".join(path.read_bytes() for path in place.folder.glob("signup.db*"))
        assert b"canary" not in stored


@pytest.mark.req("E24")
def test_the_residue_still_tells_when_and_by_which_form(sign_up, clock):
    person = sign_up("canary@beispiel.de", at=clock())
    header = log.messages(person.contact_id)[0].message_id
    clock.forward(days=8)
    retention.run_now(clock)
    with reading() as session:
        plain = session.scalars(select(Disclosure.data).where(Disclosure.sealed.is_(False))).all()
    (text,) = [data.decode() for data in plain if b'"message_id"' in data]
    assert header in text
    assert "2026-11-23T09:14:02.125Z" in text
    assert "demo-de" in text


@pytest.mark.req("E23")
def test_the_run_is_an_event_with_counts(sign_up, clock):
    sign_up("anna@beispiel.de", at=clock())
    clock.forward(days=8)
    retention.run_now(clock)
    with reading() as session:
        data = session.scalar(
            select(Disclosure.data)
            .join(Event, Event.id == Disclosure.event_id)
            .where(Event.kind == EventType.RETENTION_RUN)
        )
    assert b'"expired":1' in data


def test_a_confirmed_person_stays(signup_and_confirm, clock):
    person = signup_and_confirm("anna@beispiel.de", at=clock())
    clock.forward(days=400)
    retention.run_now(clock)
    assert log.subscription(person.contact_id).status is Status.ACTIVE


def test_an_unanswered_extra_question_expires_without_touching_the_subscription(signup_and_confirm, sign_up, clock):
    person = signup_and_confirm("anna@beispiel.de", at=clock())
    sign_up("anna@beispiel.de", chosen=("invitations",), at=clock.forward(hours=1))
    clock.forward(days=9)
    assert retention.run_now(clock)["expired"] == 1
    assert log.subscription(person.contact_id).status is Status.ACTIVE
    clock.forward(days=9)
    assert retention.run_now(clock)["erased"] == 0


def test_a_refused_request_is_erased_by_the_next_run(client, sign_up):
    from tests.support.pages import nonce

    person = sign_up("anna@beispiel.de")
    client.post(person.not_me_path, data={"nonce": nonce(person.not_me_path)})
    assert retention.run_now(utc_now)["erased"] == 1
    page = client.get(person.not_me_path)
    assert page.status_code == 200
    assert client.get(person.confirm_path).status_code == 410


def test_a_dry_run_names_the_counts_and_changes_nothing(sign_up, clock):
    person = sign_up("anna@beispiel.de", at=clock())
    clock.forward(days=8)
    with reading() as session:
        assert retention.preview(session, now=clock())["expired"] == 1
    assert log.subscription(person.contact_id).status is Status.REQUESTED


def test_many_are_expired_in_small_commits(sign_up, clock):
    for number in range(retention.BATCH + 3):
        sign_up(f"anna{number}@beispiel.de", at=clock.forward(minutes=1), client=elsewhere(number))
    clock.forward(days=8)
    counts = retention.run_now(clock)
    assert counts["expired"] == counts["erased"] == retention.BATCH + 3
    assert log.count(Submission) == 0


def test_mails_to_the_erased_are_not_sent(sign_up, clock):
    from signup.worker import JobTurn
    from tests.mail.test_send import MAIL

    sign_up("anna@beispiel.de", at=clock() - timedelta(days=9))
    retention.run_now(clock)
    retention.run_now(lambda: clock() + timedelta(days=1))
    turn = JobTurn(MAIL)
    turn(clock)
    turn.close(clock)
    with reading() as session:
        assert session.scalars(select(Message.state)).one().value == "cancelled"


def test_a_contact_known_for_another_reason_stays_when_a_request_runs_out(sign_up, demo, clock):
    from signup.contacts import actions as contacts
    from signup.core.db import transaction
    from signup.core.values import EmailAddress
    from signup.purposes.models import LegalBasis

    with transaction() as session:
        origin = {"type": "contract", "detail": "order 7", "collected_by": None}
        new = contacts.NewContact(EmailAddress.parse("kunde@beispiel.de"), "de", origin, LegalBasis.CONTRACT)
        contacts.find_or_add(session, demo.controller.id, new, now=clock())
    person = sign_up("kunde@beispiel.de", at=clock())
    clock.forward(days=9)
    counts = retention.run_now(clock)
    assert (counts["expired"], counts["erased"]) == (1, 0)
    assert log.subscription(person.contact_id).status is Status.EXPIRED


def test_counts_of_opened_links_are_gone_when_their_time_is_over(client, sign_up):
    clock = Clock(utc_now())
    person = sign_up("anna@beispiel.de", at=clock())
    for path in (person.confirm_path, person.unsubscribe_path):
        assert client.get(path).status_code == 200
    assert log.count(LinkHits) == 2
    clock.forward(days=8)
    assert retention.run_now(clock)["openings"] == 0
    clock.forward(days=30)
    with reading() as session:
        assert retention.preview(session, now=clock())["openings"] == 1
    assert retention.run_now(clock)["openings"] == 1
    clock.forward(days=370)
    assert retention.run_now(clock)["openings"] == 1
    assert log.count(LinkHits) == 0


def test_a_dead_link_that_is_opened_on_and_on_is_never_told_anew(sign_up, clock):
    person = sign_up("anna@beispiel.de", at=clock())
    ident = ident_of(person.confirm_path)
    for _ in range(12):
        clock.forward(days=20)
        retention.run_now(clock)
        with transaction() as session:
            for _again in range(6):
                seen = {"method": "GET", "client": elsewhere(1), "now": clock()}
                answers.note_opening(session, ident, "confirm", **seen)
    with reading() as session:
        kinds = list(session.scalars(select(Event.kind)))
    assert kinds.count(EventType.LINK_OPENED) == OPENINGS_TOLD


def test_counts_of_an_older_release_have_an_end_too_when_migrated(app, client, sign_up):
    clock = Clock(utc_now())
    assert client.get(sign_up("anna@beispiel.de", at=clock()).confirm_path).status_code == 200
    downgrade(revision="0024")
    upgrade()
    assert log.count(LinkHits) == 1
    with reading() as session:
        until = session.scalars(select(LinkHits.expires_at)).one()
    assert timedelta(days=399) < until - clock() < timedelta(days=401)
    clock.forward(days=401)
    assert retention.run_now(clock)["openings"] == 1
