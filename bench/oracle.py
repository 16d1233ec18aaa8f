"""Nobody learns from an answer what we hold about an address: equal answers, equally fast."""

from __future__ import annotations

import itertools
import re
import statistics
import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack
from datetime import timedelta

from flask import Flask
from werkzeug.test import TestResponse

from bench import servers
from bench.measuring import Figure, Settings, at_most
from signup.app import create_app
from signup.contacts import actions as contacts
from signup.core.config import Config
from signup.core.db import database, reading, transaction
from signup.core.values import ClientInfo, EmailAddress, utc_now
from signup.forms import actions as forms
from signup.subscriptions import answers, endings, presses, requests
from signup.subscriptions.models import Subscription
from signup.subscriptions.states import EndReason
from signup.suppression import actions as suppression
from signup.suppression.models import Reason

CLASSES = ("new", "pending", "confirmed", "unsubscribed", "objected", "bounced")
ENDED = {"unsubscribed": EndReason.UNSUBSCRIBED}
BLOCKED = {"objected": Reason.OBJECTED, "bounced": Reason.BOUNCED}
FORM = "demo-de"
SAMPLES, MAX_MS = 500, 5.0
# What belongs to one answer, not to the address.
RANDOM = re.compile(r"/pending/[A-Za-z0-9_-]+")
_networks = itertools.count()


def run(settings: Settings, stack: ExitStack, samples: int | None = None) -> list[Figure]:
    count = samples or (SAMPLES if settings.rounds > 2 else 50)
    return [figure for kind in settings.databases for figure in _compare(settings, stack, kind, count)]


def _compare(settings: Settings, stack: ExitStack, kind: str, samples: int) -> Iterator[Figure]:
    place = servers.fresh_place(stack, settings, kind)
    app = create_app(Config.from_env(place.environ))
    with app.app_context():
        for name in CLASSES:
            for number in range(samples):
                known(name, address(name, number))
        times, shapes = sampled(app, samples)
        database().engine.dispose()
    medians = {name: statistics.median(values) for name, values in times.items()}
    for name, value in medians.items():
        yield Figure("oracle", f"{kind}: answer to a {name} address, median", (value,), "ms")
    apart = max(medians.values()) - min(medians.values())
    yield Figure("oracle", f"{kind}: medians apart", (apart,), "ms", at_most(MAX_MS))
    yield Figure("oracle", f"{kind}: different answers", (float(len(shapes)),), "", at_most(1))


def address(name: str, number: int) -> str:
    return f"{name:x<12}{number:05d}@beispiel.example"


def elsewhere() -> str:
    number = next(_networks)
    return f"100.{64 + number // 256 % 64}.{number % 256}.{1 + number // 16_384}"


def known(name: str, email: str) -> None:
    """The address is one of this class since yesterday."""
    parsed, then = EmailAddress.parse(email), utc_now() - timedelta(days=1)
    if name in BLOCKED:
        with transaction() as session:
            controller_id = forms.in_force(session, FORM).controller.id
            key = contacts.address_key(session, controller_id, parsed)
            suppression.remember(session, controller_id, key, BLOCKED[name], now=then)
    elif name != "new":
        _signed_up(name, parsed)


def _signed_up(name: str, email: EmailAddress) -> None:
    then, client = utc_now() - timedelta(days=1), ClientInfo(elsewhere(), "connection", "bench")
    with transaction() as session:
        view = forms.in_force(session, FORM)
        ask = presses.SignupRequest(email, ("product-news",), None, view.version, client, None, None)
        requests.request(session, view, ask, now=then)
    if name == "pending":
        return
    token = _token(email)
    with transaction() as session:
        answers.confirm(session, token, client=client, page_seconds=7, now=then)
    if name in ENDED:
        with reading() as session:
            found = contacts.find(session, view.controller.id, email)
            ident = session.query(Subscription.id).filter_by(contact_id=found.id if found else None).scalar()
        with transaction() as session:
            ending = endings.Ending(ENDED[name], "page")
            endings.end(session, endings.load(session, ident), ending, client=client, now=then)


def _token(email: EmailAddress) -> bytes:
    """The id in the link that was mailed."""
    from tests.conftest import mailed_url, queued_mail

    url = mailed_url(queued_mail(email.normalised), "confirm")
    keys = database().sessions.kw["keys"]
    found: bytes = keys.open_token("confirm", url.rpartition("/")[2])
    return found


def sampled(app: Flask, samples: int) -> tuple[dict[str, list[float]], set[object]]:
    """How long each answer took, one class after the other in turn, and every answer there was."""
    client, times, shapes = app.test_client(), defaultdict(list), set()
    for number in range(samples):
        for name in CLASSES:
            data = {"email": address(name, number), "purpose": "product-news"}
            started = time.perf_counter()
            answer = client.post(f"/f/{FORM}", data=data, headers={"X-Forwarded-For": elsewhere()})
            times[name].append((time.perf_counter() - started) * 1000)
            shapes.add(shape(answer))
    return times, shapes


def shape(answer: TestResponse) -> tuple[object, ...]:
    headers = tuple(sorted((name, RANDOM.sub("", value)) for name, value in answer.headers if name != "Date"))
    return answer.status_code, headers, RANDOM.sub("", answer.text)
