"""The key inventory, a new data key, and that no personal column is forgotten by a backup."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import select

import signup.models  # noqa: F401 - the metadata is whole only with all of them
from signup.app import create_app
from signup.backup import rules
from signup.backup.archive import Reader
from signup.contacts.models import DataKey
from signup.core.config import Config, ConfigError
from signup.core.db import Base, database, reading
from signup.core.signing import Keys
from signup.worker import run_until_idle
from tests.backup.conftest import run, said, saved_in
from tests.conftest import _key, environment
from tests.guards.test_personal import marked
from tests.support import log

OLD, NEW = _key(101), _key(57)


@pytest.fixture
def installation(place):
    """The same database under other settings."""
    made = []

    def make(**settings):
        other = create_app(Config.from_env(environment(place.folder, place.url, **settings)))
        made.append(other)
        return other

    yield make
    for other in made:
        with other.app_context():
            database().engine.dispose()


def test_each_personal_column_is_sealed_or_left_out_when_all_marks_are_read():
    sealed = {(table, column) for table, columns in rules.SEALED.items() for column in columns}
    out = {mark for mark in marked() if mark[0] in rules.LEFT_OUT}
    assert marked() == sealed | rules.SEALED_ALREADY | out
    assert set(rules.LEFT_OUT) | set(rules.SEALED) <= set(Base.metadata.tables)


def test_the_inventory_tells_keys_apart_and_nothing_else_when_saved(app, backups):
    data, keys = saved_in(app, backups)
    with Reader(data) as rows, Reader(keys) as held:
        assert rows.manifest.keys == held.manifest.keys
        told = rows.manifest.keys
    assert {name: len(found) for name, found in told.items()} == {
        "SECRET_KEY": 1,
        "SIGNUP_PEPPER": 1,
        "SIGNUP_DATA_KEY": 1,
        "SIGNUP_EVIDENCE_KEY": 0,
    }
    config = app.extensions["signup.config"]
    raw = data.read_bytes() + keys.read_bytes()
    for secret in (config.pepper, config.data_key, config.secret_keys[-1].encode()):
        assert secret not in raw
    assert all(len(found) == 16 for every in told.values() for found in every)


def test_everything_opens_with_the_new_key_alone_when_it_was_rewrapped(
    app, client, demo, signup_and_confirm, installation, receiver
):
    owner = {"Authorization": f"Bearer {demo.api_key}"}
    made = client.post("/api/v1/webhook-endpoints", json={"url": receiver.url}, headers=owner)
    again = {
        "json": {"email": "dora@beispiel.de", "origin": {"type": "fair", "detail": "x"}, "legal_basis": "gdpr-6-1-b"}
    }
    headers = {**owner, "Idempotency-Key": "one"}
    first = client.post("/api/v1/contacts", headers=headers, **again)
    people = [signup_and_confirm(f"anna{number}@beispiel.de") for number in range(3)]
    assert run(app, "bounces", "read", __file__).exit_code == 0
    before = [log.facts(person.contact_id) for person in people]
    both = installation(SIGNUP_DATA_KEY=NEW, SIGNUP_DATA_KEY_FALLBACKS=OLD)
    done = run(both, "data-key", "rewrap")
    assert done.exit_code == 0, done.output
    counts = dict(line.split("\t") for line in done.stdout.splitlines())
    assert counts == {
        "data_key.wrapped": "4",
        "dkim_key.sealed": "0",
        "endpoint.sealed_secret": "1",
        "endpoint.sealed_old_secret": "0",
        "idempotency_key.sealed_body": "1",
        "inbound_report.sealed": "1",
    }
    assert {line.split("\t")[1] for line in run(both, "data-key", "rewrap").stdout.splitlines()} == {"0"}
    alone = installation(SIGNUP_DATA_KEY=NEW)
    with alone.app_context():
        assert [log.facts(person.contact_id) for person in people] == before
        repeated = alone.test_client().post("/api/v1/contacts", headers=headers, **again)
        assert (repeated.status_code, repeated.data) == (first.status_code, first.data)
        report = run(alone, "bounces", "list").stdout.partition("\t")[0]
        assert Path(__file__).read_bytes().startswith(run(alone, "bounces", "show", report).stdout_bytes)
        run_until_idle()
    assert made.status_code == 201
    assert len(receiver.requests) >= 3


def test_both_keys_open_what_is_there_when_the_change_is_under_way(app, signup_and_confirm, installation):
    person = signup_and_confirm("anna@beispiel.de")
    with installation(SIGNUP_DATA_KEY=NEW, SIGNUP_DATA_KEY_FALLBACKS=f"{_key(9)},{OLD}").app_context():
        assert log.kinds(person.contact_id) == ["subscription.requested", "subscription.confirmed"]
        with reading() as session:
            wrapped = session.scalars(select(DataKey.wrapped)).one()
    with pytest.raises(ValueError):
        Keys(("x" * 32,), b"p" * 32, bytes(range(32))).unwrap(wrapped)


def test_rewrapping_stops_and_says_so_when_the_former_key_is_missing(app, signup_and_confirm, installation):
    signup_and_confirm("anna@beispiel.de")
    assert "SIGNUP_DATA_KEY_FALLBACKS" in said(run(installation(SIGNUP_DATA_KEY=NEW), "data-key", "rewrap"))


def test_a_backup_of_before_restores_when_the_former_key_is_a_fallback(
    app, signup_and_confirm, settle_elsewhere, backups
):
    person = signup_and_confirm("anna@beispiel.de")
    data, keys = saved_in(app, backups)
    elsewhere = settle_elsewhere(SIGNUP_DATA_KEY=NEW, SIGNUP_DATA_KEY_FALLBACKS=OLD)
    elsewhere.restore(data, keys)
    assert elsewhere.flask("data-key", "rewrap").exit_code == 0
    with elsewhere.app.app_context():
        assert log.kinds(person.contact_id) == ["subscription.requested", "subscription.confirmed"]


@pytest.mark.parametrize(
    ("value", "word"),
    [("short", "SIGNUP_DATA_KEY_FALLBACKS is weak"), (_key(1), "one key, one purpose")],
)
def test_a_bad_fallback_is_named_when_settings_are_read(value, word, tmp_path: Path):
    with pytest.raises(ConfigError, match=word):
        Config.from_env(environment(tmp_path, SIGNUP_DATA_KEY_FALLBACKS=value))
