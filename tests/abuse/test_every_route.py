"""Every route that can cause a mail, found in the program itself and driven over its budget."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import select, update
from werkzeug.test import TestResponse

from signup import demo as demo_data
from signup.abuse.models import Budget
from signup.core.db import database, reading, transaction
from signup.core.values import utc_now
from signup.forms import actions as forms
from signup.forms.definition import Welcome
from signup.mail.models import Message
from signup.purposes import actions as purposes
from signup.subscriptions.models import Submission
from tests.abuse import reaching
from tests.api.conftest import ORIGIN
from tests.conftest import SignedUp, elsewhere, queued_mail
from tests.guards.conftest import token_for
from tests.guards.house import write
from tests.support.pages import nonce

VICTIM = "opfer@kunde.example"
HOST = "http://127.0.0.1:8000"
QUEUE = ("signup.mail.compose", "queue")
FORM = "mit-gruss"
Act = Callable[[], TestResponse]


@dataclass
class World:
    """Somebody who did not ask for anything, and those who type their address."""

    client: FlaskClient
    key: str
    sign_up: Callable[..., SignedUp]
    confirmed: Callable[..., SignedUp]
    networks: Iterator[int]

    def post(self, path: str, **fields: Any) -> TestResponse:
        """From a network that has posted nothing yet."""
        ip = elsewhere(next(self.networks)).ip
        return self.client.post(path, data=fields, headers={"X-Forwarded-For": ip})

    def api(self, method: str, path: str, body: Any) -> TestResponse:
        headers = {"Authorization": f"Bearer {self.key}"}
        return self.client.open(f"/api/v1{path}", method=method, json=body, headers=headers)

    def press(self, **more: Any) -> TestResponse:
        return self.post(f"/f/{FORM}", email=VICTIM, purpose="product-news", **more)


@pytest.fixture
def world(
    app: Flask,
    client: FlaskClient,
    demo: Any,
    sign_up: Callable[..., SignedUp],
    signup_and_confirm: Callable[..., SignedUp],
) -> World:
    new = replace(demo_data.FORMS[0], slug=FORM, welcome=Welcome("Hallo", "Schön, dass Sie da sind."))
    with transaction() as session:
        demo_data.publish_form(session, demo.controller, new, now=utc_now())
    return World(client, demo.api_key, sign_up, signup_and_confirm, itertools.count())


def by_form(world: World) -> Act:
    return world.press


def by_pending_page(world: World) -> Act:
    path = str(world.press().location)
    later(minutes=11)

    def act() -> TestResponse:
        opened = utc_now() - timedelta(seconds=5)
        made = database().keys.page_nonce("pending", path.rpartition("/")[2].encode(), opened)
        return world.post(path, nonce=made, resend="1")

    return act


def by_old_link(world: World) -> Act:
    """The link of a mail that a newer one has replaced offers to send that one again."""
    old = world.sign_up(VICTIM, FORM).confirm_path
    later(minutes=11)
    world.sign_up(VICTIM, FORM)
    later(minutes=11)
    return lambda: world.post(old, nonce=nonce(old), resend="1")


def by_confirming(world: World) -> Act:
    path = world.sign_up(VICTIM, FORM).confirm_path
    return lambda: world.post(path, nonce=nonce(path))


def by_code(world: World) -> Act:
    person = world.sign_up(VICTIM, FORM)
    path = "/code/" + token_for("code", person.confirm_url)
    code = _code(queued_mail(VICTIM))
    return lambda: world.post(path, nonce=nonce(path), code=code)


def _code(mail: Any) -> str:
    text = mail.get_body(("plain",)).get_content()
    return next(line.strip().replace(" ", "") for line in text.splitlines() if line.strip().replace(" ", "").isdigit())


def preferences_of(world: World) -> str:
    person = world.confirmed(VICTIM, FORM, at=utc_now() - timedelta(hours=2))
    return "/preferences/" + token_for("preferences", person.unsubscribe_url)


def by_asking_again(world: World) -> Act:
    """The page of preferences sends the question about an added topic once more."""
    path = preferences_of(world)
    world.post(path, nonce=nonce(path), topic=["product-news", "invitations"], frequency="all", pause="")
    later(minutes=11)
    return lambda: world.post(path, nonce=nonce(path), resend="1")


def by_preferences(world: World) -> Act:
    path = preferences_of(world)
    fields = {"topic": ["product-news", "invitations"], "frequency": "all", "pause": ""}
    return lambda: world.post(path, nonce=nonce(path), **fields)


def by_program(world: World) -> Act:
    body = {"email": VICTIM, "origin": ORIGIN, "legal_basis": "gdpr-6-1-a", "form": FORM}
    return lambda: world.api("POST", "/subscriptions", body)


def by_new_address(world: World) -> Act:
    person = world.confirmed("anna@kunde.example", at=utc_now() - timedelta(hours=2))
    return lambda: world.api("PATCH", f"/contacts/{person.contact_id}", {"email": VICTIM})


def by_test_mail(world: World) -> Act:
    return lambda: world.api("POST", f"/forms/{FORM}/mail-test", {})


@dataclass(frozen=True)
class Way:
    """One way in which a route causes a mail.

    Args:
        start: prepares it; what it returns sends the request that causes the mail.
        kind: of the mail.
        first: how the route answers when it sends one.
        over: how it answers when it does not, because the budget is spent.
        at_once: how many mails it may cause in one minute.
        a_day: and in a day.
        closed: how it answers when the form is closed; None when the form plays no part.
    """

    endpoint: str
    start: Callable[[World], Act]
    kind: str
    first: int = 303
    over: int = 303
    at_once: int = 1
    a_day: int = 3
    closed: int | None = None


WAYS = (
    Way("forms.submit", by_form, "confirm", closed=410),
    # The mail of the sign-up counts too.
    Way("inbox.answer_pending", by_pending_page, "confirm", a_day=2, closed=303),
    Way("subscriptions.confirm", by_old_link, "confirm", a_day=1, closed=303),
    # One confirmation, one mail: it is the answer to a click in the mailbox itself.
    Way("subscriptions.confirm", by_confirming, "welcome", a_day=1),
    Way("inbox.enter_code", by_code, "welcome", first=200, over=200, a_day=1),
    # What was asked for is not offered again.
    Way("preferences.change", by_preferences, "confirm", a_day=1, closed=303),
    Way("preferences.change", by_asking_again, "confirm", a_day=1, closed=303),
    Way("subscriptions_api.create_subscription", by_program, "confirm", first=202, over=202, closed=422),
    Way("contacts_api.change_contact", by_new_address, "address", first=202, over=429),
    # To the controller's own addresses only, whose staff may look at a closed form's mails.
    Way("mails_api.test_mail", by_test_mail, "confirm", first=202, over=429, at_once=10, a_day=240),
)
EVERY = pytest.mark.parametrize("way", WAYS, ids=[way.start.__name__ for way in WAYS])


def mails() -> Counter[str]:
    """How many mails of each kind were ever made that may leave."""
    with reading() as session:
        return Counter(session.scalars(select(Message.kind).where(Message.message_id.is_not(None))))


def later(**delta: float) -> None:
    """As if all that happened so far had happened earlier: budgets, and the pages of sign-ups."""
    back = timedelta(**delta)
    with transaction() as session:
        for row in session.scalars(select(Budget)).all():
            spent = [moment - int(back.total_seconds() * 1000) for moment in row.spent]
            session.execute(update(Budget).where(Budget.key == row.key).values(spent=spent))
        for press in session.scalars(select(Submission)).all():
            earlier = {"created_at": press.created_at - back, "expires_at": press.expires_at - back}
            session.execute(update(Submission).where(Submission.handle == press.handle).values(**earlier))


@pytest.mark.req("A1")
def test_the_routes_that_can_cause_a_mail_are_these_when_the_program_is_read(app: Flask) -> None:
    edges = reaching.graph()
    places = {endpoint: reaching.place_of(view) for endpoint, view in app.view_functions.items()}
    unknown = {endpoint for endpoint, place in places.items() if place not in edges}
    assert unknown == {"static"}, "the views of all others were found"
    there = {rule.endpoint for rule in app.url_map.iter_rules()}
    can = reaching.reaching(QUEUE, edges)
    assert {endpoint for endpoint in there if places[endpoint] in can} == {way.endpoint for way in WAYS}
    for rule in app.url_map.iter_rules():
        if places[rule.endpoint] in can:
            assert not {"GET", "HEAD"} & (rule.methods or set()), f"{rule.rule} mails when it is read"
    freed = reaching.reaching(("signup.subscriptions.quarantine", "release"), edges)
    assert {endpoint for endpoint in there if places[endpoint] in freed} == set(), "staff alone, by command"


def test_the_reading_speaks_when_a_view_comes_to_queue_a_mail(tmp_path: Any) -> None:
    files = {
        "mail/compose.py": "def queue(): ...\n",
        "forms/asking.py": "from signup.mail import compose as letters\ndef ask():\n    return letters.queue\n",
        "forms/public.py": "from signup.forms.asking import ask\nTABLE = {1: ask}\ndef view():\n    TABLE[1]()\n"
        "def other():\n    pass\n",
    }
    found = reaching.reaching(QUEUE, reaching.graph(write(tmp_path, files)))
    assert ("signup.forms.public", "view") in found
    assert ("signup.forms.public", "other") not in found


@EVERY
@pytest.mark.req("A1")
def test_the_caps_hold_and_the_answer_is_the_same_when_a_route_is_driven_over_its_budget(
    world: World, way: Way
) -> None:
    act = way.start(world)
    before = mails()[way.kind]
    for number in range(way.at_once):
        answer = act()
        assert answer.status_code == way.first, answer.text
        assert mails()[way.kind] == before + number + 1, "the way does cause a mail"
    over = [act() for _ in range(4)]
    assert [answer.status_code for answer in over] == [way.over] * 4
    assert mails()[way.kind] == before + way.at_once
    if way.over == 429:
        assert all(int(answer.headers["Retry-After"]) > 0 for answer in over)
    for _ in range(6):
        later(minutes=11)
        assert act().status_code in (way.first, way.over)
    assert mails()[way.kind] <= before + way.a_day


@pytest.mark.parametrize(
    "way", [way for way in WAYS if way.closed], ids=[way.start.__name__ for way in WAYS if way.closed]
)
@pytest.mark.req("A1")
def test_nothing_is_sent_when_the_form_is_closed(world: World, way: Way) -> None:
    act = way.start(world)
    before = mails()
    with transaction() as session:
        forms.set_closed(session, purposes.find_controller(session, "beispiel").id, FORM, True)
    assert act().status_code == way.closed
    assert mails() == before
    later(minutes=11)
    with transaction() as session:
        forms.set_closed(session, purposes.find_controller(session, "beispiel").id, FORM, False)
    act()
    assert mails()[way.kind] == before[way.kind] + 1, "only that it was closed stood in its way"


@pytest.mark.req("A1")
def test_a_crowd_of_addresses_gets_nothing_when_one_network_types_them(world: World) -> None:
    same = {"X-Forwarded-For": "203.0.113.80"}
    data = {"purpose": "product-news"}
    answers = [
        world.client.post(f"/f/{FORM}", data={**data, "email": f"a{number}@b{number}.example"}, headers=same)
        for number in range(12)
    ]
    assert [answer.status_code for answer in answers] == [303] * 5 + [429] * 7
    assert mails()["confirm"] == 5
