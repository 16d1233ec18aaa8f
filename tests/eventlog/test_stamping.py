"""Stamping by a real authority on loopback, on both databases."""

from __future__ import annotations

import hashlib
import json
import subprocess
from base64 import b64encode
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from flask import Flask
from sqlalchemy import func, select, text

from signup.alarms import actions as alarms
from signup.alarms.models import AlarmKind
from signup.core.config import Config, ConfigError
from signup.core.db import database, reading, transaction
from signup.core.values import utc_now
from signup.eventlog import health, sealing, stamping, tokens
from signup.eventlog.health import Part
from signup.eventlog.kinds import EventType
from signup.eventlog.models import Checkpoint, Event, LogTimestamp
from signup.eventlog.record import record
from tests.conftest import environment
from tests.support.tsa import DAY, Authority, make_authority, running

NOW = utc_now()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("tsa") / "good")


@pytest.fixture
def tsa(made: Authority) -> Iterator[Authority]:
    with running(made):
        yield made
    made.down, made.canned = False, None
    made.replies.clear()


@pytest.fixture
def settings(tsa: Authority) -> dict[str, str]:
    return tsa.settings()


def write_and_seal(at: datetime = NOW) -> int:
    with transaction() as session:
        record(session, None, EventType.RETENTION_RUN, {"counts": {}}, now=at)
    sealing.run([], lambda: at)
    with reading() as session:
        last = sealing.newest(session)
    assert last is not None
    return last.size


def stamp(at: datetime = NOW) -> None:
    stamping.run([], lambda: at)


def stored() -> list[tuple[int, int, bytes]]:
    with reading() as session:
        rows = session.execute(
            select(LogTimestamp.size, LogTimestamp.number, LogTimestamp.token).order_by(
                LogTimestamp.size, LogTimestamp.number
            )
        )
        return [(size, number, bytes(token)) for size, number, token in rows]


def standing(at: datetime) -> list[AlarmKind]:
    with reading() as session:
        return [finding.kind for finding in alarms.measure(session, now=at)]


def test_the_newest_checkpoint_is_stamped_once_and_others_can_check_it(
    app: Flask, tsa: Authority, tmp_path: Path
) -> None:
    size = write_and_seal()
    stamp()
    stamp()
    [(at, number, token)] = stored()
    assert (at, number, len(tsa.replies)) == (size, 0, 1)
    with reading() as session:
        note = session.scalar(select(Checkpoint.note).where(Checkpoint.size == size))
        row = session.execute(select(LogTimestamp.authority, LogTimestamp.good_until, LogTimestamp.linked)).one()
    assert note is not None
    assert tuple(row) == (tokens.fingerprint(tsa.certificate), tsa.certificate.not_valid_after_utc, False)
    (tmp_path / "note").write_text(note, encoding="utf-8")
    (tmp_path / "tsr").write_bytes(token)
    command = ["openssl", "ts", "-verify", "-data", str(tmp_path / "note"), "-in", str(tmp_path / "tsr")]
    trust = ["-CAfile", str(tsa.root_file), "-untrusted", str(tsa.certificate_file)]
    assert b"Verification: OK" in subprocess.run([*command, *trust], capture_output=True, check=True).stdout
    assert b"email" not in token


@pytest.mark.req("E38")
def test_the_next_batch_names_the_time_stamp_when_there_was_one(app: Flask) -> None:
    size = write_and_seal()
    stamp()
    write_and_seal(NOW + timedelta(minutes=1))
    [(_, _, token)] = stored()
    with reading() as session:
        ident = session.scalar(select(Event.id).where(Event.leaf_index == size))
        data = session.scalar(text("SELECT data FROM disclosure WHERE event_id = :ident").bindparams(ident=ident))
        assert session.scalar(select(func.count()).where(~LogTimestamp.linked)) == 0
    named = {name: value for _, name, value in map(json.loads, bytes(data).split(b"\n"))}
    assert named["timestamps"] == [{"size": size, "sha256": hashlib.sha256(token).hexdigest()}]


@pytest.mark.req("E34")
def test_checkpoints_stay_signed_and_the_stamp_comes_later_when_the_authority_is_away(
    app: Flask, tsa: Authority
) -> None:
    tsa.down = True
    first = write_and_seal()
    stamp()
    assert stored() == []
    assert AlarmKind.LOG_UNSTAMPED not in standing(NOW + timedelta(minutes=59))
    second = write_and_seal(NOW + timedelta(minutes=61))
    assert second > first
    stamp(NOW + timedelta(minutes=61))
    assert AlarmKind.LOG_UNSTAMPED in standing(NOW + timedelta(minutes=61))
    with reading() as session:
        found = health.of(session)[Part.STAMP]
    assert found.trouble == "the authority answered 503"
    tsa.down = False
    stamp(NOW + timedelta(minutes=62))
    assert [size for size, _, _ in stored()] == [second]
    assert AlarmKind.LOG_UNSTAMPED not in standing(NOW + timedelta(minutes=62))


