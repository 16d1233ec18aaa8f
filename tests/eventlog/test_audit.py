"""The audit finds whatever somebody changes in the database behind our back, names the row, and is calm otherwise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import Result
from flask import Flask
from sqlalchemy import text

from signup import jobs
from signup.alarms import actions as alarms
from signup.alarms.models import AlarmKind
from signup.contacts import actions as contacts
from signup.core.db import database, reading, transaction
from signup.core.evidence import EvidenceConfig
from signup.core.values import utc_now
from signup.eventlog import audit, heads, health, sealing, stamping
from signup.eventlog.health import Part
from signup.eventlog.kinds import EventType, FieldClass
from signup.eventlog.record import record, redact
from signup.worker import register_timed_jobs, run_until_idle
from tests.support.tsa import Authority, make_authority, running

NOW = utc_now()
# More than one tile, and an unfinished one.
EVENTS = 600


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return make_authority(tmp_path_factory.mktemp("tsa") / "good")


@pytest.fixture
def tsa(made: Authority) -> Iterator[Authority]:
    with running(made):
        yield made


@pytest.fixture
def settings(tsa: Authority) -> dict[str, str]:
    return tsa.settings()


def write(count: int) -> None:
    with transaction() as session:
        for _ in range(count):
            record(session, None, EventType.RETENTION_RUN, {"counts": {"erased": 0}}, now=NOW)


def seal(limit: int = 1000) -> int:
    done = None
    while True:
        with transaction() as session:
            sealed = sealing.seal(session, now=NOW, limit=limit)
        if sealed is None:
            break
        done = sealed
        if sealed.count < limit:
            break
    if done:
        heads.remember(database().config, done.note)
    with reading() as session:
        last = sealing.newest(session)
    assert last is not None
    return last.size


@pytest.fixture
def full(app: Flask, signup_and_confirm: Callable[..., Any]) -> SimpleNamespace:
    """A log with a person in it, several checkpoints, the second and the fourth of them stamped."""
    person = signup_and_confirm("anna@beispiel.de")
    sizes = [seal()]
    for number in range(3):
        write(EVENTS // 3)
        sizes.append(seal())
        if number != 1:
            stamping.run([], lambda: NOW)
    write(2)
    sizes.append(seal())
    return SimpleNamespace(person=person, sizes=sizes)


def look(**options: Any) -> audit.Report:
    return audit.audit(contacts.open_keys, **options)


def run(app: Flask, *arguments: str) -> Result:
    return app.test_cli_runner().invoke(args=["evidence", "verify", *arguments])


def sql(statement: str, **values: Any) -> None:
    """What somebody with the database password can do."""
    with transaction() as session:
        done = session.execute(text(statement).bindparams(**values))
        assert done.rowcount >= 1  # type: ignore[attr-defined]


def event_at(index: int) -> str:
    with reading() as session:
        return str(session.scalar(text("SELECT id FROM event WHERE leaf_index = :index").bindparams(index=index)))


def test_everything_is_sound_when_nobody_touched_it(full: SimpleNamespace) -> None:
    report = look()
    assert report.wrong is None
    assert report.size == report.events == full.sizes[-1] > EVENTS
    assert (report.checkpoints, report.stamps) == (len(full.sizes), 2)
    assert report.disclosures > report.events * 3
    assert (report.redacted, report.unreadable, report.unpinned) == (0, 0, 0)


def test_redacted_and_forgotten_people_are_no_damage(full: SimpleNamespace) -> None:
    with transaction() as session:
        events = [
            row.id
            for row in session.execute(
                text("SELECT id FROM event WHERE contact_id = :contact").bindparams(contact=full.person.contact_id)
            )
        ]
        assert redact(session, events, [FieldClass.IP]) > 0
    first = look()
    assert first.wrong is None
    assert first.redacted > 0
    sql("DELETE FROM data_key WHERE contact_id = :contact", contact=full.person.contact_id)
    second = look()
    assert second.wrong is None
    assert second.unreadable > 0


def edited_leaf(full: SimpleNamespace) -> str:
    ident = event_at(300)
    sql("UPDATE event SET leaf = :leaf WHERE id = :ident", leaf=_leaf_of(event_at(301)), ident=ident)
    return rf"event {ident} \(leaf 300\)"


def swapped_events(full: SimpleNamespace) -> str:
    one, other = event_at(300), event_at(310)
    sql("UPDATE event SET leaf_index = -1 WHERE id = :ident", ident=one)
    sql("UPDATE event SET leaf_index = 300 WHERE id = :ident", ident=other)
    sql("UPDATE event SET leaf_index = 310 WHERE id = :ident", ident=one)
    return rf"event {other} \(leaf 300\) is not what was sealed"


def consistent_event(full: SimpleNamespace) -> str:
    """Leaf and disclosure are changed so that they fit one another."""
    one, other = event_at(300), event_at(310)
    sql("DELETE FROM disclosure WHERE event_id = :one", one=one)
    sql("UPDATE disclosure SET event_id = :one WHERE event_id = :other", one=one, other=other)
    sql("UPDATE event SET leaf = :leaf WHERE id = :one", leaf=_leaf_of(other), one=one)
    return rf"event {one} \(leaf 300\) is not what was sealed"


def edited_kind(full: SimpleNamespace) -> str:
    ident = event_at(300)
    sql("UPDATE event SET kind = 'subscription.confirmed' WHERE id = :ident", ident=ident)
    return rf"event {ident} \(leaf 300\): it is kept as subscription.confirmed"


def edited_time(full: SimpleNamespace) -> str:
    ident = event_at(300)
    sql("UPDATE event SET occurred_at = (SELECT min(occurred_at) FROM event) WHERE id = :ident", ident=ident)
    return rf"event {ident} \(leaf 300\): it is kept with the time"


def edited_disclosure(full: SimpleNamespace) -> str:
    ident = event_at(300)
    data = _disclosure(ident).replace(b'"erased":0', b'"erased":9')
    sql("UPDATE disclosure SET data = :data WHERE event_id = :ident", data=data, ident=ident)
    return rf"event {ident} \(leaf 300\): the disclosure residue holds a field that is not in the leaf"


def added_disclosure(full: SimpleNamespace) -> str:
    ident = event_at(300)
    data = _disclosure(ident)
    sql("UPDATE disclosure SET data = :data WHERE event_id = :ident", data=data + data[:0] + b"\n" + data, ident=ident)
    return rf"event {ident} \(leaf 300\): the disclosure residue says \w+ twice"


def deleted_disclosure(full: SimpleNamespace) -> str:
    ident = event_at(300)
    sql("DELETE FROM disclosure WHERE event_id = :ident", ident=ident)
    return rf"event {ident} \(leaf 300\): the disclosure of its type and time is missing"


def sealed_disclosure_of_another(full: SimpleNamespace) -> str:
    sql("UPDATE disclosure SET data = (SELECT data FROM disclosure WHERE name = 'ip' LIMIT 1) WHERE name = 'identity'")
    return r"event evt_\w+ \(leaf \d+\): the disclosure (identity|ip) (holds a field|says ip twice)"


def edited_lowest_tile(full: SimpleNamespace) -> str:
    _flip("log_tile", "hashes", "level = 0 AND number = 1", 44 * 32)
    return "tile 0/1 is not what was sealed"


def edited_upper_tile(full: SimpleNamespace) -> str:
    _flip("log_tile", "hashes", "level = 1 AND number = 0", 5)
    return "tile 1/0 is not what was sealed|checkpoint"


def deleted_tile(full: SimpleNamespace) -> str:
    sql("DELETE FROM log_tile WHERE level = 0 AND number = 1")
    return r"tile 0/1|event evt_\w+ \(leaf 256\) and tile 0/1 differ"


def edited_checkpoint(full: SimpleNamespace) -> str:
    size = full.sizes[1]
    sql("UPDATE checkpoint SET note = replace(note, 'evidence', 'Evidence') WHERE size = :size", size=size)
    return f"checkpoint {size}: no signature is by"


def resigned_checkpoint(full: SimpleNamespace) -> str:
    """Whoever has the key as well signs something else."""
    size = full.sizes[1]
    with transaction() as session:
        signer = sealing.Signer(sealing.name_of(session), session.config.evidence_seed)
        note = signer.sign(sealing.Head(signer.verifier.name, size, b"x" * 32).text)
    sql("UPDATE checkpoint SET note = :note WHERE size = :size", note=note, size=size)
    return f"checkpoint {size} signs another tree"


def deleted_checkpoint(full: SimpleNamespace) -> str:
    size = full.sizes[2]
    sql("DELETE FROM checkpoint WHERE size = :size", size=size)
    return f"checkpoint {size} is missing"


def deleted_newest_checkpoint(full: SimpleNamespace) -> str:
    sql("DELETE FROM checkpoint WHERE size = :size", size=full.sizes[-1])
    return f"the last checkpoint ends at {full.sizes[-2]} leaves"


def edited_key(full: SimpleNamespace) -> str:
    _flip("log_key", "public_key", "first_size = 0", 3)
    return f"checkpoint {full.sizes[0]}: no signature is by"


def edited_token(full: SimpleNamespace) -> str:
    size = full.sizes[1]
    _flip("log_timestamp", "token", f"size = {size}", -9)
    return f"time stamp 0 of checkpoint {size}: "


def deleted_token(full: SimpleNamespace) -> str:
    size = full.sizes[1]
    sql("DELETE FROM log_timestamp WHERE size = :size", size=size)
    return f"time stamp of checkpoint {size} is missing"


def deleted_event(full: SimpleNamespace) -> str:
    ident = event_at(300)
    sql("DELETE FROM disclosure WHERE event_id = :ident", ident=ident)
    sql("DELETE FROM event WHERE id = :ident", ident=ident)
    return "event of leaf 300 is missing"


def deleted_tail(full: SimpleNamespace) -> str:
    sql("DELETE FROM disclosure WHERE event_id IN (SELECT id FROM event WHERE leaf_index >= 500)")
    sql("DELETE FROM event WHERE leaf_index >= 500")
    return rf"event of leaf 500 is missing; the log goes on to {full.sizes[-1]} leaves"


def deleted_tail_with_its_checkpoint(full: SimpleNamespace) -> str:
    """All traces are gone but those outside of the database."""
    size = full.sizes[-2]
    sql("DELETE FROM disclosure WHERE event_id IN (SELECT id FROM event WHERE leaf_index >= :size)", size=size)
    sql("DELETE FROM event WHERE leaf_index >= :size", size=size)
    sql("DELETE FROM checkpoint WHERE size > :size", size=size)
    return rf"this machine signed {full.sizes[-1]} leaves .* and there are {size}"


EDITS = (
    edited_leaf,
    swapped_events,
    consistent_event,
    edited_kind,
    edited_time,
    edited_disclosure,
    added_disclosure,
    deleted_disclosure,
    sealed_disclosure_of_another,
    edited_lowest_tile,
    edited_upper_tile,
    deleted_tile,
    edited_checkpoint,
    resigned_checkpoint,
    deleted_checkpoint,
    deleted_newest_checkpoint,
    edited_key,
    edited_token,
    deleted_token,
    deleted_event,
    deleted_tail,
    deleted_tail_with_its_checkpoint,
)


@pytest.mark.req("E44")
@pytest.mark.parametrize("edit", EDITS, ids=lambda edit: edit.__name__)
def test_an_edit_by_sql_is_found_and_named(
    app: Flask, full: SimpleNamespace, edit: Callable[[SimpleNamespace], str]
) -> None:
    named = edit(full)
    done = run(app)
    assert done.exit_code == 1, done.output
    with pytest.raises(AssertionError, match=named):
        raise AssertionError(done.output)
    # Said once and plainly, the row first.
    assert len([line for line in done.output.splitlines() if line.startswith("WRONG")]) == 1


def _leaf_of(ident: str) -> bytes:
    with reading() as session:
        return bytes(session.scalar(text("SELECT leaf FROM event WHERE id = :ident").bindparams(ident=ident)))


def _disclosure(ident: str) -> bytes:
    with reading() as session:
        return bytes(session.scalar(text("SELECT data FROM disclosure WHERE event_id = :i").bindparams(i=ident)))


def _flip(table: str, column: str, where: str, at: int) -> None:
    with reading() as session:
        content = bytearray(session.scalar(text(f"SELECT {column} FROM {table} WHERE {where}")))
    content[at] ^= 1
    sql(f"UPDATE {table} SET {column} = :content WHERE {where}", content=bytes(content))


def test_the_nightly_audit_raises_an_alarm_and_lowers_a_metric_when_it_finds_something(
    app: Flask, full: SimpleNamespace
) -> None:
    register_timed_jobs(utc_now)
    run_until_idle(utc_now)
    client = app.test_client()
    assert 'signup_log_sound{part="audit"} 1.0' in client.get("/metrics").text
    edited_disclosure(full)
    later = jobs.next_run(utc_now(), audit.EVERY_SECONDS)
    run_until_idle(lambda: later)
    with reading() as session:
        found = health.of(session)[Part.AUDIT]
        [alarm] = [item for item in alarms.measure(session, now=later) if item.kind is AlarmKind.LOG_DAMAGED]
    assert found.size >= full.sizes[-1]
    assert "the disclosure residue holds a field that is not in the leaf" in alarm.facts["reason"]
    assert alarm.subject == "audit"
    assert 'signup_log_sound{part="audit"} 0.0' in client.get("/metrics").text


def test_the_command_says_what_was_looked_at_when_all_is_well(app: Flask, full: SimpleNamespace) -> None:
    done = run(app)
    assert done.exit_code == 0, done.output
    assert f"events       {full.sizes[-1]}" in done.output
    assert f"checkpoints  {len(full.sizes)}" in done.output
    assert "time stamps  2 good" in done.output
    assert done.output.splitlines()[-1].startswith("sound")


def test_the_command_says_that_nobody_stamps_when_no_authority_is_set(
    app: Flask, full: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(database().config, evidence=EvidenceConfig())
    monkeypatch.setattr(database(), "config", config)
    monkeypatch.setitem(database().sessions.kw, "config", config)
    done = run(app)
    assert done.exit_code == 0, done.output
    assert "2 whose certificate is not set" in done.output
    assert "SIGNUP_TSA_URL is not set" in done.output


def test_only_what_is_new_is_hashed_again_when_a_size_is_given(app: Flask, full: SimpleNamespace) -> None:
    size = full.sizes[1]
    report = look(since=size)
    assert report.wrong is None
    assert (report.events, report.checkpoints) == (full.sizes[-1] - size, len(full.sizes) - 1)
    edited_disclosure(full)
    assert look(since=full.sizes[2]).wrong is None or full.sizes[2] <= 300
    assert look(since=full.sizes[0]).wrong is not None
    assert run(app, "--since", "3").exit_code == 2


def test_a_checkpoint_from_outside_is_compared_when_given(app: Flask, full: SimpleNamespace, tmp_path: Path) -> None:
    path = tmp_path / "note"
    with reading() as session:
        notes = dict(session.execute(text("SELECT size, note FROM checkpoint")).all())  # type: ignore[arg-type]
        signer = sealing.Signer(sealing.name_of(session), session.config.evidence_seed)
    path.write_text(notes[full.sizes[1]], encoding="utf-8")
    done = run(app, "--against", str(path))
    assert done.exit_code == 0, done.output
    assert f"begins with the {full.sizes[1]} leaves" in done.output
    forgeries = (
        (signer.sign(sealing.Head(signer.verifier.name, full.sizes[1], b"x" * 32).text), "signs other"),
        (signer.sign(sealing.Head(signer.verifier.name, 10**6, b"x" * 32).text), "is over 1000000 leaves"),
        (sealing.Signer("elsewhere", b"x" * 32).sign("elsewhere\n3\nAAAA\n"), "signed by no key"),
        ("rubbish", "signed by no key"),
    )
    for note, word in forgeries:
        path.write_text(note, encoding="utf-8")
        done = run(app, "--against", str(path))
        assert done.exit_code == 1, done.output
        assert word in done.output


def test_nothing_is_wrong_when_events_are_written_and_sealed_meanwhile(app: Flask, full: SimpleNamespace) -> None:
    def more(_count: int) -> None:
        with app.app_context():
            write(3)
            seal()

    for _ in range(3):
        assert look(tell=more).wrong is None
