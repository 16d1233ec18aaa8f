"""Any order of steps: what the service holds and tells is what the contract says."""

from __future__ import annotations

import itertools
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask import Flask
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from sqlalchemy import func, select

from signup.consents.models import Consent
from signup.contacts import actions as contacts
from signup.contacts.models import Contact
from signup.core.db import Base, Session, database, reading, transaction
from signup.core.errors import Conflict
from signup.core.values import MAIL_CLIENT, PERSON, Actor, ClientInfo, EmailAddress
from signup.eventlog import history
from signup.eventlog.kinds import EventType
from signup.eventlog.models import Event, Publication
from signup.eventlog.record import Subject
from signup.forms import actions as forms
from signup.mail.models import Message, MessageState
from signup.privacy import retention
from signup.purposes import actions as purposes
from signup.purposes.actions import LEGAL_BASES
from signup.purposes.models import Purpose
from signup.subscriptions import answers, endings, entries, links, pending, requests, resending
from signup.subscriptions.models import Confirmation, Subscription
from signup.subscriptions.states import ConfirmationState, EndReason
from signup.suppression.models import Suppression
from tests.conftest import mailed_url, queued_mail
from tests.fuzz import life
from tests.fuzz.conftest import tried
from tests.fuzz.life import Person, Press, Question

pytestmark = pytest.mark.slow

# The developer's own machine: no budget of a network comes between.
CLIENT = ClientInfo("127.0.0.1", "connection", "Mozilla/5.0 (test)")
PROGRAM = entries.Caller(Actor("api-key", "key_test"), CLIENT)
ORIGIN = {"type": "shop", "detail": "order 7", "collected_by": None}
# Reading may write these and nothing else.
OPENINGS = {"event", "disclosure", "link_hits"}
MOMENTS = [
    timedelta(minutes=5),
    timedelta(minutes=11),
    timedelta(minutes=31),
    timedelta(hours=13),
    timedelta(hours=25),
    timedelta(days=6),
    timedelta(days=8),
    timedelta(days=31),
    timedelta(days=91),
]

people = st.integers(0, 1)
wanted = st.sets(st.sampled_from(life.PURPOSES), min_size=1)
picks = st.integers(0, 5)
_numbers = itertools.count()
# Every run goes on where the one before ended, so that one database serves them all.
_clock = [datetime(2027, 1, 4, 9, 0, tzinfo=UTC)]


def rows() -> dict[str, list[tuple[Any, ...]]]:
    """Every row that reading must leave alone."""
    with reading() as session:
        return {
            table.name: [tuple(row) for row in session.execute(select(table).order_by(*table.primary_key))]
            for table in Base.metadata.sorted_tables
            if table.name not in OPENINGS
        }


