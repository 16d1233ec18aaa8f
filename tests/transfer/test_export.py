"""The export: every row once, safe cells, flat memory, on record."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import tracemalloc
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import event, select

from signup.core.db import database, reading, transaction
from signup.core.values import OPERATOR, utc_now
from signup.eventlog.kinds import EventType
from signup.eventlog.models import Disclosure, Event, Publication
from signup.transfer import exporting
from signup.transfer.exporting import COLUMNS, Order
from tests.api.conftest import ORIGIN, Api
from tests.support.waiting import wait_for


def exported(api: Api, form: str = "csv", query: str = "") -> list[dict[str, Any]]:
    answer = api.get(f"/export/subscriptions.{form}{query}")
    assert answer.status_code == 200
    text = answer.get_data().decode("utf-8")
    if form == "jsonl":
        return [json.loads(line) for line in text.splitlines()]
    return list(csv.DictReader(io.StringIO(text, newline="")))


def recorded() -> list[dict[str, Any]]:
    """What the log says of exports, oldest first."""
    with reading() as session:
        rows = session.execute(
            select(Event.id, Disclosure.data)
            .join(Disclosure, Disclosure.event_id == Event.id)
            .where(Event.kind == EventType.EXPORT_COMPLETED)
            .order_by(Event.id)
        ).all()
    facts: dict[str, dict[str, Any]] = {}
    for ident, data in rows:
        for line in data.split(b"\n"):
            _, name, value = json.loads(line)
            facts.setdefault(ident, {})[name] = value
    return list(facts.values())


def test_row_has_every_column_when_somebody_confirmed(api: Api, signup_and_confirm: Callable[..., Any]) -> None:
    person = signup_and_confirm("müller@example.com".replace("ü", "ue"), purposes=("product-news", "invitations"))
    answer = api.get("/export/subscriptions.csv")
    assert answer.content_type == "text/csv; charset=utf-8"
    assert answer.get_data().count(b"\r\n") == 2
    assert 'filename="subscriptions.csv"' in answer.headers["Content-Disposition"]
    (row,) = exported(api)
    assert tuple(row) == COLUMNS
    assert (row["subscription_id"], row["contact_id"]) == (person.subscription_id, person.contact_id)
    assert (row["email"], row["status"], row["ground"]) == ("mueller@example.com", "active", "confirmed")
    assert row["purposes"] == "invitations product-news"
    assert json.loads(row["origin"]) == {"type": "form", "detail": "demo-de", "collected_by": None}
    assert (row["legal_basis"], row["end_reason"], row["ended_at"]) == ("gdpr-6-1-a", "", "")
    assert row["confirmed_at"].endswith("Z")
    assert row["proof_url"].endswith(f"/api/v1/contacts/{person.contact_id}/evidence")
    assert (
        api.get("/subscriptions?email=mueller@example.com").json["items"][0]["preferences_url"]
        == row["preferences_url"]
    )
    lines = exported(api, "jsonl")
    assert api.get("/export/subscriptions.jsonl").content_type == "application/jsonl"
    assert [tuple(line) for line in lines] == [COLUMNS]
    assert lines[0]["purposes"] == ["invitations", "product-news"]
    assert lines[0]["end_reason"] is None


def test_header_value_ends_the_subscription_when_a_mail_client_posts_it(
    api: Api, client: FlaskClient, signup_and_confirm: Callable[..., Any]
) -> None:
    person = signup_and_confirm("kim@example.com")
    (row,) = exported(api)
    assert row["list_unsubscribe"] == f"<{person.unsubscribe_url}>"
    assert row["list_unsubscribe_post"] == "List-Unsubscribe=One-Click"
    name, _, value = row["list_unsubscribe_post"].partition("=")
    done = client.post(person.unsubscribe_path, data={name: value})
    assert done.status_code == 200
    (row,) = exported(api)
    assert (row["status"], row["end_reason"], row["purposes"]) == ("ended", "unsubscribed", "")
    assert row["ended_at"].endswith("Z")
    assert exported(api, query="?status=active") == []
    assert len(exported(api, query="?status=ended")) == 1


def test_address_stays_here_when_nobody_confirmed_it(api: Api, sign_up: Callable[..., Any]) -> None:
    sign_up("kim@example.com")
    for form in ("csv", "jsonl"):
        (row,) = exported(api, form)
        assert row["status"] == "requested"
        assert not row["email"]
        assert "kim@" not in json.dumps(row)


@pytest.mark.parametrize(
    "email", ["=1+1@example.com", "+49@example.com", "-5@example.com", "=cmd|'/C calc'!A0@example.com".replace(" ", "")]
)
def test_cell_is_text_when_a_spreadsheet_would_run_it(api: Api, email: str) -> None:
    body = {"email": email, "origin": ORIGIN, "legal_basis": "gdpr-6-1-b", "purposes": ["product-news"]}
    made = api.post("/subscriptions", body)
    assert made.status_code == 202, made.get_data()
    (row,) = exported(api)
    assert row["email"] == "'" + email
    raw = api.get("/export/subscriptions.csv").get_data()
    assert f'"\'{email}"'.encode() in raw
    (line,) = exported(api, "jsonl")
    assert line["email"] == email


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n"])
def test_cell_starts_with_an_apostrophe_when_it_starts_like_a_formula(start: str) -> None:
    assert exporting.safe_cell(start + "SUM(A1)") == "'" + start + "SUM(A1)"
    assert exporting.safe_cell("a" + start) == "a" + start


def test_event_says_who_and_how_much_when_the_export_ends(api: Api, many: Callable[[int], None]) -> None:
    many(3)
    content = api.get("/export/subscriptions.csv?status=active").get_data()
    (fact,) = recorded()
    assert fact["rows"] == 3
    assert fact["filter"] == {"format": "csv", "status": "active"}
    assert fact["file_sha256"] == hashlib.sha256(content).hexdigest()
    assert fact["actor"].startswith("api-key:key_")
    assert "reason" not in fact
    with reading() as session:
        (payload,) = session.scalars(select(Publication.payload).where(Publication.type == "export.completed"))
    assert json.loads(payload or b"")["data"]["export"]["rows"] == 3


def test_event_says_so_when_the_reader_goes_away(demo: SimpleNamespace, many: Callable[[int], None]) -> None:
    many(30)
    chunks = exporting.stream(database(), Order(demo.controller.id, OPERATOR, "csv"), clock=utc_now, page_rows=10)
    next(chunks)
    chunks.close()  # type: ignore[attr-defined] # a generator, which the server closes when the client is gone
    (fact,) = recorded()
    assert (fact["rows"], fact["reason"]) == (10, "stopped early")


def test_every_row_comes_once_when_there_are_several_pages(demo: SimpleNamespace, many: Callable[[int], None]) -> None:
    many(25)
    for page_rows in (1, 5, 10, 24, 25, 26):
        order = Order(demo.controller.id, OPERATOR, "jsonl")
        chunks = list(exporting.stream(database(), order, clock=utc_now, page_rows=page_rows))
        rows = [json.loads(line)["email"] for chunk in chunks for line in chunk.splitlines()]
        assert rows == [f"person{number}@example.com" for number in range(25)]


def test_only_the_header_comes_when_there_is_nothing(api: Api) -> None:
    assert exported(api) == []
    assert api.get("/export/subscriptions.csv").get_data().count(b"\r\n") == 1
    assert api.get("/export/subscriptions.jsonl").get_data() == b""
    assert [fact["rows"] for fact in recorded()] == [0, 0, 0]


def test_others_can_write_between_two_pages_when_the_reader_is_slow(
    demo: SimpleNamespace, many: Callable[[int], None]
) -> None:
    many(20)
    chunks = exporting.stream(database(), Order(demo.controller.id, OPERATOR, "csv"), clock=utc_now, page_rows=10)
    next(chunks)
    # The page after is being read meanwhile; then nothing is held, however slow the reader is.
    pool: Any = database().engine.pool
    wait_for(lambda: pool.checkedout() == 0, seconds=10, describe="a free database")
    with transaction() as session:
        session.execute(select(Event.id)).first()
    assert sum(chunk.count(b"\r\n") for chunk in chunks) == 10


@pytest.mark.slow
def test_memory_stays_flat_when_there_are_twenty_thousand_rows(
    app: Flask, api: Api, many: Callable[[int], None]
) -> None:
    many(20_000)
    statements = []
    event.listen(database().engine, "before_cursor_execute", lambda *given: statements.append(given[2]))
    api.get("/export/subscriptions.csv?status=ended").get_data()
    statements.clear()
    answer = app.test_client().get(
        "/api/v1/export/subscriptions.csv", headers={"Authorization": f"Bearer {api.key}"}, buffered=False
    )
    tracemalloc.start()
    rows, size, most, early = -1, 0, 0, 0
    for number, chunk in enumerate(answer.response):
        data = chunk if isinstance(chunk, bytes) else chunk.encode()
        rows, size, most = rows + data.count(b"\r\n"), size + len(data), max(most, len(data))
        if number == 2:
            early = tracemalloc.get_traced_memory()[1]
            tracemalloc.reset_peak()
    late = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    answer.close()
    assert rows == 20_000
    assert most < size / 15
    # Seventeen more pages need what three needed, give or take what the collector has not fetched yet.
    assert late < early * 2, (early, late)
    assert len([line for line in statements if line.lstrip().upper().startswith("SELECT")]) < 60


def test_asking_for_the_head_of_an_export_takes_nothing_out(api: Api) -> None:
    for form in ("csv", "jsonl"):
        answer = api("HEAD", f"/export/subscriptions.{form}")
        assert answer.status_code == 200
        assert "subscriptions." in answer.headers["Content-Disposition"]
    assert recorded() == []
