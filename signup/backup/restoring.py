"""Putting a backup in place: made whole beside the empty database, brought up to date about who left, then moved in."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import msgspec
from flask_migrate import upgrade
from sqlalchemy import Column, Connection, LargeBinary, MetaData, String, Table, func, insert, select

from signup.backup import rules, settling
from signup.backup.archive import Reader
from signup.backup.rules import Kind, Part
from signup.backup.saving import Job
from signup.contacts.models import Contact, DataKey
from signup.core import snapshot
from signup.core.db import Session, database, reading, transaction
from signup.core.errors import Conflict, Invalid
from signup.core.signing import Keys
from signup.core.snapshot import BATCH_ROWS
from signup.core.values import OPERATOR, rfc3339
from signup.eventlog import sealing
from signup.eventlog.kinds import EventType
from signup.eventlog.models import Event
from signup.eventlog.record import record
from signup.reports import queries

# Holds the keys while rows are opened. No table of ours: the schema may be one of an earlier day at that time.
HELD_KEYS = Table(
    "restore_key",
    MetaData(),
    Column("contact_id", String(40), primary_key=True),
    Column("wrapped", LargeBinary, nullable=False),
)


@dataclass
class Outcome:
    """What a restore did."""

    rows: dict[str, int] = field(default_factory=dict)
    settled: settling.Settled = field(default_factory=settling.Settled)
    warnings: list[str] = field(default_factory=list)
    log_name: str = ""


def restore(job: Job, data: Reader, keys: Reader, *, now: datetime) -> Outcome:
    """The database is the backed up one, without those who were erased since and with all who left since as gone.

    Until the last step nobody sees anything of it; a restore that dies leaves the database empty.

    Raises:
        Invalid: the files are damaged, or do not fit each other, this program or our secrets.
        Conflict: the database is not empty.

    Rule: GDPR 17 and 21(3) outlive a restore; GDPR 32(1)(c).
    """
    outcome = Outcome(warnings=check(job, data, keys))
    with snapshot.workshop() as ours:
        # Rows go in as they were; what changed since is done to them by the migrations, as on any other database.
        upgrade(revision=data.manifest.revision)
        with database().engine.begin() as connection:
            HELD_KEYS.create(connection)
            _load(job, connection, keys, keys.part("data_key"), into=HELD_KEYS.name)
        for part in data.manifest.parts:
            with database().engine.begin() as connection:
                outcome.rows[part.table] = _load(job, connection, data, part, into=part.table)
        upgrade()
        outcome.rows["data_key"] = _keep_keys()
        snapshot.settle_statistics()
        outcome.settled = settling.settle(keys, now=now)
        with transaction() as session:
            _tell(session, data.manifest.created_at, outcome, now=now)
        snapshot.put_in_place(ours)
    return outcome


def replay(job: Job, keys: Reader, *, now: datetime) -> Outcome:
    """The database, brought back by other means, knows who was erased and who left until the keys file was made.

    It is done in small commits, and may be done again.

    Raises:
        Invalid: the file is damaged, is not of this installation, or is older than the database.

    Rule: GDPR 17 and 21(3) outlive a restore.
    """
    rules.check_kind(keys.manifest, Kind.KEYS, newest_revision=queries.newest_migration())
    outcome = Outcome(warnings=rules.check_secrets([keys.manifest], rules.inventory(job.config)))
    keys.check()
    with reading() as session:
        if queries.current_migration(session) != queries.newest_migration():
            raise Conflict("The database is at another migration than this program: run flask db upgrade.")
        newest = session.scalar(select(func.max(Event.occurred_at)))
    rules.check_age(keys.manifest, newest)
    outcome.settled = settling.settle(keys, now=now)
    with transaction() as session:
        _tell(session, None, outcome, now=now)
    return outcome


def check(job: Job, data: Reader, keys: Reader) -> list[str]:
    """Everything that can be known beforehand is in order; nothing was written.

    Returns:
        What differs without being in the way.

    Raises:
        Invalid: see `restore`.
        Conflict: the database is not empty.
    """
    manifests = (data.manifest, keys.manifest)
    rules.check_pair(*manifests, newest_revision=queries.newest_migration())
    warnings = rules.check_secrets(manifests, rules.inventory(job.config))
    with database().engine.connect() as connection:
        filled = snapshot.filled_tables(connection)
    if filled:
        raise Conflict(f"The database is not empty (it has rows in {', '.join(filled[:3])}): restore into a new one.")
    for reader in (data, keys):
        reader.check()
    return warnings


def _load(job: Job, connection: Connection, reader: Reader, part: Part, *, into: str) -> int:
    columns, written = [*part.columns, *part.sealed], 0
    for lines in reader.lines(part, BATCH_ROWS):
        batch = (
            list(_opened(job.keys, connection, part, lines)) if part.sealed else [_plain(part, line) for line in lines]
        )
        snapshot.write(connection, into, columns, batch)
        written += len(batch)
        job.tell(into, written)
    return written


def _plain(part: Part, line: Sequence[Any]) -> list[Any]:
    return [_stored(way, value) for way, value in zip(part.columns.values(), line, strict=False)]


def _stored(way: str, value: Any) -> Any:
    return b64decode(value) if way == "bytes" and value is not None else value


def _opened(keys: Keys, connection: Connection, part: Part, lines: Sequence[Sequence[Any]]) -> Iterator[list[Any]]:
    owners = {line[-2] for line in lines if line[-2] is not None}
    found = connection.execute(select(HELD_KEYS).where(HELD_KEYS.c.contact_id.in_(owners)))
    wrapped = {row.contact_id: row.wrapped for row in found}
    ways = part.sealed.items()
    for line in lines:
        owner, cell = line[-2:]
        if isinstance(cell, str) and owner in wrapped:
            cell = _unsealed(keys, wrapped[owner], cell)
        values = cell if isinstance(cell, list) else [rules.blank(name) for name in part.sealed]
        yield [*_plain(part, line), *(_stored(way, value) for (_, way), value in zip(ways, values, strict=True))]


def _unsealed(keys: Keys, wrapped: bytes, cell: str) -> Any:
    try:
        return msgspec.json.decode(keys.unseal(keys.unwrap(wrapped), b64decode(cell)))
    except ValueError:
        raise Invalid("A row does not open with the keys of the keys file: nothing was restored.") from None


def _keep_keys() -> int:
    """The keys of the people we hold are where they belong; those of others are not kept.

    Returns:
        How many are kept.
    """
    here = select(HELD_KEYS.c.contact_id, HELD_KEYS.c.wrapped).where(HELD_KEYS.c.contact_id.in_(select(Contact.id)))
    with database().engine.begin() as connection:
        connection.execute(insert(DataKey).from_select(["contact_id", "wrapped"], here))
        HELD_KEYS.drop(connection)
        return connection.scalar(select(func.count()).select_from(DataKey)) or 0


def _tell(session: Session, snapshot_at: datetime | None, outcome: Outcome, *, now: datetime) -> None:
    """The restore is on record: of when the rows are, and what had to be done again.

    What was sealed after that moment may be in the hands of others, so the log goes on under another name.
    """
    outcome.log_name = sealing.rename(session, now=now)
    fields = {"snapshot_at": rfc3339(snapshot_at) if snapshot_at else None, "counts": outcome.settled.counts}
    record(session, None, EventType.BACKUP_RESTORED, fields, now=now, actor=OPERATOR)
