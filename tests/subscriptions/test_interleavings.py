"""What must hold when steps come in an unlucky order."""

from datetime import timedelta

import pytest
from sqlalchemy import select, update

from signup.consents.models import Consent, ConsentState
from signup.contacts import actions as contacts
from signup.core.db import database, reading, transaction
from signup.core.errors import Conflict
from signup.core.values import Actor, EmailAddress, utc_now
from signup.forms.models import Form
from signup.privacy import retention
from signup.purposes.models import LegalBasis
from signup.subscriptions import endings, entries, links
from signup.subscriptions.models import Confirmation, Subscription
from signup.subscriptions.states import ConfirmationState, EndReason, Status
from signup.suppression import actions as suppression
from signup.suppression.models import Reason
from tests.conftest import CLIENT, mailed_url, queued_mail
from tests.subscriptions.test_request import ask
from tests.support import log
from tests.support.pages import nonce, undo_nonce

CALLER = entries.Caller(Actor("api-key", "key_1"), CLIENT)
ONE_CLICK = {"List-Unsubscribe": "One-Click"}


def press(client, path, **fields):
    return client.post(path, data={"nonce": nonce(path), **fields})


def covering(demo, email, now):
    with reading() as session:
        key = contacts.address_key(session, demo.controller.id, EmailAddress.parse(email))
        return suppression.covering(session, demo.controller.id, key, now=now)


def end(demo, person, reason, now):
    with transaction() as session:
        return entries.end(session, demo.controller.id, person.subscription_id, reason, CALLER, now=now)


def states(person):
    with reading() as session:
        rows = session.scalars(select(Consent.state).where(Consent.contact_id == person.contact_id))
        return sorted(state.value for state in rows)


@pytest.mark.parametrize("reason", [EndReason.OBJECTED, EndReason.UNSUBSCRIBED])
def test_a_lasting_block_outlives_a_not_me(client, demo, signup_and_confirm, sign_up, reason):
    now = utc_now()
    person = signup_and_confirm("anna@beispiel.de", at=now - timedelta(hours=2))
    end(demo, person, reason, now - timedelta(hours=1))
    again = sign_up("anna@beispiel.de")
    press(client, again.not_me_path)
    assert covering(demo, "anna@beispiel.de", now) is Reason.NOT_ME
    assert covering(demo, "anna@beispiel.de", now + timedelta(days=91)).value == reason.value
    entry = entries.Entry(
        EmailAddress.parse("anna@beispiel.de"),
        None,
        ("product-news",),
        "de",
        {"type": "contract", "detail": "x", "collected_by": None},
        LegalBasis.SOFT_OPT_IN,
    )
    with pytest.raises(Conflict), transaction() as session:
        entries.enter(session, demo.controller.id, entry, CALLER, now=now + timedelta(days=91))


def test_undo_lifts_only_the_block_of_the_unsubscription(client, demo, signup_and_confirm, sign_up):
    now = utc_now()
    person = signup_and_confirm("anna@beispiel.de", at=now - timedelta(hours=2))
    added = sign_up("anna@beispiel.de", chosen=("invitations",))
    press(client, added.not_me_path)
    press(client, person.unsubscribe_path)
    client.post(person.unsubscribe_path, data={"undo": undo_nonce(client, person.unsubscribe_path)})
    assert log.subscription(person.contact_id).status is Status.ACTIVE
    assert covering(demo, "anna@beispiel.de", now) is Reason.NOT_ME


def test_a_topic_that_a_mail_client_ended_stays_ended(client, signup_and_confirm):
    person = signup_and_confirm("anna@beispiel.de", purposes=("product-news", "invitations"))
    with reading() as session:
        url = links.unsubscribe_url(session, person.subscription_id, 1, "invitations")
    path = url.removeprefix("http://127.0.0.1:8000")
    client.post(path, data=ONE_CLICK)
    assert 'name="undo"' not in client.get(path).text
    client.post(path, data={"undo": undo_nonce(client, path)})
    assert states(person) == ["given", "withdrawn"]


