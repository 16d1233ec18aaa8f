"""What a bounce, a complaint and a mail that unsubscribes do to a subscription."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import func, select, update

from signup.contacts import actions as contacts
from signup.core.db import reading, transaction
from signup.core.signing import token_hash
from signup.core.values import EmailAddress, utc_now
from signup.eventlog.models import Publication
from signup.intake import actions
from signup.intake.kinds import Kind, Outcome
from signup.intake.models import InboundReport
from signup.mail.models import Message
from signup.privacy import retention
from signup.subscriptions import links
from signup.subscriptions.states import EndReason, Status
from signup.suppression import actions as suppression
from tests.bounces.conftest import BOUNCES, UNSUBSCRIBES, sent, subscription, timeline
from tests.bounces.samples import arf, dsn, mail
from tests.conftest import Clock, SignedUp, in_threads

ANNA = "anna@kunde.example"
Take = Callable[..., actions.Taken]
Person = Callable[..., SignedUp]


def blocked(demo: SimpleNamespace, email: str = ANNA) -> str | None:
    with reading() as session:
        key = contacts.address_key(session, demo.controller.id, EmailAddress.parse(email))
        found = suppression.covering(session, demo.controller.id, key, now=utc_now())
    return found.value if found else None


def published(person: SignedUp) -> list[tuple[str, Any]]:
    with reading() as session:
        key = contacts.open_key(session, person.contact_id)
        rows = session.execute(
            select(Publication.type, Publication.payload)
            .where(Publication.contact_id == person.contact_id)
            .order_by(Publication.id)
        )
        return [(kind, json.loads(session.keys.unseal(key, payload or b""))["data"]) for kind, payload in rows]


@pytest.mark.req("C13")
def test_a_request_ends_and_is_told_without_its_address_when_its_mail_bounces_hard(
    demo: SimpleNamespace, sign_up: Person, take: Take
) -> None:
    person = sign_up(ANNA)
    taken = take(dsn(sent(person).message_id))
    assert (taken.kind, taken.outcome) == (Kind.HARD, Outcome.ENDED)
    assert subscription(person).status is Status.REFUSED
    assert blocked(demo) == "bounced"
    kind, data = published(person)[-1]
    assert (kind, data["reason"], data["contact"]["email"]) == ("subscription.bounced", "bounced", None)
    told = {fact.kind: fact.fields for fact in timeline(demo, person)}
    assert told["mail.bounced"]["smtp_status"] == "5.1.1"
    assert "could not be delivered" in told["mail.bounced"]["report"]
    assert told["mail.bounced"]["recipient"] == "somebody@else.example"
    assert "subscription.bounced" in told
    # The visitor's next try gets the same page and no mail.
    before = sent(person).id
    sign_up(ANNA, at=utc_now() + timedelta(hours=1))
    assert (sent(person).id > before, sent(person).state.value) == (True, "held")


@pytest.mark.req("C13")
def test_an_active_subscription_ends_as_bounced_when_a_mail_bounces_hard(
    demo: SimpleNamespace, signup_and_confirm: Person, take: Take
) -> None:
    person = signup_and_confirm(ANNA)
    assert take(dsn(sent(person).message_id)).outcome is Outcome.ENDED
    assert subscription(person).end_reason is EndReason.BOUNCED
    kind, data = published(person)[-1]
    assert (kind, data["contact"]["email"]) == ("subscription.bounced", ANNA)
    assert "consent.withdrawn" not in [name for name, _ in published(person)]


def test_the_return_path_alone_says_whom_it_is_about_when_the_report_quotes_nothing(
    demo: SimpleNamespace, sign_up: Person, take: Take
) -> None:
    person = sign_up(ANNA)
    path = sent(person).envelope_from
    assert re.fullmatch(r"bounce\+[0-9a-z]{42}@beispiel\.example", path)
    raw = dsn("<nothing@of.ours>", to=path.upper())
    assert take(raw).outcome is Outcome.ENDED
    assert subscription(person).status is Status.REFUSED


def test_nobody_is_touched_when_a_report_only_claims_an_address_or_a_forged_token(
    demo: SimpleNamespace, sign_up: Person, take: Take
) -> None:
    person = sign_up(ANNA)
    path = sent(person).envelope_from
    token = path.partition("+")[2].partition("@")[0]
    for number, to in enumerate((BOUNCES, f"bounce+{token[:-1]}{'a' if token[-1] != 'a' else 'b'}@beispiel.example")):
        taken = take(dsn("<guess@of.ours>", to=to, recipient=ANNA, own_id=f"<{number}@mx.example>"))
        assert taken.outcome is Outcome.UNKNOWN
    assert subscription(person).status is Status.REQUESTED
    assert blocked(demo) is None
    with reading() as session:
        assert [item.kind for item in actions.waiting(session)] == [Kind.HARD, Kind.HARD]


@pytest.mark.req("C13")
def test_a_complaint_withdraws_and_blocks_when_it_comes_in(
    demo: SimpleNamespace, signup_and_confirm: Person, take: Take
) -> None:
    person = signup_and_confirm(ANNA)
    assert take(arf(sent(person).message_id)).outcome is Outcome.ENDED
    assert subscription(person).end_reason is EndReason.COMPLAINED
    assert blocked(demo) == "complained"
    told = published(person)[-2:]
    assert [(kind, data["reason"]) for kind, data in told] == [
        ("subscription.unsubscribed", "complained"),
        ("consent.withdrawn", "complained"),
    ]
    assert "mail.complained" in [fact.kind for fact in timeline(demo, person)]


def test_a_complaint_finds_its_mail_by_the_return_path_when_the_quoted_mail_is_cut(
    demo: SimpleNamespace, signup_and_confirm: Person, take: Take
) -> None:
    person = signup_and_confirm(ANNA)
    raw = arf("<gone@isp.example>", return_path=f"<{sent(person).envelope_from}>")
    assert take(raw).outcome is Outcome.ENDED


def test_nothing_ends_when_somebody_says_that_it_is_no_spam(signup_and_confirm: Person, take: Take) -> None:
    person = signup_and_confirm(ANNA)
    assert take(arf(sent(person).message_id, kind="not-spam")).outcome is Outcome.IGNORED
    assert subscription(person).status is Status.ACTIVE


def test_the_fifth_soft_bounce_within_thirty_days_ends_it_when_the_others_were_counted(
    demo: SimpleNamespace, signup_and_confirm: Person, take: Take
) -> None:
    now = utc_now()
    person = signup_and_confirm(ANNA)
    message_id = sent(person).message_id
    # The first is too old to count with the others.
    for number, days in enumerate((31, 20, 10, 5, 1)):
        raw = dsn(message_id, status="4.4.7", own_id=f"<soft-{number}@mx.example>")
        assert take(raw, at=now - timedelta(days=days)).outcome is Outcome.COUNTED
        assert take(raw, at=now - timedelta(days=days)).repeated
    assert subscription(person).status is Status.ACTIVE
    assert take(dsn(message_id, status="5.2.2", own_id="<full@mx.example>"), at=now).outcome is Outcome.ENDED
    assert subscription(person).end_reason is EndReason.BOUNCED
    assert blocked(demo) == "bounced"


def test_nothing_is_counted_when_a_mail_is_only_delayed(
    demo: SimpleNamespace, signup_and_confirm: Person, take: Take
) -> None:
    person = signup_and_confirm(ANNA)
    message_id = sent(person).message_id
    for number in range(6):
        raw = dsn(message_id, action="delayed", status="4.4.1", own_id=f"<late-{number}@mx.example>")
        assert take(raw).outcome is Outcome.RECORDED
    assert subscription(person).status is Status.ACTIVE
    assert [fact.kind for fact in timeline(demo, person)].count("mail.delayed") == 6


def test_an_old_bounce_ends_nothing_when_the_person_confirmed_by_a_later_mail(
    demo: SimpleNamespace, sign_up: Person, signup_and_confirm: Person, take: Take
) -> None:
    now = utc_now()
    person = sign_up(ANNA, at=now - timedelta(hours=2))
    first = sent(person).message_id
    signup_and_confirm(ANNA, at=now)
    assert sent(person).message_id != first
    assert take(dsn(first)).outcome is Outcome.RECORDED
    assert subscription(person).status is Status.ACTIVE


def test_only_the_fact_is_recorded_when_the_subscription_has_ended_already(
    demo: SimpleNamespace, signup_and_confirm: Person, take: Take
) -> None:
    person = signup_and_confirm(ANNA)
    message_id = sent(person).message_id
    take(dsn(message_id))
    count = len(published(person))
    assert take(dsn(message_id, own_id="<again@mx.example>")).outcome is Outcome.RECORDED
    assert len(published(person)) == count
    assert [fact.kind for fact in timeline(demo, person)].count("mail.bounced") == 2


def test_a_report_counts_once_when_it_comes_eight_times_at_once(
    app: Any, demo: SimpleNamespace, signup_and_confirm: Person, take: Take
) -> None:
    person = signup_and_confirm(ANNA)
    raw = dsn(sent(person).message_id)

    def one(number: int) -> bool:
        with app.app_context():
            # Each mail server on the way adds a line of its own.
            return take(f"Received: by host{number}\r\n".encode() + raw).repeated

    assert sorted(in_threads(8, one)) == [False] + [True] * 7
    assert [fact.kind for fact in timeline(demo, person)].count("mail.bounced") == 1
    with reading() as session:
        assert session.scalar(select(func.count()).select_from(InboundReport)) == 1


def test_nothing_of_the_report_leads_to_the_person_when_they_are_erased(
    demo: SimpleNamespace, sign_up: Person, take: Take, clock: Clock
) -> None:
    person = sign_up(ANNA)
    message_id = sent(person).message_id
    take(dsn(message_id, recipient=ANNA))
    retention.run_now(clock)
    with reading() as session:
        assert contacts.find(session, demo.controller.id, EmailAddress.parse(ANNA)) is None
        assert session.scalars(select(InboundReport.contact_id)).all() == [None]
    # What comes in later about the same mail still says that it came, and nothing else.
    assert take(arf(message_id)).outcome is Outcome.RECORDED
    clock.forward(days=31)
    assert retention.run_now(clock)["reports"] == 2


def test_another_controllers_mails_are_not_meant_when_a_report_is_for_one(
    demo: SimpleNamespace, signup_and_confirm: Person, take: Take
) -> None:
    person = signup_and_confirm(ANNA)
    raw = dsn(sent(person).message_id)
    assert take(raw, controller_id="ctl_other").outcome is Outcome.UNKNOWN
    assert subscription(person).status is Status.ACTIVE
    assert take(raw, controller_id=demo.controller.id).outcome is Outcome.ENDED


def mailto(person: SignedUp, topic: str | None = None) -> str:
    held = subscription(person)
    with reading() as session:
        value = links.list_unsubscribe(session, held.id, held.epoch, topic)
    found = re.fullmatch(r"<(http[^<>,]+)>, <mailto:([^?<>]+)\?subject=unsubscribe>", value)
    assert found, value
    return found[2]


@pytest.mark.req("U8")
@pytest.mark.req("U2")
def test_a_mail_to_the_offered_address_unsubscribes_when_it_comes_from_anybody(
    demo: SimpleNamespace, signup_and_confirm: Person, take: Take
) -> None:
    person = signup_and_confirm(ANNA)
    address = mailto(person)
    assert len(address.partition("@")[0]) <= 64
    before = _mails()
    taken = take(mail(address.upper()))
    assert (taken.kind, taken.outcome) == (Kind.UNSUBSCRIBE, Outcome.ENDED)
    held = subscription(person)
    assert (held.end_reason, held.ended_by) == (EndReason.UNSUBSCRIBED, "mailto")
    assert [kind for kind, _ in published(person)][-2:] == ["subscription.unsubscribed", "consent.withdrawn"]
    assert take(mail(address, own_id="<m2@mail.example>")).outcome is Outcome.RECORDED
    assert _mails() == before


@pytest.mark.req("U8")
def test_only_the_topic_ends_when_the_mail_goes_to_its_own_address(signup_and_confirm: Person, take: Take) -> None:
    person = signup_and_confirm(ANNA, purposes=("product-news", "invitations"))
    topic = next(data["topics"][0]["slug"] for kind, data in published(person) if kind == "subscription.confirmed")
    assert take(mail(mailto(person, topic))).outcome is Outcome.ENDED
    assert subscription(person).status is Status.ACTIVE
    assert [kind for kind, _ in published(person)][-2:] == ["subscription.updated", "consent.withdrawn"]


@pytest.mark.req("U8")
def test_a_token_in_the_subject_does_the_same_when_the_mailbox_knows_no_plus_sign(
    signup_and_confirm: Person, take: Take
) -> None:
    person = signup_and_confirm(ANNA)
    token = mailto(person).partition("+")[2].partition("@")[0]
    assert take(mail(UNSUBSCRIBES, subject=f"unsubscribe {token}")).outcome is Outcome.ENDED


@pytest.mark.req("U8")
@pytest.mark.parametrize(
    "headers",
    [
        {"Auto_Submitted": "auto-replied (vacation)"},
        {"Precedence": "bulk"},
        {"X_Autoreply": "yes"},
        {"Return_Path": "<>"},
    ],
)
def test_an_automatic_answer_unsubscribes_nobody_when_it_reaches_the_address(
    signup_and_confirm: Person, take: Take, headers: dict[str, str]
) -> None:
    person = signup_and_confirm(ANNA)
    assert take(mail(mailto(person), **headers)).outcome is Outcome.IGNORED
    assert subscription(person).status is Status.ACTIVE


@pytest.mark.req("U8")
def test_an_unknown_sender_changes_nothing_and_gets_no_reply_when_the_token_is_not_ours(
    signup_and_confirm: Person, take: Take
) -> None:
    person = signup_and_confirm(ANNA)
    before = _mails()
    for number, to in enumerate((UNSUBSCRIBES, "leave+aaaaaaaaaaaaaaaaaaaaaaaaaa@beispiel.example")):
        assert take(mail(to, own_id=f"<{number}@x.example>")).outcome is Outcome.UNKNOWN
    assert subscription(person).status is Status.ACTIVE
    assert _mails() == before


def test_a_link_that_was_revoked_unsubscribes_by_mail_no_more_when_the_epoch_rose(
    demo: SimpleNamespace, signup_and_confirm: Person, take: Take
) -> None:
    person = signup_and_confirm(ANNA)
    address = mailto(person)
    held = subscription(person)
    with transaction() as session:
        ident = links.unsubscribe_id(session, held.id, held.epoch + 1)
        values = {"epoch": held.epoch + 1, "link_hash": token_hash(ident)}
        session.execute(update(type(held)).values(**values))
    assert take(mail(address)).outcome is Outcome.UNKNOWN


def _mails() -> int:
    with reading() as session:
        return session.scalar(select(func.count()).select_from(Message)) or 0
