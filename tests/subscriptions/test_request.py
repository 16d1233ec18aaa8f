"""Asking for a subscription, on both databases."""

from datetime import timedelta

import pytest
from sqlalchemy import event, select

from signup.contacts.models import Contact
from signup.core import driver
from signup.core.db import database, reading, transaction
from signup.core.values import EmailAddress
from signup.eventlog import record as eventlog
from signup.eventlog.models import Event
from signup.forms import actions as forms
from signup.jobs import JobRow
from signup.mail.models import Message, MessageState
from signup.subscriptions import links, presses, requests
from signup.subscriptions.models import Confirmation, Submission, Subscription
from signup.subscriptions.states import ConfirmationState, Status
from signup.suppression import actions as suppression
from signup.suppression.models import Reason
from tests.conftest import CLIENT, queued_mail
from tests.support import log


def ask(email, *, form="demo-de", chosen=("product-news",), render_id=None, now, origin=None):
    with reading() as session:
        view = forms.in_force(session, form)
    wanted = presses.SignupRequest(EmailAddress.parse(email), chosen, render_id, None, CLIENT, origin, None)
    with transaction() as session:
        return requests.request(session, view, wanted, now=now)


def contact_id(email):
    with reading() as session:
        return session.scalar(select(Contact.id).where(Contact.email == email))


@pytest.mark.req("E2")
def test_everything_is_written_in_one_commit_when_somebody_signs_up(app, now):
    ask("anna@beispiel.de", now=now)
    ident = contact_id("anna@beispiel.de")
    assert log.subscription(ident).status is Status.REQUESTED
    assert log.kinds(ident) == ["subscription.requested"]
    assert log.published(ident) == ["subscription.requested"]
    assert [message.state for message in log.messages(ident)] == [MessageState.QUEUED]
    with reading() as session:
        assert session.scalars(select(JobRow.kind)).all() == ["mail.send"]
        assert session.scalars(select(Confirmation.state)).all() == [ConfirmationState.OPEN]


@pytest.mark.req("E2")
@pytest.mark.parametrize("broken", [Event, Message, JobRow, Subscription])
def test_nothing_is_written_when_one_part_fails(app, now, monkeypatch, broken):
    from signup.core.db import Session

    put = Session.put

    def failing(self, model, row, **options):
        if model is broken:
            row = {**row, "id": None}
        put(self, model, row, **options)

    before = log.events_in_all()
    monkeypatch.setattr(Session, "put", failing)
    with pytest.raises(Exception, match=r"(?i)null"):
        ask("anna@beispiel.de", now=now)
    monkeypatch.undo()
    assert contact_id("anna@beispiel.de") is None
    assert log.events_in_all() == before
    assert [log.count(model) for model in (Message, JobRow, Subscription, Confirmation, Submission)] == [0] * 5


@pytest.mark.req("E1")
@pytest.mark.req("E3")
@pytest.mark.req("E14")
def test_the_event_discloses_each_fact_with_its_own_salt(app, now):
    ask("anna@beispiel.de", now=now, origin="https://www.example.org")
    (fact,) = log.facts(contact_id("anna@beispiel.de"))
    assert fact.fields["email"] == "anna@beispiel.de"
    assert fact.fields["ip"] == "203.0.113.7"
    assert fact.fields["ip_source"] == "connection"
    assert fact.fields["time"] == "2026-11-23T09:14:02.125Z"
    assert fact.fields["origin_header"] == "https://www.example.org"
    assert fact.fields["form_version"] == 1
    assert fact.fields["form_version_stated"] is False
    assert fact.fields["boxes"] == [
        {"purpose": "product-news", "default": False, "submitted": True},
        {"purpose": "invitations", "default": False, "submitted": False},
    ]
    assert fact.fields["consent_texts"][0]["text"].startswith("Ja, ich möchte Produktneuheiten")
    assert fact.fields["legal_basis"] == "gdpr-6-1-a"
    assert fact.redacted == 0
    assert eventlog.leaf(text.encode() for text in fact.disclosures) == fact.leaf
    salts = {text.split('"')[1] for text in fact.disclosures}
    assert len(salts) == len(fact.disclosures)