def test_a_topic_ended_on_its_page_can_be_undone_there(client, signup_and_confirm):
    person = signup_and_confirm("anna@beispiel.de", purposes=("product-news", "invitations"))
    with reading() as session:
        url = links.unsubscribe_url(session, person.subscription_id, 1, "invitations")
    path = url.removeprefix("http://127.0.0.1:8000")
    press(client, path)
    assert states(person) == ["given", "withdrawn"]
    client.post(path, data={"undo": undo_nonce(client, path)})
    assert states(person) == ["given", "given"]


@pytest.mark.req("C10")
def test_an_expired_link_does_not_revive_what_ended_since(client, sign_up, signup_and_confirm):
    old = sign_up("anna@beispiel.de", form="demo-en", at=utc_now() - timedelta(days=8))
    with transaction() as session:
        retention.expire(session, now=utc_now())
    person = signup_and_confirm("anna@beispiel.de", at=utc_now() - timedelta(hours=3))
    client.post(person.unsubscribe_path, data=ONE_CLICK)
    press(client, old.confirm_path, resend="1")
    with reading() as session:
        assert session.scalars(select(Confirmation.id).where(Confirmation.state == ConfirmationState.OPEN)).all() == []
    assert log.subscription(person.contact_id).status is Status.ENDED


def test_a_purpose_held_back_by_the_cap_comes_with_the_next_mail(client, sign_up):
    now = utc_now()
    person = sign_up("anna@beispiel.de", at=now - timedelta(minutes=15))
    ask("anna@beispiel.de", chosen=("invitations",), now=now - timedelta(minutes=9))
    with transaction() as session:
        session.execute(update(Confirmation).values(expires_at=now - timedelta(minutes=1)))
    press(client, person.confirm_path, resend="1")
    text = queued_mail("anna@beispiel.de").get_body(("plain",)).get_content()
    assert "Einladungen" in text
    assert "Produktneuheiten" in text
    fresh = mailed_url(queued_mail("anna@beispiel.de"), "confirm").removeprefix("http://127.0.0.1:8000")
    press(client, fresh)
    assert states(person) == ["given", "given"]


def test_a_purpose_that_never_came_into_a_question_does_not_wait_for_ever(client, sign_up):
    now = utc_now()
    person = sign_up("anna@beispiel.de", at=now)
    ask("anna@beispiel.de", chosen=("invitations",), now=now + timedelta(minutes=1))
    press(client, person.confirm_path)
    assert states(person) == ["given", "requested"]
    retention.run_now(lambda: now + timedelta(days=8))
    assert states(person) == ["expired", "given"]


def test_the_page_shows_all_that_a_press_gives(client, sign_up, demo):
    from tests.forms.test_public import republish

    sign_up("anna@beispiel.de", chosen=("invitations",), at=utc_now() - timedelta(minutes=11))
    republish(demo, ("product-news",))
    person = sign_up("anna@beispiel.de", chosen=("product-news",))
    page = client.get(person.confirm_path).text
    press(client, person.confirm_path)
    assert ("Einladungen" in page) is (states(person) == ["given", "given"])


@pytest.mark.parametrize("reason", [EndReason.COMPLAINED, EndReason.OBJECTED, EndReason.BOUNCED])
def test_a_complaint_counts_for_somebody_who_never_confirmed(demo, sign_up, reason):
    now = utc_now()
    person = sign_up("anna@beispiel.de", at=now)
    assert end(demo, person, reason, now)
    assert covering(demo, "anna@beispiel.de", now).value == reason.value
    assert log.subscription(person.contact_id).status is Status.REFUSED
    assert queued_mail("anna@beispiel.de") is None
    assert not end(demo, person, reason, now)


@pytest.mark.req("C13")
def test_a_bounce_is_told_as_a_bounce_and_not_as_a_withdrawal(demo, signup_and_confirm):
    person = signup_and_confirm("anna@beispiel.de")
    end(demo, person, EndReason.BOUNCED, utc_now())
    assert log.published(person.contact_id)[-1] == "subscription.bounced"
    assert "consent.withdrawn" not in log.published(person.contact_id)
    assert states(person) == ["expired"]