@pytest.mark.req("E42")
def test_a_token_is_not_kept_when_the_answer_is_of_a_rogue(app: Flask, tsa: Authority, tmp_path: Path) -> None:
    size = write_and_seal()
    rogue = make_authority(tmp_path / "rogue", with_root=True)
    with reading() as session:
        note = session.scalar(select(Checkpoint.note).where(Checkpoint.size == size)) or ""
    for canned in (
        rogue.reply(tokens.request_for(note.encode()).as_bytes()),
        # By the right authority and over the right note, but an answer to somebody else.
        tsa.reply(tokens.request_for(note.encode()).as_bytes()),
        tsa.reply(tokens.request_for(b"another checkpoint").as_bytes()),
    ):
        tsa.canned = canned
        stamp()
        with reading() as session:
            assert "is not good" in (health.of(session)[Part.STAMP].trouble or "")
    assert stored() == []
    tsa.canned = None
    stamp()
    assert len(stored()) == 1


def test_the_newest_checkpoint_is_stamped_again_when_its_certificate_nears_its_end(
    app: Flask, tsa: Authority, tmp_path: Path
) -> None:
    size = write_and_seal()
    stamp()
    late = tsa.certificate.not_valid_after_utc - 20 * DAY
    stamp(late)
    # The same certificate would give no longer life.
    assert len(stored()) == 1
    assert AlarmKind.TSA_ENDS in standing(late)
    following = make_authority(tmp_path / "next", ends=900 * DAY)
    more = {**tsa.settings()}
    for name, ours, theirs in (
        ("SIGNUP_TSA_CERTIFICATE", tsa.certificate_file, following.certificate_file),
        ("SIGNUP_TSA_ROOT", tsa.root_file, following.root_file),
    ):
        path = tmp_path / name
        path.write_bytes(ours.read_bytes() + theirs.read_bytes())
        more[name] = str(path)
    with running(following):
        more["SIGNUP_TSA_URL"] = following.url
        config = Config.from_env(environment(tmp_path, **more))
        database().config = config
        database().sessions.kw["config"] = config
        stamp(late)
        stamp(late + timedelta(minutes=1))
    assert [(at, number) for at, number, _ in stored()] == [(size, 0), (size, 1)]
    assert AlarmKind.TSA_ENDS not in standing(late)


def test_nothing_is_sent_when_a_checkpoint_is_missing_or_nothing_is_set(
    app: Flask, tsa: Authority, tmp_path: Path
) -> None:
    stamp()
    assert tsa.replies == []
    write_and_seal()
    database().config = Config.from_env(environment(tmp_path))
    stamp()
    assert tsa.replies == []


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"SIGNUP_TSA_URL": "https://tsa.example/x"}, "SIGNUP_TSA_CERTIFICATE is missing"),
        ({"SIGNUP_TSA_CERTIFICATE": "/nowhere/tsa.pem"}, "cannot be read: No such file"),
        ({"SIGNUP_TSA_CERTIFICATE": "-----BEGIN RUBBISH"}, "certificates in PEM"),
        ({"SIGNUP_TSA_URL": "ftp://tsa.example/x"}, "SIGNUP_TSA_URL: "),
        ({"SIGNUP_TSA_POLICY": "high"}, "object identifier"),
        ({"SIGNUP_SEAL_SECONDS": "1"}, "SIGNUP_SEAL_SECONDS must be a whole number from 5 to 3600"),
    ],
)
def test_start_is_refused_with_the_name_when_a_setting_is_wrong(
    settings: dict[str, str], word: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=word):
        Config.from_env(environment(tmp_path, **settings))


def test_start_is_refused_when_the_root_is_missing(made: Authority, tmp_path: Path) -> None:
    pem = made.certificate_file.read_text(encoding="ascii")
    with pytest.raises(ConfigError, match="SIGNUP_TSA_ROOT is missing"):
        Config.from_env(environment(tmp_path, SIGNUP_TSA_CERTIFICATE=pem))


@pytest.mark.req("E35")
def test_the_pause_between_two_sealings_is_the_one_that_is_set(tmp_path: Path) -> None:
    for value, seconds in (("7", 7), ("", 60)):
        config = Config.from_env(environment(tmp_path, SIGNUP_SEAL_SECONDS=value))
        assert sealing.pause(config) == seconds


def test_the_signing_key_is_not_shown_when_settings_are_printed(tmp_path: Path) -> None:
    key = b64encode(bytes(range(32))).decode()
    config = Config.from_env(environment(tmp_path, SIGNUP_EVIDENCE_KEY=key))
    assert config.evidence_key == bytes(range(32))
    assert key not in repr(config)
    assert repr(config.evidence_key) not in repr(config)
