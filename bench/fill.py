"""Run with a service's settings: a database of many people, each with the rows that the product itself writes.

A few people go through the product's own code: sign-up, mail, confirmation, webhook, some leave again. Their rows are
then copied for everybody else by the database, with ids, addresses, keys and days of their own.
"""

from __future__ import annotations

import argparse
import os
import pickle
import re
import sys
import time
from collections.abc import Iterable, Sequence
from datetime import date, datetime, timedelta
from email import message_from_bytes, policy
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, select, text

from bench import people
from bench.people import CONFIRMED, ENDED, FULL_EVERY, PENDING, Crowd, Filled, Person, Sample
from signup.app import create_app
from signup.contacts import actions as contacts
from signup.core.config import Config
from signup.core.db import Base, database, reading, transaction
from signup.core.values import MAIL_CLIENT, ClientInfo, EmailAddress, utc_now
from signup.forms import actions as forms
from signup.mail import compose
from signup.mail.models import Message
from signup.purposes import actions as purposes
from signup.subscriptions import answers, endings, requests
from signup.subscriptions.models import Subscription
from signup.subscriptions.states import EndReason
from signup.webhooks import endpoints
from signup.worker import run_until_idle
from tests.support.receiver import running_receiver

CORE = re.compile(r"(?<=_)[0-9a-hjkmnp-tv-z]{26}")
DAY = re.compile(r"^(\d{4}-\d{2}-\d{2})(T\d{2}:\d{2}:\d{2}\.\d{3}Z)$")
# A temporary table of so many people at a time.
BATCH = 50_000
# One person in five has left again.
ENDED_EVERY = 5
SHORT_BYTES = 200
TOPIC = "product-news"
# Counted by network or by the hour, kept for a day, or nobody's own.
LOG = ("log_tile", "log_key", "log_timestamp", "log_health", "checkpoint")
NOT_COPIED = ("job", "submission", "idempotency_key", "flow", "spent_proof", *LOG)
# Their times are not moved back: they are gone after a month, and these are to be there.
YOUNG = ("budget",)
CLIENT = ClientInfo("203.0.113.7", "forwarded by 1 trusted proxies", "Mozilla/5.0 (X11; Linux x86_64) bench")

Rows = dict[str, dict[tuple[Any, ...], dict[str, Any]]]


def make_samples() -> Filled:
    """One person of each kind went through the product."""
    with running_receiver() as receiver:
        with transaction() as session:
            controller = purposes.find_controller(session, "beispiel")
            endpoints.create(session, controller.id, receiver.url + "/crm", now=utc_now())
        run_until_idle()
        before = _everything()
        # What exists already is shared by everybody's rows, and is not theirs.
        shared = {core for rows in before.values() for row in rows.values() for core in _cores(row)}
        samples = {}
        for number, kind in enumerate((CONFIRMED, ENDED, PENDING)):
            samples[kind] = _sample(controller.id, kind, f"sample{number}@example.com", before, shared)
            before = _everything()
    return Filled(controller.id, samples)


def _sample(controller_id: str, kind: str, email: str, before: Rows, shared: set[str]) -> Sample:
    address = EmailAddress.parse(email)
    with transaction() as session:
        view = forms.in_force(session, "demo-de")
        ask = requests.SignupRequest(address, (TOPIC,), None, view.version, CLIENT, None, None)
        requests.request(session, view, ask, now=utc_now())
    token = _mailed_token(controller_id, address)
    run_until_idle()
    if kind != PENDING:
        with transaction() as session:
            answers.confirm(session, token, client=CLIENT, page_seconds=7, now=utc_now())
        run_until_idle()
    with transaction() as session:
        held = contacts.find(session, controller_id, address)
        assert held is not None
        ident = session.scalars(select(Subscription.id).where(Subscription.contact_id == held.id)).one()
        if kind == ENDED:
            ending = endings.Ending(EndReason.UNSUBSCRIBED, "one-click")
            order = endings.load(session, ident)
            endings.end(session, order, ending, client=CLIENT, actor=MAIL_CLIENT, now=utc_now())
    run_until_idle()
    with reading() as session:
        hashes = people.sample_hashes(session, controller_id, address, ident, TOPIC, token)
    rows = _new_rows(before, hashes)
    cores = sorted({core for _, row in rows for core in _cores(row)} - shared)
    today = utc_now().date()
    return Sample(kind, email, today, rows, cores, hashes, CORE.findall(ident)[0], CORE.findall(held.id)[0])


def _mailed_token(controller_id: str, address: EmailAddress) -> bytes:
    with reading() as session:
        held = contacts.find(session, controller_id, address)
        assert held is not None
        sealed = session.scalars(select(Message.sealed).where(Message.contact_id == held.id)).one()
        assert sealed is not None
        _, raw = compose.opened(session, contacts.open_key(session, held.id), sealed)
        body: Any = message_from_bytes(raw, policy=policy.default)
        words = body.get_body(("plain",)).get_content().split()
        token = next(word for word in words if "/confirm/" in word).rpartition("/")[2]
        ident = session.keys.open_token("confirm", token)
    assert ident is not None
    return ident