def test_a_question_about_what_is_given_already_asks_no_more(client, sign_up):
    now = utc_now()
    first = sign_up("anna@beispiel.de", form="demo-en", at=now - timedelta(hours=2))
    second = sign_up("anna@beispiel.de", form="demo-de", at=now - timedelta(hours=1))
    press(client, second.confirm_path)
    version = log.subscription(second.contact_id).version
    press(client, first.confirm_path)
    assert log.subscription(second.contact_id).version == version
    assert client.get(first.confirm_path).status_code == 200


def test_a_fresh_start_forgets_the_flag_of_a_not_me(client, sign_up, signup_and_confirm):
    person = signup_and_confirm("anna@beispiel.de", at=utc_now() - timedelta(days=100))
    with transaction() as session:
        ending = endings.Ending(EndReason.WITHDRAWN, "not-me", flagged=True)
        order = endings.load(session, person.subscription_id)
        endings.end(session, order, ending, client=CLIENT, now=utc_now() - timedelta(days=99))
    again = sign_up("anna@beispiel.de")
    press(client, again.confirm_path)
    assert log.subscription(person.contact_id).flagged is False


def test_an_expired_question_is_replaced_even_within_the_cap(client, sign_up):
    now = utc_now()
    sign_up("anna@beispiel.de", at=now - timedelta(minutes=5))
    with transaction() as session:
        session.execute(update(Confirmation).values(expires_at=now - timedelta(seconds=1)))
    ask("anna@beispiel.de", now=now)
    with reading() as session:
        rows = session.scalars(select(Confirmation.state).order_by(Confirmation.id)).all()
    assert rows == [ConfirmationState.REPLACED, ConfirmationState.OPEN]


def test_what_is_said_after_asking_for_a_new_link_is_the_same_for_a_blocked_address(client, demo, sign_up):
    now = utc_now()
    people = [sign_up(f"{name}@beispiel.de", at=now - timedelta(days=7, hours=1)) for name in ("anna", "berta")]
    with transaction() as session:
        key = contacts.address_key(session, demo.controller.id, EmailAddress.parse("berta@beispiel.de"))
        suppression.remember(session, demo.controller.id, key, Reason.DPO, now=now)
    pages = []
    for person in people:
        answer = press(client, person.confirm_path, resend="1")
        page = client.get(answer.location)
        pages.append((answer.status_code, page.status_code, page.text.split("<h1>")[1].split("</h1>")[0]))
    assert pages[0] == pages[1]
    assert queued_mail("berta@beispiel.de").get_body(("plain",)).get_content().count("/confirm/") == 1


def test_a_wildcard_lets_no_words_into_mail_or_headers(client):
    with transaction() as session:
        session.execute(update(Form).where(Form.slug == "demo-de").values(allowed_origins=["https://*.example.org"]))
    data = {"email": "anna@beispiel.de", "purpose": "product-news"}
    for origin in (
        "https://evil.example/win now .example.org",
        "https://evil.example?x=.example.org",
        "https://a b.example.org",
    ):
        answer = client.post("/f/demo-de", data=data, headers={"Origin": origin})
        assert answer.status_code == 422
        assert "Access-Control-Allow-Origin" not in answer.headers
    assert client.post("/f/demo-de", data=data, headers={"Origin": "https://a.b.example.org"}).status_code == 303


@pytest.mark.parametrize("backend", [pytest.param("postgres", marks=pytest.mark.postgres)], indirect=True)
def test_a_sign_up_in_the_moment_of_erasure_is_kept(app, sign_up, monkeypatch):
    now = utc_now()
    person = sign_up("anna@beispiel.de", at=now - timedelta(days=9))
    with transaction() as session:
        retention.expire(session, now=now)
    lock = contacts.lock

    def slow_lock(session, ids):
        # Between the search and the lock the person signs up again, in another connection.
        other = database().sessions(bind=database().engine)
        with other:
            other.execute(
                update(Subscription)
                .where(Subscription.contact_id == person.contact_id)
                .values(status=Status.REQUESTED, ended_at=None)
            )
            other.commit()
        return lock(session, ids)

    monkeypatch.setattr(contacts, "lock", slow_lock)
    with transaction() as session:
        assert retention.erase_unconfirmed(session, now=now) == 0
    assert log.subscription(person.contact_id).status is Status.REQUESTED


