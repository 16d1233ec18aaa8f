"""An attack, replayed: a list bomber with many networks, honest people in between, and a hall behind one address."""

from __future__ import annotations

import base64
import itertools
import json
import random
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace

import altcha
from flask import Flask
from sqlalchemy import select

from bench import servers
from bench.measuring import Figure, Settings, Target, at_least, at_most
from signup.abuse import sources
from signup.app import create_app
from signup.contacts.models import Contact
from signup.core.config import Config
from signup.core.db import database, reading
from signup.forms import actions as forms
from signup.mail.models import Message

NETWORKS, VICTIMS, HALL = 500, 50, 300
ATTACKED, QUIET = "demo-de", "demo-en"
# So many of the honest ones use the form under attack, and solve what it asks.
ATTACKED_EVERY = 5
GAP_SECONDS, A_DAY = 600, 3


@dataclass(frozen=True)
class Plan:
    """How many of each sign up."""

    posts: int = 10_000
    hall: int = HALL
    honest: int = 200


@dataclass(frozen=True)
class Press:
    who: str
    email: str
    ip: str
    form: str
    source: str | None = None


def presses(plan: Plan, source: str) -> list[Press]:
    """All of them, in the same order each time."""
    chance = random.Random(7)
    every = [
        Press("attacker", f"victim{chance.randrange(VICTIMS)}@opfer.example", _ip(45, number % NETWORKS), ATTACKED)
        for number in range(plan.posts)
    ]
    every += [
        Press("hall", f"guest{number}@guest{number}.example", "198.51.100.7", ATTACKED, source)
        for number in range(plan.hall)
    ]
    for number in range(plan.honest):
        form = QUIET if number % ATTACKED_EVERY else ATTACKED
        every.append(Press("honest", f"honest{number}@honest{number}.example", _ip(91, number), form))
    chance.shuffle(every)
    return every


def _ip(first: int, number: int) -> str:
    return f"{first}.{number // 256}.{number % 256}.7"


class Street:
    """Those who press, against one application."""

    def __init__(self, app: Flask) -> None:
        self.client = app.test_client()
        self.served: Counter[str] = Counter()
        self.asked: Counter[str] = Counter()

    def press(self, one: Press) -> None:
        data = {"email": one.email, "purpose": "product-news", **({"src": one.source} if one.source else {})}
        status = self._post(one, data)
        # A browser solves the puzzle by itself; the bomber has no time for that.
        if status in (422, 429) and one.who != "attacker":
            status = self._post(one, {**data, "altcha": self._proof(one)})
        self.served[one.who] += status == 303
        self.asked[one.who] += 1

    def _post(self, one: Press, data: dict[str, str]) -> int:
        return self.client.post(f"/f/{one.form}", data=data, headers={"X-Forwarded-For": one.ip}).status_code

    def _proof(self, one: Press) -> str:
        challenge = self.client.get(f"/f/{one.form}/challenge").json
        answer = altcha.solve_challenge(altcha.Challenge.from_dict(challenge))
        content = {"challenge": challenge, "solution": answer.to_dict()} if answer else {}
        return base64.b64encode(json.dumps(content).encode()).decode()

    def share(self, who: str) -> float:
        return self.served[who] / self.asked[who] if self.asked[who] else 1.0


def mails_to_victims() -> dict[str, list[float]]:
    """When mails to each victim were made that have left, wait to leave, or may be released."""
    with reading() as session:
        rows = session.execute(
            select(Contact.email, Message.created_at)
            .join(Message, Message.contact_id == Contact.id)
            .where(Contact.email.like("victim%"), Message.sealed.is_not(None))
        ).all()
    found: dict[str, list[float]] = {}
    for email, moment in rows:
        found.setdefault(email, []).append(moment.timestamp())
    return found


def above_a_cap(moments: list[float]) -> bool:
    ordered = sorted(moments)
    close = any(later - earlier < GAP_SECONDS for earlier, later in itertools.pairwise(ordered))
    return close or len(ordered) > A_DAY


def run(settings: Settings, stack: ExitStack, plan: Plan | None = None) -> list[Figure]:
    # Ten thousand presses take a minute; a quick run has a tenth of them.
    plan = plan or (Plan() if settings.rounds > 2 else replace(Plan(), posts=1000, honest=50))
    return [figure for kind in settings.databases for figure in _replay(settings, stack, kind, plan)]


def _replay(settings: Settings, stack: ExitStack, kind: str, plan: Plan) -> Iterator[Figure]:
    place = servers.fresh_place(stack, settings, kind)
    app = create_app(Config.from_env({**place.environ, "SIGNUP_FORM_PER_HOUR": "50"}))
    with app.app_context():
        with reading() as session:
            source = sources.mint(session.keys, forms.in_force(session, ATTACKED).id, "hall")
        street = Street(app)
        for one in presses(plan, source):
            street.press(one)
        mails = mails_to_victims()
        database().engine.dispose()
    most = max(map(len, mails.values()), default=0)
    over = sum(map(above_a_cap, mails.values()))

    def figure(what: str, value: float, unit: str, target: Target | None = None) -> Figure:
        return Figure("attack", f"{kind}: {what}", (float(value),), unit, target)

    yield figure("mails to one victim, most", most, "")
    yield figure("victims above a cap", over, "", at_most(0))
    yield figure("attacking sign-ups that were taken", street.share("attacker"), "x")
    yield figure("honest sign-ups served, other networks", street.share("honest"), "x", at_least(0.99))
    yield figure("honest sign-ups served, one hall", street.share("hall"), "x", at_least(0.99))