class Life(RuleBasedStateMachine):
    """Two people, two forms, two purposes; each step happens in the service and in the model, which then agree."""

    app: Flask

    def __init__(self) -> None:
        super().__init__()
        number = next(_numbers)
        self.people = [Person(f"{name}{number}@example.org") for name in ("anna", "ben")]
        self.seen: set[str] = set()  # mails that were counted
        self.versions: dict[str, tuple[int, Any]] = {}
        self.last = self.people[0]
        with reading() as session:
            self.controller = purposes.find_controller(session, "beispiel").id
            self.slugs = {row.id: row.slug for row in session.execute(select(Purpose.id, Purpose.slug))}

    @initialize()
    def later(self) -> None:
        # No two people share a budget, so only the order of ids matters.
        self.tick(timedelta(days=1))

    def tick(self, by: timedelta = timedelta(seconds=2)) -> datetime:
        _clock[0] += by
        return _clock[0]

    def who(self, number: int) -> Person:
        self.last = self.people[number]
        return self.last

    # --- what people and programs do -------------------------------------------------------------------------

    @rule(number=people, form=st.sampled_from(life.FORMS), chosen=wanted)
    def sign_up(self, number: int, form: str, chosen: set[str]) -> None:
        person, now = self.who(number), self.tick()
        with reading() as session:
            view = forms.in_force(session, form)
        email = EmailAddress.parse(person.email)
        ask = requests.SignupRequest(email, tuple(sorted(chosen)), None, view.version, CLIENT, None, None)
        with transaction() as session:
            handle = requests.request(session, view, ask, now=now)
        self.expect_mail(person, person.request(form, chosen, now), now)
        person.presses.append(Press(handle, form, now, now))

    @rule(number=people, form=st.sampled_from(life.FORMS), chosen=wanted)
    def enter_with_consent(self, number: int, form: str, chosen: set[str]) -> None:
        person, now = self.who(number), self.tick()
        blocked = bool(person.blocked_by(now))
        refused = self.entered(person, "gdpr-6-1-a", form, chosen, now)
        assert refused == blocked
        if not refused:
            self.expect_mail(person, person.request(form, chosen, now), now)

    @rule(number=people, basis=st.sampled_from(sorted(life.GROUND_OF_BASIS)), chosen=wanted)
    def enter_a_customer(self, number: int, basis: str, chosen: set[str]) -> None:
        person, now = self.who(number), self.tick()
        refused = self.entered(person, basis, None, chosen, now)
        assert refused != person.enter(basis, chosen, now)

    def entered(self, person: Person, basis: str, form: str | None, chosen: set[str], now: datetime) -> bool:
        email = EmailAddress.parse(person.email)
        entry = entries.Entry(email, form, tuple(sorted(chosen)), None, ORIGIN, LEGAL_BASES[basis])
        try:
            with transaction() as session:
                entries.enter(session, self.controller, entry, PROGRAM, now=now)
        except Conflict:
            return True
        return False

    def linked(self, number: int, pick: int) -> tuple[Person, Question, bytes] | None:
        """One of the person's links, the newest most easily."""
        person = self.who(number)
        found = [item for item in reversed(person.questions) if item.link]
        if not found:
            return None
        question = found[min(pick, len(found) - 1)]
        assert question.link is not None
        return person, question, question.link

    @rule(number=people, pick=picks)
    def confirm(self, number: int, pick: int) -> None:
        chosen, now = self.linked(number, pick), self.tick()
        if chosen:
            person, question, ident = chosen
            with transaction() as session:
                answers.confirm(session, ident, client=CLIENT, page_seconds=0, now=now)
            told, asked = len(person.published), question.purposes & person.in_state("requested")
            person.confirm(question, now)
            if len(person.published) > told:
                self.check_act(person, asked)

    @rule(number=people, pick=picks)
    def not_me(self, number: int, pick: int) -> None:
        chosen, now = self.linked(number, pick), self.tick()
        if chosen:
            person, question, ident = chosen
            with transaction() as session:
                answers.refuse(session, ident, client=CLIENT, page_seconds=0, now=now)
            person.not_me(question, now)

    @rule(number=people, pick=picks)
    def send_again(self, number: int, pick: int) -> None:
        chosen, now = self.linked(number, pick), self.tick()
        if chosen:
            person, question, ident = chosen
            offered = person.stands_for(question, now) in ("expired", "replaced")
            expected = offered and person.resend(question.form, now)
            with transaction() as session:
                resending.resend(session, ident, client=CLIENT, now=now)
            self.expect_mail(person, "asked" if expected else "held", now)

    @rule(number=people, pick=picks)
    def send_again_from_the_waiting_page(self, number: int, pick: int) -> None:
        person, now = self.who(number), self.tick()
        if not person.presses:
            return
        press = person.presses[max(0, len(person.presses) - 1 - pick)]
        waited = now >= press.counted_from + life.CAPS[0][1]
        asked = any(item.form == press.form for item in person.questions)
        expected = waited and asked and person.resend(press.form, now)
        with transaction() as session:
            found = pending.find(session, press.form, press.handle)
            assert found is not None
            pending.resend(session, found, client=CLIENT, now=now)
        if waited:
            press.counted_from = now
        self.expect_mail(person, "asked" if expected else "held", now)

    def subscription(self, session: Session, person: Person) -> str:
        contact = contacts.find(session, self.controller, EmailAddress.parse(person.email))
        ident = contact and session.scalar(select(Subscription.id).where(Subscription.contact_id == contact.id))
        return ident or ""

    def behind(self, session: Session, person: Person, slug: str | None) -> Any:
        """The order behind the person's own unsubscribe link, whole or of one topic, as the mailed URL leads to it."""
        ident = self.subscription(session, person)
        if not ident:
            return None
        token = links.unsubscribe_url(session, ident, 1, slug).rpartition("/")[2]
        return endings.behind_link(session, session.keys.open_token("unsubscribe", token) or b"")

    @rule(number=people, slug=st.none() | st.sampled_from(life.PURPOSES), by=st.sampled_from(["page", "one-click"]))
    def unsubscribe(self, number: int, slug: str | None, by: str) -> None:
        person, now = self.who(number), self.tick()
        actor = MAIL_CLIENT if by == "one-click" else PERSON
        with transaction() as session:
            found = self.behind(session, person, slug)
            assert (found is None) == (person.status is None or bool(slug and slug not in person.consents))
            if found is None:
                return
            ending = endings.Ending(EndReason.UNSUBSCRIBED, by)
            order, scope = found
            if scope is None:
                endings.end(session, order, ending, client=CLIENT, actor=actor, now=now)
            else:
                endings.end_topic(session, order, scope, ending, client=CLIENT, actor=actor, now=now)
        if slug:
            person.end_topic(slug, by, now)
        else:
            person.end("unsubscribed", by, now)

    @rule(number=people, slug=st.none() | st.sampled_from(life.PURPOSES))
    def undo(self, number: int, slug: str | None) -> None:
        person, now = self.who(number), self.tick()
        with transaction() as session:
            found = self.behind(session, person, slug)
            if found is None:
                return
            endings.undo(session, *found, client=CLIENT, now=now)
        person.undo(slug, now)

    @rule(number=people, reason=st.sampled_from(sorted(life.SUPPRESSED_AFTER)))
    def end_by_staff(self, number: int, reason: str) -> None:
        person, now = self.who(number), self.tick()
        if person.status is None:
            return
        with transaction() as session:
            ident = self.subscription(session, person)
            entries.end(session, self.controller, ident, EndReason(reason), PROGRAM, now=now)
        person.end(reason, "api", now)

    @rule(by=st.sampled_from(MOMENTS))
    def wait(self, by: timedelta) -> None:
        self.tick(by)

    @rule()
    def keep_no_longer_than_needed(self) -> None:
        now = self.tick()
        retention.run_now(lambda: now)
        for person in self.people:
            person.retain(now)

    @precondition(lambda self: any(person.questions for person in self.people))
    @rule(number=people, pick=picks, method=st.sampled_from(["GET", "HEAD", "OPTIONS"]))
    def read_every_page(self, number: int, pick: int, method: str) -> None:
        chosen = self.linked(number, pick)
        if not chosen:
            return
        person, question, ident = chosen
        before = rows()
        with reading() as session:
            paths = [links.confirm_url(session, ident), links.not_me_url(session, ident)]
            paths += [f"http://x/f/{press.form}/pending/{press.handle}" for press in person.presses[-1:]]
            paths += [links.unsubscribe_url(session, self.subscription(session, person), 1)]
        client = self.app.test_client()
        for url in paths:
            answer = client.open("/" + url.split("/", 3)[3], method=method)
            assert answer.status_code in (200, 410), (url, answer.status_code)
        assert rows() == before

    # --- what must be true -------------------------------------------------------------------------------------

    def expect_mail(self, person: Person, reply: str, now: datetime) -> None:
        """A mail went out exactly when the rules say so, and never above the caps."""
        with reading() as session:
            contact = contacts.find(session, self.controller, EmailAddress.parse(person.email))
            mails = session.execute(
                select(Message.id, Message.kind).where(
                    Message.contact_id == (contact.id if contact else ""), Message.state != MessageState.HELD
                )
            ).all()
        new = [row for row in mails if row.id not in self.seen]
        self.seen |= {row.id for row in mails}
        kinds = [row.kind for row in new]
        if reply == "known":
            told_today = any(moment > now - timedelta(days=1) for moment in person.mails)
            assert kinds in ([], ["already"])
            assert not (kinds and told_today)
        else:
            assert kinds == (["confirm"] if reply == "asked" else [])
        if kinds:
            assert person.may_mail(now)
            person.mails.append(now)
        if kinds == ["confirm"]:
            url = mailed_url(queued_mail(person.email), "confirm")
            person.questions[-1].link = database().sessions.kw["keys"].open_token("confirm", url.rpartition("/")[2])
            assert person.questions[-1].link

    @invariant()
    def the_service_holds_what_the_contract_says(self) -> None:
        for person in self.people:
            with reading() as session:
                assert self.held(session, person) == expected(person)

    @invariant()
    def some_things_are_never_so(self) -> None:
        with reading() as session:
            open_ = select(Confirmation.contact_id).where(
                Confirmation.state == ConfirmationState.OPEN, Confirmation.contact_id.is_not(None)
            )
            both = (Confirmation.contact_id, Confirmation.form_id)
            assert not session.execute(open_.group_by(*both).having(func.count() > 1)).all()
            one = Subscription.contact_id
            assert not session.execute(select(one).group_by(one).having(func.count() > 1)).all()
        for person in self.people:
            assert (person.status == "active") == bool(person.in_state("given"))

    def held(self, session: Session, person: Person) -> dict[str, Any]:
        contact = contacts.find(session, self.controller, EmailAddress.parse(person.email))
        key = contacts.address_key(session, self.controller, EmailAddress.parse(person.email))
        blocks = select(Suppression.reason, Suppression.expires_at).where(Suppression.address_key == key)
        found: dict[str, Any] = {"blocks": {row.reason.value: row.expires_at for row in session.execute(blocks)}}
        if contact is None:
            return {**found, "known": False}
        sub = session.scalars(select(Subscription).where(Subscription.contact_id == contact.id)).one_or_none()
        if sub is not None:
            self.check_version(sub)
        consents = session.scalars(select(Consent).where(Consent.contact_id == contact.id)).all()
        asked = session.scalars(
            select(Confirmation).where(Confirmation.contact_id == contact.id).order_by(Confirmation.created_at)
        ).all()
        told = (Event.contact_id == contact.id, Event.kind != EventType.LINK_OPENED)
        events = select(Event.kind).where(*told).order_by(Event.id)
        published = select(Publication.type).where(Publication.contact_id == contact.id).order_by(Publication.id)
        return {
            **found,
            "known": True,
            "basis": session.scalars(select(Contact.legal_basis).where(Contact.id == contact.id)).one(),
            "status": sub and sub.status.value,
            "ground": sub and sub.ground and sub.ground.value,
            "reason": sub and sub.end_reason and sub.end_reason.value,
            "flagged": bool(sub and sub.flagged),
            "consents": {self.slugs[item.purpose_id]: (item.state.value, locale_of(item.text)) for item in consents},
            "questions": [(item.state.value, sorted(self.slugs[it] for it in item.purpose_ids)) for item in asked],
            "events": [kind.value for kind in session.scalars(events)],
            "published": list(session.scalars(published)),
        }

    def check_act(self, person: Person, asked: set[str]) -> None:
        """What the outside hears of a confirmation is the act that the log has: just these purposes."""
        with reading() as session:
            contact = contacts.find(session, self.controller, EmailAddress.parse(person.email))
            assert contact is not None
            key = contacts.open_key(session, contact.id)
            fact = history.of_contact(session, self.controller, Subject(contact.id, key))[-1]
            of_contact = Publication.contact_id == contact.id
            newest = select(Publication.payload).where(of_contact).order_by(Publication.id.desc()).limit(1)
            told = json.loads(session.keys.unseal(key, session.scalars(newest).one()))["data"]
        assert told["consent"]["id"] == fact.fields["consent"]
        assert set(told["consent"]["purposes"]) == asked
        assert {topic["slug"] for topic in told["topics"]} == person.in_state("given")

    def check_version(self, sub: Subscription) -> None:
        """Whoever compares versions sees the order of changes."""
        now = (sub.status, sub.ground, sub.end_reason)
        version, before = self.versions.get(sub.id, (0, None))
        assert sub.version >= version
        assert sub.version > version or now == before
        self.versions[sub.id] = (sub.version, now)


def locale_of(text: str) -> str | None:
    return {"J": "de", "Y": "en"}[text[0]] if text else None


def expected(person: Person) -> dict[str, Any]:
    found: dict[str, Any] = {"blocks": person.blocks}
    if not person.known:
        return {**found, "known": False}
    return {
        **found,
        "known": True,
        "basis": person.basis,
        "status": person.status,
        "ground": person.ground,
        "reason": person.reason,
        "flagged": person.flagged,
        "consents": {slug: (held.state, held.locale) for slug, held in person.consents.items()},
        "questions": [(item.state, sorted(item.purposes)) for item in person.questions],
        "events": person.events,
        "published": person.published,
    }


def live(app: Flask, examples: int) -> None:
    class Here(Life):
        pass

    Here.app = app
    run_state_machine_as_test(Here, settings=tried(examples, stateful_step_count=30))


def test_every_step_keeps_the_contract_when_they_come_in_any_order(shared_app: Flask) -> None:
    live(shared_app, 25)


@pytest.fixture
def backend() -> str:
    """Only the test that asks for `app` uses it."""
    return "postgres"


@pytest.mark.postgres
def test_every_step_keeps_the_contract_when_the_database_is_postgresql(app: Flask) -> None:
    live(app, 6)