def _everything() -> Rows:
    """Every row of every table as the driver gives it."""
    with database().engine.connect() as connection:
        found: Rows = {}
        for table in Base.metadata.sorted_tables:
            keys = [column.name for column in table.primary_key]
            rows = connection.execute(text(f'SELECT * FROM "{table.name}"')).mappings()
            found[table.name] = {tuple(row[key] for key in keys): dict(row) for row in rows}
    return found


def _new_rows(before: Rows, hashes: dict[str, bytes]) -> list[tuple[str, dict[str, Any]]]:
    after = _everything()
    # Each leaf has one place in the log: copies wait for theirs, and what the log says of itself has no copies.
    own = {key[0] for key, row in after["event"].items() if row["kind"] == "log.sealed"}
    return [
        (table, row | {"leaf_index": None} if table == "event" else row)
        for table, rows in after.items()
        if table not in NOT_COPIED
        for key, row in rows.items()
        if key not in before[table]
        and own.isdisjoint(key)
        and (table != "budget" or row["key"] == hashes["budget_key"])
    ]


def _cores(row: dict[str, Any]) -> list[str]:
    return [core for value in row.values() if isinstance(value, str) for core in CORE.findall(value)]


class Filler:
    """Copies the samples' rows for many people."""

    def __init__(self, engine: Engine, filled: Filled) -> None:
        self.engine, self.filled = engine, filled
        self.sqlite = engine.dialect.name == "sqlite"
        self.today = utc_now().date()

    def add(self, kind: str, count: int, *, for_one_run: bool = False) -> None:
        """`count` more people of this kind."""
        sample = self.filled.samples[kind]
        crowd = Crowd(kind, self.filled.next_number, count, self.today, for_one_run)
        with self.engine.connect() as connection:
            if self.sqlite:
                connection.exec_driver_sql("COMMIT")
                connection.exec_driver_sql("PRAGMA synchronous=OFF")
                connection.exec_driver_sql("PRAGMA secure_delete=OFF")
                connection.exec_driver_sql("PRAGMA cache_size=-1000000")
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            else:
                # Every reference is right by construction.
                connection.exec_driver_sql("SET session_replication_role = replica")
                connection.exec_driver_sql("SET synchronous_commit = off")
            self._people(connection, sample, crowd)
            last = connection.execute(text("SELECT coalesce(max(seq), 0) FROM publication")).scalar() or 0
            for table, row in sample.rows:
                last += self._copy(connection, sample, table, row, last - crowd.first)
            connection.exec_driver_sql("DROP TABLE people")
            connection.commit()
            connection.invalidate()
        self.filled.crowds.append(crowd)

    def _people(self, connection: Connection, sample: Sample, crowd: Crowd) -> None:
        days = sorted({day for _, row in sample.rows for day in self._days(sample, row)})
        binary = "BLOB" if self.sqlite else "BYTEA"
        columns = ["number BIGINT", "full_ INTEGER", "shift INTEGER", "stem TEXT", "email TEXT"]
        columns += [f"{name} {binary}" for name in sample.hashes] + [f"day{day} TEXT" for day in days]
        connection.exec_driver_sql(f"CREATE TEMPORARY TABLE people ({', '.join(columns)})")
        with reading() as session:
            made = [
                self._person(
                    sample, person, days, people.hashes(session, self.filled.controller_id, sample, person, TOPIC)
                )
                for person in people.people(sample, crowd)
            ]
        if self.sqlite:
            marks = ", ".join("?" for _ in columns)
            connection.exec_driver_sql(f"INSERT INTO people VALUES ({marks})", made)
            return
        with connection.connection.cursor() as cursor, cursor.copy("COPY people FROM STDIN") as copy:
            for row in made:
                copy.write_row(row)

    @staticmethod
    def _person(sample: Sample, person: Person, days: Sequence[int], hashes: dict[str, bytes]) -> tuple[Any, ...]:
        whole = int(person.number % FULL_EVERY == 0)
        moved = [(sample.day + timedelta(days=day - person.shift)).isoformat() for day in days]
        return (person.number, whole, person.shift, person.stem, person.email, *hashes.values(), *moved)

    def _days(self, sample: Sample, row: dict[str, Any]) -> list[int]:
        """How many days after the sample's the times of a row are, as far as they are text."""
        matches = [DAY.match(value) for value in row.values() if isinstance(value, str)]
        return [(date.fromisoformat(match[1]) - sample.day).days for match in matches if match]

    def _copy(self, connection: Connection, sample: Sample, table: str, row: dict[str, Any], numbers: int) -> int:
        """This row for everybody in the table of people; returns how many feed numbers it used."""
        values: dict[str, Any] = {}
        parts = []
        for column, value in row.items():
            parts.append(self._expression(sample, table, column, value, values, numbers))
        columns = ", ".join(f'"{column}"' for column in row)
        where = "WHERE full_ = 1" if table == "disclosure" else ""
        statement = f'INSERT INTO "{table}" ({columns}) SELECT {", ".join(parts)} FROM people {where}'
        done = connection.execute(text(statement), values)
        return done.rowcount if row.get("seq") is not None else 0

    def _expression(
        self, sample: Sample, table: str, column: str, value: Any, values: dict[str, Any], numbers: int
    ) -> str:
        if value is None:
            return "NULL"
        for name, known in sample.hashes.items():
            if value == known:
                return name
        if column == "seq":
            return f"number + {numbers + 1}"
        if isinstance(value, datetime):
            return self._moment(sample, table, value, values)
        if isinstance(value, str):
            return self._text(sample, table, value, values)
        mark = self._mark(table, column, value, values)
        if (table, column) == ("message", "sealed"):
            # On SQLite a substring of a blob is a blob.
            return f"CASE WHEN full_ = 1 THEN {mark} ELSE substr({mark}, 1, {SHORT_BYTES}) END"
        return mark

    def _mark(self, table: str, column: str, value: Any, values: dict[str, Any]) -> str:
        name = f"v{len(values)}"
        values[name] = value
        dialect = self.engine.dialect
        kind = Base.metadata.tables[table].c[column].type.dialect_impl(dialect).compile(dialect=dialect)
        return f":{name}" if self.sqlite else f"CAST(:{name} AS {kind})"

    def _moment(self, sample: Sample, table: str, value: datetime, values: dict[str, Any]) -> str:
        name = f"v{len(values)}"
        if table in YOUNG:
            values[name] = value + (self.today - sample.day)
            return f"CAST(:{name} AS timestamptz)"
        values[name] = value
        return f"CAST(:{name} AS timestamptz) - shift * INTERVAL '1 day'"

    def _text(self, sample: Sample, table: str, value: str, values: dict[str, Any]) -> str:
        """A text with the person's own ids, address and days in the places of the sample's."""
        day = DAY.match(value)
        if day and table in YOUNG:
            moved = date.fromisoformat(day[1]) + (self.today - sample.day)
            return self._quoted(moved.isoformat() + day[2])
        if day:
            return f"day{(date.fromisoformat(day[1]) - sample.day).days} || {self._quoted(day[2])}"
        pieces = re.split(f"({'|'.join([*sample.cores, re.escape(sample.email)])})", value)
        parts = [self._piece(sample, piece) for piece in pieces if piece]
        return " || ".join(parts) or "''"

    def _piece(self, sample: Sample, piece: str) -> str:
        if piece == sample.email:
            return "email"
        if piece in sample.cores:
            return f"stem || '{sample.cores.index(piece):04d}'"
        return self._quoted(piece)

    @staticmethod
    def _quoted(piece: str) -> str:
        # A colon would be a parameter for SQLAlchemy.
        return "'" + piece.replace("'", "''").replace(":", "\\:") + "'"


