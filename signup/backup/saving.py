"""Making a backup: the whole database at one moment, while everybody goes on writing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec
from sqlalchemy import Connection, Select, Table, column, func, select, table

import signup
from signup.backup import archive, rules
from signup.backup.archive import Writer
from signup.backup.rules import LEFT_OUT, SEALED, Kind, Manifest, Part
from signup.core.config import Config
from signup.core.db import Base
from signup.core.errors import Conflict
from signup.core.signing import Keys
from signup.core.snapshot import one_moment, plain_table, rows
from signup.core.values import rfc3339
from signup.reports import queries

# Called with the name of a part and how many of its rows are written.
Tell = Callable[[str, int], None]

# Not tables: how subscriptions and topics ended, so that a restored database knows of it even if its rows are older.
ENDED = {"contact_id": "text", "reason": "text", "ended_at": "time"}
WITHDRAWN = {"contact_id": "text", "purpose_id": "text", "ended_at": "time"}


@dataclass(frozen=True)
class Saved:
    """A file that was written."""

    path: Path
    rows: int
    bytes: int


@dataclass(frozen=True)
class _Source:
    """Where the rows of a part come from.

    Args:
        query: the plain columns; for a part with sealed cells, then the open values, owner and wrapped key.
    """

    part: Part
    query: Select[Any]


@dataclass(frozen=True)
class Job:
    """What a backup is made with."""

    config: Config
    keys: Keys
    tell: Tell


def save(job: Job, folder: Path, kinds: Sequence[Kind], *, now: datetime) -> list[Saved]:
    """The files of these kinds are in `folder`, all of one moment.

    Raises:
        Conflict: the database is not at this program's migration, or its keys do not open with our secrets.

    Rule: GDPR 32(1)(c), restore in time; GDPR 17, what was erased is unreadable in every data file as soon as the
        keys files of before are gone.
    """
    saved = []
    with one_moment() as connection:
        revision = connection.scalar(select(column("version_num")).select_from(table("alembic_version")))
        if revision != queries.newest_migration():
            raise Conflict(f"The database is at migration {revision}: run flask db upgrade.")
        head = Manifest(
            format=rules.FORMAT,
            kind=Kind.KEYS,
            created_at=now,
            software=signup.__version__,
            revision=revision,
            keys=rules.inventory(job.config),
            parts=[],
            last_seq=connection.scalar(select(func.max(column("seq"))).select_from(table("publication"))) or 0,
        )
        # The keys first: they are of use without the data file, the data file is of none without them.
        for kind in sorted(kinds, key=lambda kind: kind is Kind.DATA):
            sources = list(_data_sources() if kind is Kind.DATA else _keys_sources())
            manifest = msgspec.structs.replace(head, kind=kind, parts=[source.part for source in sources])
            saved.append(_write_file(job, connection, folder, manifest, sources))
    return saved


def _write_file(
    job: Job, connection: Connection, folder: Path, manifest: Manifest, sources: Sequence[_Source]
) -> Saved:
    name = rules.file_name(manifest.kind, manifest.created_at)
    with archive.writing(folder, name) as writer:
        for source in sources:
            _write_part(job, connection, writer, source)
        writer.finish(manifest)
    path = folder / name
    return Saved(path, sum(part.rows for part in manifest.parts), path.stat().st_size)


def _write_part(job: Job, connection: Connection, writer: Writer, source: _Source) -> None:
    part = source.part
    with writer.part(part) as target:
        for batch in rows(connection, source.query):
            target.add([_line(job.keys, part, row) for row in batch])
            job.tell(part.table, target.rows)


def _line(keys: Keys, part: Part, row: Sequence[Any]) -> list[Any]:
    line = [_neutral(way, value) for way, value in zip(part.columns.values(), row, strict=False)]
    if not part.sealed:
        return line
    start = len(part.columns)
    opened = [
        _neutral(way, value)
        for way, value in zip(part.sealed.values(), row[start : start + len(part.sealed)], strict=True)
    ]
    owner, wrapped = row[-2:]
    return [*line, owner, _cell(keys, opened, owner, wrapped)]


def _neutral(way: str, value: Any) -> Any:
    """The value as both databases can be told it; bytes become base64 in the JSON."""
    if way == "time" and isinstance(value, datetime):
        return rfc3339(value)
    return bool(value) if way == "bool" and value is not None else value


def _cell(keys: Keys, opened: list[Any], owner: str | None, wrapped: bytes | None) -> Any:
    """The values under their owner's key; as they are when they are about nobody, and nothing when the key is lost."""
    if owner is None:
        return opened
    if wrapped is None:
        return None
    try:
        data_key = keys.unwrap(wrapped)
    except ValueError:
        raise Conflict("SIGNUP_DATA_KEY does not open this database: nothing was saved.") from None
    return keys.seal(data_key, msgspec.json.encode(opened))


def _data_sources() -> Iterator[_Source]:
    for model in Base.metadata.sorted_tables:
        if model.name in LEFT_OUT:
            continue
        ways = rules.columns_of(model.columns)
        hidden = {name: ways.pop(name) for name in SEALED.get(model.name, ())}
        part = Part(str(model.name), ways, hidden)
        query = _owned(model, [*ways, *hidden]) if hidden else select(*_plain(model.name, ways).columns)
        yield _Source(part, query)


def _plain(name: str, columns: Any) -> Any:
    return plain_table(name, columns)


def _owned(model: Table, columns: Sequence[str]) -> Select[Any]:
    """The columns, whose they are, and the wrapped key of that person."""
    key, held = _plain("data_key", ["contact_id", "wrapped"]), _plain(model.name, {*columns, "id"})
    if model.name == "contact":
        owner, source = held.c.id, held
    elif model.name == "attempt":
        delivery = _plain("delivery", ["id", "publication_id"])
        publication = _plain("publication", ["id", "contact_id"])
        source = held.outerjoin(delivery, delivery.c.id == held.c.delivery_id).outerjoin(
            publication, publication.c.id == delivery.c.publication_id
        )
        owner = publication.c.contact_id
    else:
        owner, source = held.c.contact_id, held
    return select(*(held.c[name] for name in columns), owner.label("owner"), key.c.wrapped).select_from(
        source.outerjoin(key, key.c.contact_id == owner)
    )


def _keys_sources() -> Iterator[_Source]:
    for name in ("data_key", "erasure", "suppression"):
        ways = rules.columns_of(Base.metadata.tables[name].columns)
        yield _Source(Part(name, ways, {}), select(*_plain(name, ways).columns))
    subscription = _plain("subscription", ["contact_id", "end_reason", "ended_at", "status"])
    yield _Source(
        Part("ended", ENDED, {}),
        select(subscription.c.contact_id, subscription.c.end_reason, subscription.c.ended_at).where(
            subscription.c.status.in_(("ended", "refused"))
        ),
    )
    consent = _plain("consent", ["contact_id", "purpose_id", "ended_at", "state"])
    yield _Source(
        Part("withdrawn", WITHDRAWN, {}),
        select(consent.c.contact_id, consent.c.purpose_id, consent.c.ended_at).where(consent.c.state == "withdrawn"),
    )


def expected(kinds: Sequence[Kind]) -> int:
    """How many rows files of these kinds would have now."""
    with one_moment() as connection:
        sources = [*(_data_sources() if Kind.DATA in kinds else ()), *(_keys_sources() if Kind.KEYS in kinds else ())]
        return sum(
            connection.scalar(select(func.count()).select_from(table(source.part.table))) or 0
            for source in sources
            if source.part.table in Base.metadata.tables
        )