@pytest.mark.parametrize("backend", [pytest.param("postgres", marks=pytest.mark.postgres)], indirect=True)
def test_expiry_leaves_alone_whom_somebody_is_confirming(app, sign_up):
    now = utc_now()
    person = sign_up("anna@beispiel.de", at=now - timedelta(days=8))
    with database().sessions(bind=database().engine) as other:
        from signup.contacts.models import Contact

        other.execute(select(Contact.id).where(Contact.id == person.contact_id).with_for_update())
        with transaction() as session:
            assert retention.expire(session, now=now) == 0
    with reading() as session:
        assert session.scalars(select(Consent.state)).one() is ConsentState.REQUESTED


def test_the_same_complaint_again_says_nothing_new(demo, signup_and_confirm):
    now = utc_now()
    person = signup_and_confirm("anna@beispiel.de", at=now)
    assert end(demo, person, EndReason.COMPLAINED, now)
    assert end(demo, person, EndReason.OBJECTED, now)
    before = log.events_in_all()
    for _ in range(3):
        assert not end(demo, person, EndReason.OBJECTED, now)
        assert not end(demo, person, EndReason.COMPLAINED, now)
    assert log.events_in_all() == before
    assert log.published(person.contact_id).count("contact.objected") == 1


def test_an_objection_after_the_end_cannot_be_undone_on_the_page(client, demo, signup_and_confirm):
    person = signup_and_confirm("anna@beispiel.de")
    press(client, person.unsubscribe_path)
    undo = undo_nonce(client, person.unsubscribe_path)
    assert end(demo, person, EndReason.OBJECTED, utc_now())
    assert 'name="undo"' not in client.get(person.unsubscribe_path).text
    client.post(person.unsubscribe_path, data={"undo": undo})
    assert log.subscription(person.contact_id).status is Status.ENDED


def test_a_purpose_held_back_by_the_cap_comes_with_the_next_request(client, sign_up):
    now = utc_now()
    sign_up("anna@beispiel.de", at=now - timedelta(minutes=40))
    ask("anna@beispiel.de", chosen=("invitations",), now=now - timedelta(minutes=35))
    person = sign_up("anna@beispiel.de", at=now - timedelta(minutes=10))
    press(client, person.confirm_path)
    assert states(person) == ["given", "given"]


def test_undoing_often_leaves_nothing_behind_in_memory(client, signup_and_confirm):
    person = signup_and_confirm("anna@beispiel.de")
    signers = database().sessions.kw["keys"]._signers
    sizes = set()
    for _ in range(4):
        press(client, person.unsubscribe_path)
        client.post(person.unsubscribe_path, data={"undo": undo_nonce(client, person.unsubscribe_path)})
        sizes.add(len(signers))
    assert log.subscription(person.contact_id).status is Status.ACTIVE
    assert len(sizes) == 1


@pytest.mark.parametrize("backend", [pytest.param("postgres", marks=pytest.mark.postgres)], indirect=True)
def test_orphans_of_somebody_who_is_asking_again_are_left_alone(client, sign_up):
    from signup.contacts.models import Contact

    now = utc_now()
    person = sign_up("anna@beispiel.de", at=now - timedelta(days=9))
    with transaction() as session:
        session.execute(update(Confirmation).values(state=ConfirmationState.REPLACED))
    with database().sessions(bind=database().engine) as other:
        other.execute(select(Contact.id).where(Contact.id == person.contact_id).with_for_update())
        with transaction() as session:
            assert retention.close_orphans(session, now=now) == 0
    with transaction() as session:
        assert retention.close_orphans(session, now=now) == 1


def test_one_run_ends_all_that_is_over_even_for_people_with_two_questions(sign_up):
    start = utc_now() - timedelta(days=20)
    for number in range(retention.BATCH + 2):
        at = start + timedelta(hours=2 * number / 10)
        sign_up(f"anna{number}@beispiel.de", at=at)
        sign_up(f"anna{number}@beispiel.de", form="demo-en", at=at + timedelta(minutes=11))
    retention.run_now(utc_now)
    assert log.count(Subscription) == 0
