"""Views: people are counted, machines are not, and nothing is known of either."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from signup.core.db import Session, reading, transaction
from signup.core.values import utc_now
from signup.forms import actions as forms
from signup.forms import embeds, views
from signup.forms.views import HELD, KEEP, Hour, Tally

BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"
PERSON = {"User-Agent": BROWSER}
MACHINES: dict[str, tuple[str, dict[str, str]]] = {
    "headers only": ("HEAD", PERSON),
    "scanner": ("GET", {"User-Agent": "Barracuda Sentinel (EE)"}),
    "crawler": ("GET", {"User-Agent": "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"}),
    "link preview": ("GET", {"User-Agent": "WhatsApp/2.23.20.0"}),
    "program": ("GET", {"User-Agent": "python-requests/2.32"}),
    "nameless": ("GET", {"User-Agent": ""}),
    "loads ahead": ("GET", {**PERSON, "Sec-Purpose": "prefetch;prerender"}),
    "loads ahead, in old words": ("GET", {**PERSON, "X-Moz": "prefetch"}),
}
EVER = datetime(2000, 1, 1, tzinfo=UTC)
Seen = Callable[[], int]


@pytest.fixture
def seen(app: Flask, demo: Any) -> Seen:
    def total() -> int:
        with reading() as session:
            view = forms.in_force(session, "demo-de")
            return views.total(session, demo.controller.id, view.id, since=EVER)

    return total


@pytest.mark.req("F20")
def test_the_hosted_page_is_counted_without_a_script_when_a_person_opens_it(client: FlaskClient, seen: Seen) -> None:
    answer = client.get("/f/demo-de", headers=PERSON)
    assert answer.status_code == 200
    assert "Set-Cookie" not in answer.headers
    assert seen() == 1


@pytest.mark.req("A18")
@pytest.mark.parametrize("machine", MACHINES)
def test_nothing_is_counted_when_a_machine_asks(client: FlaskClient, seen: Seen, machine: str) -> None:
    method, headers = MACHINES[machine]
    assert client.open("/f/demo-de", method=method, headers=headers).status_code == 200
    if method == "GET":
        assert client.post("/f/demo-de/view", headers=headers).status_code == 204
    assert seen() == 0
    assert client.post("/f/demo-de/view", headers=PERSON).status_code == 204
    assert seen() == 1


def test_a_flood_of_views_is_one_write_each_half_minute_and_none_is_lost(
    client: FlaskClient, demo: Any, seen: Seen, monkeypatch: pytest.MonkeyPatch
) -> None:
    writes: list[int] = []

    def save(session: Session, counts: Mapping[Hour, int]) -> None:
        writes.append(sum(counts.values()))
        kept(session, counts)

    kept = views.save
    monkeypatch.setattr(views, "save", save)
    monkeypatch.setattr(embeds, "utc_now", lambda: began)
    began = utc_now()
    for _ in range(100):
        assert client.post("/f/demo-de/view", headers=PERSON).status_code == 204
    assert writes == [1]
    began += HELD
    assert client.post("/f/demo-de/view", headers=PERSON).status_code == 204
    assert writes == [1, 100]
    assert seen() == 101


def test_a_closed_form_was_not_seen_when_its_page_is_opened(client: FlaskClient, demo: Any, seen: Seen) -> None:
    with transaction() as session:
        forms.set_closed(session, demo.controller.id, "demo-de", True)
    assert client.get("/f/demo-de", headers=PERSON).status_code == 410
    assert seen() == 0


def test_many_views_are_one_write_in_the_hour_they_belong_to(now: datetime) -> None:
    tally, start = Tally(), now.replace(minute=59, second=50, microsecond=0)
    first = tally.count("ctl", "frm", now=start)
    assert list(first.values()) == [1]
    for second in (1, 5, 11, 29):
        assert tally.count("ctl", "frm", now=start + timedelta(seconds=second)) == {}
    due = tally.count("ctl", "frm", now=start + HELD)
    assert {hour.hour.hour: number for hour, number in due.items()} == {start.hour: 2, start.hour + 1: 3}
    assert tally.count("ctl", "frm", now=start + HELD + timedelta(seconds=1)) == {}
    tally.keep(due)
    assert sum(tally.count("ctl", "frm", now=start + 2 * HELD).values()) == 5 + 1 + 1


def test_the_page_comes_and_the_number_follows_when_somebody_else_writes(
    app: Flask, client: FlaskClient, demo: Any, seen: Seen
) -> None:
    writing, may_end = threading.Event(), threading.Event()
    with reading() as session:
        form_id = forms.in_force(session, "demo-de").id
    hour = views.hour_of(demo.controller.id, form_id, now=_this_hour())

    def hold() -> None:
        with app.app_context(), transaction() as session:
            for at in (0, 1):
                # Whatever hour it is by now, its row is in other hands.
                here = hour._replace(hour=_this_hour() + timedelta(hours=at))
                views.save(session, {here: 0})
            session.write_queued()
            writing.set()
            may_end.wait(30)

    holder = threading.Thread(target=hold)
    holder.start()
    try:
        assert writing.wait(10)
        assert client.get("/f/demo-de", headers=PERSON).status_code == 200
        assert seen() == 0
    finally:
        may_end.set()
        holder.join(30)
    due = views.tally().count(demo.controller.id, form_id, now=_this_hour() + timedelta(hours=2))
    assert sum(due.values()) == 2


def _this_hour() -> datetime:
    return utc_now().replace(minute=0, second=0, microsecond=0)


def test_hours_that_nobody_may_ask_for_are_gone_when_pruned(app: Flask, demo: Any, seen: Seen, now: datetime) -> None:
    with reading() as session:
        form_id = forms.in_force(session, "demo-de").id
    hour = views.hour_of(demo.controller.id, form_id, now=now)
    with transaction() as session:
        views.save(session, {hour: 3, hour._replace(hour=now - KEEP - timedelta(hours=1)): 7})
    with transaction() as session:
        assert views.old(session, now=now) == 1
        assert views.prune(session, now=now) == 1
        assert views.prune(session, now=now) == 0
    assert seen() == 3
