"""The evidence log over a backup and a restore: it goes on under another name, and its key is in neither file."""

from __future__ import annotations

import zipfile
from base64 import b64encode, urlsafe_b64encode
from dataclasses import replace

import pytest
from sqlalchemy import select

from signup.core.db import database, reading, transaction
from signup.core.values import utc_now
from signup.eventlog import heads, notes, sealing
from signup.eventlog.kinds import EventType
from signup.eventlog.models import LogKey
from signup.eventlog.record import record
from tests.backup.conftest import run, saved_in
from tests.backup.test_drill import BOTH

SEED = bytes(range(7, 39))


def sealed() -> tuple[int, str]:
    with transaction() as session:
        record(session, None, EventType.RETENTION_RUN, {"counts": {}}, now=utc_now())
    sealing.seal_now(utc_now)
    with reading() as session:
        last = sealing.newest(session)
    assert last is not None
    return last.size, last.note


@BOTH
@pytest.mark.req("E37")
def test_the_log_goes_on_under_another_name_when_restored(signup_and_confirm, app, elsewhere, backups):
    signup_and_confirm("anna@beispiel.de")
    sealed()
    data, keys = saved_in(app, backups)
    lost_size, lost = sealed()
    done = elsewhere.flask("restore", str(data), "--keys", str(keys))
    assert done.exit_code == 0, done.output
    with elsewhere.app.app_context():
        size, note = sealed()
        with reading() as session:
            names = list(session.scalars(select(LogKey.name).order_by(LogKey.first_size)))
            former = notes.Verifier(names[0], bytes(session.scalar(select(LogKey.public_key).limit(1)) or b""))
            assert notes.head_of(note, sealing.verifier_of(session, size)).origin == names[-1]
    assert f"goes on as {names[-1]}" in done.stderr
    assert names[0] == heads.base(names[1]) != names[1]
    # What was signed after the backup is not here any more, and still proves what it proved.
    assert notes.head_of(lost, former).size == lost_size


@BOTH
@pytest.mark.req("E43")
def test_the_signing_key_is_in_no_database_and_no_backup(signup_and_confirm, app, elsewhere, backups):
    held = database()
    held.sessions.kw["config"] = replace(held.config, evidence_key=SEED)
    signup_and_confirm("anna@beispiel.de")
    sealed()
    with reading() as session:
        assert notes.public_key_of(SEED) in {bytes(key) for key in session.scalars(select(LogKey.public_key))}
    contents = []
    for path in saved_in(app, backups):
        with zipfile.ZipFile(path) as archive:
            contents += [archive.read(name) for name in archive.namelist()]
    if held.sqlite:
        folder = held.config.instance
        contents += [path.read_bytes() for path in folder.iterdir() if path.is_file()]
    else:
        with held.engine.connect() as connection:
            tables = connection.exec_driver_sql("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").scalars()
            contents += [repr(connection.exec_driver_sql(f'SELECT * FROM "{name}"').all()).encode() for name in tables]
    spelled = [SEED, SEED.hex().encode(), b64encode(SEED)[:40], urlsafe_b64encode(SEED)[:40], repr(SEED)[2:-1].encode()]
    assert sum(map(len, contents)) > 10_000
    assert [form for form in spelled if any(form in content for content in contents)] == []
    assert "SIGNUP_EVIDENCE_KEY" in b"".join(contents).decode("latin-1")
    assert run(app, "check-config").output.count(b64encode(SEED).decode()[:20]) == 0
