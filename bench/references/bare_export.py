"""The columns of the CSV export with nothing around them: COPY on PostgreSQL, a cursor and csv on SQLite.

The address of the proof and the unsubscribe header are as long as real ones but not signed: a database cannot.
"""

from __future__ import annotations

import csv
import os
import sqlite3
import sys
import time
from pathlib import Path

import psycopg

QUERY = """
SELECT s.id, s.contact_id, c.email, s.status, s.ground, s.end_reason, k.purposes, s.requested_at, s.activated_at,
       s.ended_at, c.origin, c.legal_basis, 'https://signup.example/api/v1/contacts/' || s.contact_id || '/evidence',
       '<https://signup.example/unsubscribe/' || s.id || s.id || '0000000>', 'List-Unsubscribe=One-Click'
FROM subscription s
JOIN contact c ON c.id = s.contact_id
LEFT JOIN (
    SELECT consent.contact_id, {joined}(purpose.slug, ' ') AS purposes
    FROM consent JOIN purpose ON purpose.id = consent.purpose_id
    WHERE consent.state = 'given' GROUP BY consent.contact_id
) k ON k.contact_id = s.contact_id
"""
FETCHED = 2000


def export() -> None:
    url = os.environ.get("DATABASE_URL")
    if url:
        copied = f"COPY ({QUERY.format(joined='string_agg')}) TO STDOUT (FORMAT csv, FORCE_QUOTE *)"
        with psycopg.connect(url) as connection, connection.cursor().copy(copied) as copy:
            for data in copy:
                sys.stdout.buffer.write(data)
        return
    path = Path(os.environ["SIGNUP_INSTANCE"]) / "signup.db"
    cursor = sqlite3.connect(path).execute(QUERY.format(joined="group_concat"))
    writer = csv.writer(sys.stdout, quoting=csv.QUOTE_ALL)
    while rows := cursor.fetchmany(FETCHED):
        writer.writerows(rows)


if __name__ == "__main__":
    # Starting an interpreter is not part of an export.
    started = time.perf_counter()
    export()
    print(time.perf_counter() - started, file=sys.stderr)
