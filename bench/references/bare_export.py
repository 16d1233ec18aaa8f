"""The columns of the CSV export with nothing around them: a cursor and `csv`, or on PostgreSQL also COPY.

Addresses and the unsubscribe header are as long as real ones but not signed: a database cannot.
"""

from __future__ import annotations

import csv
import os
import sqlite3
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psycopg

QUERY = """
SELECT s.id, s.contact_id, c.email, s.status, s.ground, s.end_reason, ({purposes}), s.requested_at, s.activated_at,
       s.ended_at, c.origin, c.legal_basis, 'https://signup.example/api/v1/contacts/' || s.contact_id || '/evidence',
       '<https://signup.example/unsubscribe/' || s.id || s.id || '0000000>', 'List-Unsubscribe=One-Click', s.frequency,
       s.paused_until, c.fields, 'https://signup.example/preferences/' || s.id || s.id || '0000000'
FROM subscription s
JOIN contact c ON c.id = s.contact_id
"""
PURPOSES = """
SELECT {joined}(purpose.slug, ' ') FROM consent JOIN purpose ON purpose.id = consent.purpose_id
WHERE consent.contact_id = s.contact_id AND consent.state = 'given'
"""
FETCHED = 2000


def copy(url: str) -> None:
    copied = f"COPY ({query('string_agg')}) TO STDOUT (FORMAT csv, FORCE_QUOTE *)"
    with psycopg.connect(url) as connection, connection.cursor().copy(copied) as stream:
        for data in stream:
            sys.stdout.buffer.write(data)


def loop_postgresql(url: str) -> None:
    with psycopg.connect(url) as connection, connection.cursor("bare") as cursor:
        cursor.execute(query("string_agg"))
        write(lambda: cursor.fetchmany(FETCHED))


def loop_sqlite(path: Path) -> None:
    cursor = sqlite3.connect(path).execute(query("group_concat"))
    write(lambda: cursor.fetchmany(FETCHED))


def query(joined: str) -> str:
    return QUERY.format(purposes=PURPOSES.format(joined=joined))


def write(fetch: Callable[[], list[tuple[Any, ...]]]) -> None:
    writer = csv.writer(sys.stdout, quoting=csv.QUOTE_ALL)
    while rows := fetch():
        writer.writerows(rows)


def export(way: str) -> None:
    url = os.environ.get("DATABASE_URL")
    if not url:
        loop_sqlite(Path(os.environ["SIGNUP_INSTANCE"]) / "signup.db")
    elif way == "copy":
        copy(url)
    else:
        loop_postgresql(url)


if __name__ == "__main__":
    # Starting an interpreter is not part of an export.
    started = time.perf_counter()
    export(sys.argv[1])
    print(time.perf_counter() - started, file=sys.stderr)