@pytest.mark.req("F14")
def test_the_same_press_counts_once_when_its_render_id_repeats(app, now):
    first = ask("anna@beispiel.de", render_id="r-1", now=now)
    assert ask("anna@beispiel.de", render_id="r-1", now=now + timedelta(hours=1)) == first
    assert log.kinds(contact_id("anna@beispiel.de")) == ["subscription.requested"]


@pytest.mark.req("F14")
def test_other_content_is_a_new_request_when_the_render_id_repeats(app, now):
    first = ask("anna@beispiel.de", render_id="r-1", now=now)
    second = ask("anna@beispiel.de", render_id="r-1", chosen=("invitations",), now=now)
    assert first != second


def test_the_same_press_is_new_again_when_a_day_has_passed(app, now):
    first = ask("anna@beispiel.de", render_id="r-1", now=now)
    assert ask("anna@beispiel.de", render_id="r-1", now=now + timedelta(hours=25)) != first


@pytest.mark.req("A2")
def test_a_second_request_is_recorded_but_not_mailed_when_it_comes_within_ten_minutes(app, now):
    ask("anna@beispiel.de", now=now)
    ask("anna@beispiel.de", chosen=("invitations",), now=now + timedelta(minutes=9))
    ident = contact_id("anna@beispiel.de")
    assert [message.state for message in log.messages(ident)] == [MessageState.QUEUED, MessageState.HELD]
    assert log.messages(ident)[1].reason == "cap of mails to this address"
    with reading() as session:
        assert len(session.scalars(select(Confirmation).where(Confirmation.state == ConfirmationState.OPEN)).all()) == 1


@pytest.mark.req("A2")
def test_mails_to_one_address_stay_within_all_caps_over_all_forms(app, now):
    sent = []
    for step in range(24 * 31):
        at = now + timedelta(hours=step)
        ask("anna@beispiel.de", form="demo-de" if step % 2 else "demo-en", now=at)
        queued = len([m for m in log.messages(contact_id("anna@beispiel.de")) if m.state is not MessageState.HELD])
        if queued > len(sent):
            sent.append(at)
        if step > 80 and len(sent) >= 5:
            break
    assert len(sent) == 5
    assert max(sum(1 for other in sent if 0 <= (other - one).total_seconds() < 86_400) for one in sent) == 3


@pytest.mark.req("A12")
def test_a_plus_tag_does_not_escape_the_cap(app, now):
    ask("anna@beispiel.de", now=now)
    ask("anna+1@beispiel.de", now=now)
    assert queued_mail("anna+1@beispiel.de") is None


def test_a_new_request_replaces_the_open_one_with_the_union_of_purposes(app, now):
    ask("anna@beispiel.de", now=now)
    ask("anna@beispiel.de", chosen=("invitations",), now=now + timedelta(minutes=11))
    with reading() as session:
        newest = session.scalars(select(Confirmation).where(Confirmation.state == ConfirmationState.OPEN)).one()
        assert len(newest.purpose_ids) == 2
        states = session.scalars(select(Confirmation.state).order_by(Confirmation.id)).all()
    assert states == [ConfirmationState.REPLACED, ConfirmationState.OPEN]
    text = queued_mail("anna@beispiel.de").get_body(("plain",)).get_content()
    assert "Produktneuheiten" in text
    assert "Einladungen" in text


def test_the_unsent_mail_stays_when_a_newer_one_replaces_it(app, now):
    ask("anna@beispiel.de", now=now)
    ask("anna@beispiel.de", chosen=("invitations",), now=now + timedelta(minutes=11))
    states = [message.state for message in log.messages(contact_id("anna@beispiel.de"))]
    assert states == [MessageState.CANCELLED, MessageState.QUEUED]


def test_an_added_purpose_leaves_the_subscription_active(app, signup_and_confirm, now):
    person = signup_and_confirm("anna@beispiel.de", at=now)
    ask("anna@beispiel.de", chosen=("product-news", "invitations"), now=now + timedelta(minutes=11))
    assert log.subscription(person.contact_id).status is Status.ACTIVE
    text = queued_mail("anna@beispiel.de").get_body(("plain",)).get_content()
    assert "Einladungen" in text
    assert "Produktneuheiten," not in text


