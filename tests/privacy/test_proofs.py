"""The proof of a consent that ended is kept for full calendar years, and no longer."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import select

from signup.consents import uses
from signup.consents.uses import Use
from signup.contacts.models import Contact
from signup.core.db import reading, transaction
from signup.core.values import OPERATOR
from signup.eventlog.models import Publication
from signup.privacy import holds, proofs, retention
from signup.subscriptions import endings
from signup.subscriptions.states import EndReason
from signup.suppression.models import Suppression
from tests.conftest import Clock
from tests.support import log


@pytest.fixture
def clock(now):
    return Clock(now)


@pytest.fixture
def gone(signup_and_confirm, clock):
    """Somebody who left on 1 December 2026."""

    def act(email: str = "anna@beispiel.de"):
        person = signup_and_confirm(email, at=clock())
        with transaction() as session:
            order = endings.load(session, person.subscription_id)
            ending = endings.Ending(EndReason.UNSUBSCRIBED, "page")
            endings.end(session, order, ending, client=None, actor=OPERATOR, now=datetime(2026, 12, 1, tzinfo=UTC))
        return person

    return act


def run(clock, *moment: int) -> int:
    clock.time = datetime(*moment, tzinfo=UTC)
    with reading() as session:
        due = proofs.count(session, now=clock())
    done = retention.run_now(clock)["ended"]
    assert done == due
    return done


def there() -> list[str]:
    with reading() as session:
        return list(session.scalars(select(Contact.email).order_by(Contact.email)))


@pytest.mark.req("E25")
def test_the_proof_goes_after_three_full_years_and_recipients_are_told(gone, signup_and_confirm, clock):
    stays = signup_and_confirm("bert@beispiel.de", at=clock())
    person = gone()
    assert run(clock, 2029, 12, 31, 23, 59) == 0
    assert len(log.facts(person.contact_id)) >= 3
    assert run(clock, 2030, 1, 1, 0, 1) == 1
    assert there() == [stays.email]
    with reading() as session:
        told = session.scalars(select(Publication.payload).where(Publication.type == "contact.erased")).one()
    assert person.contact_id.encode() in told
    assert b"anna" not in told
    # Whoever left is not written to again, though nobody knows any more who it was.
    assert log.count(Suppression) == 1


def test_each_use_begins_the_years_anew_and_a_call_five(gone, demo, clock):
    mailed, called = gone(), gone("bert@beispiel.de")
    with transaction() as session:
        for person, channel in ((mailed, "email"), (called, "phone")):
            use = Use("spring", "team", channel, datetime(2027, 1, 2, tzinfo=UTC))
            moment = use.used_at + timedelta(hours=1)
            who = (demo.controller.id, person.contact_id)
            uses.note_contact(session, *who, use, actor=OPERATOR, now=moment)
    assert run(clock, 2030, 12, 31) == 0
    assert run(clock, 2031, 1, 1, 1) == 1
    assert there() == ["bert@beispiel.de"]
    assert run(clock, 2032, 1, 2) == 0
    assert run(clock, 2032, 1, 10) == 1


def test_the_proof_of_a_held_person_stays(gone, demo, clock):
    person = gone()
    with transaction() as session:
        ident = holds.place(session, demo.controller.id, person.contact_id, "case", actor=OPERATOR, now=clock())
    assert run(clock, 2040, 1, 1) == 0
    with transaction() as session:
        holds.release(session, demo.controller.id, ident, "over", actor=OPERATOR, now=clock())
    assert run(clock, 2040, 1, 2) == 1


def test_who_came_back_stays(gone, signup_and_confirm, clock):
    gone()
    clock.forward(days=30)
    signup_and_confirm("anna@beispiel.de", at=clock())
    assert run(clock, 2045, 1, 1) == 0
    assert there() == ["anna@beispiel.de"]


def test_the_run_says_by_which_rules_it_went(gone, clock):
    gone()
    run(clock, 2030, 1, 2)
    from tests.guards.world import rows

    told = b"".join(row.data for row in rows("disclosure"))
    assert b'"policy",{"ip_days":90,"proof_years":3,"token_days":7}' in told


class TestWithoutEnd:
    @pytest.fixture
    def settings(self):
        return {"SIGNUP_PROOF_YEARS": "0"}

    def test_the_proof_stays_when_the_setting_says_so(self, gone, clock):
        gone()
        assert run(clock, 2090, 1, 1) == 0