def fill(path: Path, settled: int, extra: dict[str, int]) -> None:
    """The database has this many settled people, and some more of each kind for this run."""
    filled: Filled = pickle.loads(path.read_bytes()) if path.exists() else make_samples()
    filler = Filler(database().engine, filled)
    started, missing = time.monotonic(), settled - filled.settled
    batch = max(1, min(BATCH, settled // (2 * ENDED_EVERY)))
    for number in range(-(-missing // batch)):
        kind = ENDED if number % ENDED_EVERY == ENDED_EVERY - 1 else CONFIRMED
        filler.add(kind, min(batch, settled - filled.settled))
        path.write_bytes(pickle.dumps(filled))
        print(f"{filled.settled:,} people after {time.monotonic() - started:.0f} s", file=sys.stderr, flush=True)
    for kind, count in extra.items():
        if count:
            filler.add(kind, count, for_one_run=True)
    path.write_bytes(pickle.dumps(filled))
    if missing > 0:
        _tidy(filler)


def _tidy(filler: Filler) -> None:
    """What the database does by itself sooner or later is done before anything is measured."""
    with filler.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if filler.sqlite:
            connection.exec_driver_sql("COMMIT")
            connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        else:
            connection.exec_driver_sql("VACUUM ANALYZE")


def main(arguments: Iterable[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("state", type=Path, help="where it is kept what the database holds")
    parser.add_argument("--settled", type=int, default=0)
    parser.add_argument("--pending", type=int, default=0)
    parser.add_argument("--confirmed", type=int, default=0)
    chosen = parser.parse_args(arguments)
    app = create_app(Config.from_env(os.environ))
    with app.app_context():
        fill(chosen.state, chosen.settled, {PENDING: chosen.pending, CONFIRMED: chosen.confirmed})


if __name__ == "__main__":
    main()
