"""A form's mails for the controller's own staff: to look at, and to see in a mailbox."""

from __future__ import annotations

from datetime import datetime, timedelta

from signup.abuse import limits
from signup.core.db import Session
from signup.core.errors import Invalid, TooMany
from signup.core.values import EmailAddress
from signup.forms import actions as forms
from signup.forms.rules import FormView
from signup.mail import compose, preview
from signup.mail.preview import Sample

# A person who tries wordings sends a few; the caps of the public do not count these.
TESTS = (limits.Limit(10, limits.HOUR),)
# Whoever tests waits for it.
TEST_HOURS = 1


def sample(session: Session, view: FormView) -> Sample:
    """What the mails of this version are rendered from."""
    return forms.sample_of(session, view.controller, view.slug, view.locale, view.definition)


def own_addresses(view: FormView) -> tuple[str, ...]:
    """The addresses that the operator named as the controller's own."""
    return tuple(dict.fromkeys((view.controller.reply_to, view.controller.sender)))


def send_test(
    session: Session, view: FormView, kind: str, address: EmailAddress, *, anybody: bool = False, now: datetime
) -> str:
    """One of the form's mails is queued to staff, with links that lead nowhere.

    Args:
        anybody: the operator may write to any address; a program only to the controller's own.

    Returns:
        Its Message-ID.

    Raises:
        Invalid: the form has no such mail, or the address is not one of the controller's own.
        TooMany: enough tests for now.
    """
    known = {EmailAddress.parse(own).comparable for own in own_addresses(view)}
    if not anybody and address.comparable not in known:
        message = "Test mails go to the controller's own addresses only: " + ", ".join(own_addresses(view)) + "."
        raise Invalid(message, errors=[{"field": "email", "code": "not-own", "message": message}])
    shown = sample(session, view)
    wording = preview.wording(shown, kind)
    budget = session.keys.keyed_hash("budget:test", f"{view.controller.id}|{address.comparable}")
    spent = limits.lock(session, budget, now=now)
    wait = limits.remaining_seconds(spent, TESTS, now=now)
    if wait:
        raise TooMany("Enough test mails for now.", retry_after_seconds=wait)
    limits.save(session, budget, limits.spend(spent, TESTS, now=now))
    give_up_at = now + timedelta(hours=TEST_HOURS)
    draft = compose.Draft(None, address.normalised, wording, preview.values(shown, now=now), None, give_up_at)
    return compose.queue(session, draft, now=now)