@pytest.mark.req("A9")
def test_a_notice_is_mailed_at_most_daily_when_somebody_is_signed_up_already(app, signup_and_confirm, now):
    person = signup_and_confirm("anna@beispiel.de", at=now)
    for hours in (25, 26, 40, 50):
        ask("anna@beispiel.de", now=now + timedelta(hours=hours))
    text = queued_mail("anna@beispiel.de").get_body(("plain",)).get_content()
    with reading() as session:
        ident = links.unsubscribe_id(session, person.subscription_id, 1)
        assert links.preferences_url(session, ident) in text.split()
    states = [message.state for message in log.messages(person.contact_id) if message.kind == "already"]
    held, queued = MessageState.HELD, MessageState.QUEUED
    # 25 h: told; 26 and 40 h: held back; 50 h: told once more.
    assert [message.kind for message in log.messages(person.contact_id)].count("confirm") >= 1
    assert states.count(queued) == 2
    assert sum(message.state is held for message in log.messages(person.contact_id)) == 2


@pytest.mark.req("A20")
def test_no_mail_goes_out_when_the_address_is_blocked_after_not_me(app, demo, now):
    from signup.contacts import actions as contacts

    with transaction() as session:
        key = contacts.address_key(session, demo.controller.id, EmailAddress.parse("anna@beispiel.de"))
        suppression.remember(session, demo.controller.id, key, Reason.NOT_ME, now=now)
    ask("anna@beispiel.de", now=now + timedelta(days=89))
    assert queued_mail("anna@beispiel.de") is None
    ask("anna@beispiel.de", now=now + timedelta(days=91))
    assert queued_mail("anna@beispiel.de") is not None


@pytest.mark.req("A10")
@pytest.mark.req("E10")
def test_the_mail_repeats_nothing_that_a_stranger_sent(app, now):
    ask("anna@beispiel.de", now=now, origin="https://buy-cheap.example")
    raw = queued_mail("anna@beispiel.de").as_string()
    text = queued_mail("anna@beispiel.de").get_body(("plain",)).get_content()
    assert "buy-cheap" not in raw
    assert "http://127.0.0.1:8000/f/demo-de" in text


@pytest.mark.req("E7")
@pytest.mark.req("E8")
def test_contact_and_consent_carry_origin_basis_and_channel(app, now):
    ask("anna@beispiel.de", now=now)
    with reading() as session:
        row = session.scalars(select(Contact)).one()
        from signup.consents.models import Consent

        consent = session.scalars(select(Consent)).one()
    assert row.origin == {"type": "form", "detail": "demo-de", "collected_by": None}
    assert row.legal_basis == consent.legal_basis == "gdpr-6-1-a"
    assert consent.channel == "email"
    assert consent.state.value == "requested"


def test_nothing_personal_is_readable_in_log_and_mail_without_the_data_key(app, now):
    from signup.eventlog.models import Disclosure, Publication

    ask("anna@beispiel.de", now=now)
    with reading() as session:
        stored = b"".join(session.scalars(select(Disclosure.data)).all())
        stored += b"".join(session.scalars(select(Publication.payload)).all())
        stored += b"".join(session.scalars(select(Message.sealed)).all())
    assert b"anna" not in stored
    assert b"203.0.113" not in stored


@pytest.mark.req("A8")
def test_the_database_is_asked_as_often_for_an_unknown_address_as_for_a_known_one(
    app, demo, signup_and_confirm, now, monkeypatch
):
    signup_and_confirm("active@beispiel.de", at=now - timedelta(days=2))
    ask("capped@beispiel.de", now=now - timedelta(minutes=1))
    # Hourly counts go into the database at most once a second, with whoever comes then.
    ask("somebody@beispiel.de", now=now)
    asked: list[str] = []
    event.listen(database().engine, "before_cursor_execute", lambda *given: asked.append(given[2]))
    real = driver.run
    monkeypatch.setattr(driver, "run", lambda held, sql, given: (asked.append(sql), real(held, sql, given))[1])
    counts = {}
    for name in ("unknown", "active", "capped"):
        asked.clear()
        ask(f"{name}@beispiel.de", now=now)
        counts[name] = len(asked)
    assert min(counts.values()) > 1
    assert len(set(counts.values())) == 1, counts
