"""Sealing: what was written since the last time gets its place in the log, under a new signed checkpoint."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Row, bindparam, func, select, update

from signup.core.config import Config
from signup.core.db import Prepared, Session, database, reading, transaction
from signup.eventlog import heads, health, merkle, notes
from signup.eventlog.health import Part
from signup.eventlog.kinds import EventType
from signup.eventlog.merkle import Tree, TreeDamaged
from signup.eventlog.models import Checkpoint, Event, LogKey, LogTile, LogTimestamp
from signup.eventlog.notes import Head, NoteInvalid, Signer, Verifier
from signup.eventlog.record import record
from signup.jobs import Job

JOB_SEAL = "evidence.seal"
# One batch holds the writers' lock on SQLite; this many take some fifty milliseconds.
BATCH = 1000
# A run ends soon enough for a worker that is told to stop.
MOST_BATCHES = 100
# Two workers must not seal at once; SQLite has its one writer for that.
ADVISORY_LOCK = 0x516A

log = logging.getLogger(__name__)


class LogDamaged(Exception):
    """The log is not what its last checkpoint says, so nothing is signed. The message names what differs."""


@dataclass(frozen=True)
class Sealed:
    """One batch.

    Args:
        size: leaves in the log now.
        count: how many of them are new.
        note: the checkpoint over them.
    """

    size: int
    count: int
    note: str


def run(_leased: Sequence[Job], clock: Callable[[], datetime]) -> None:
    """What waits is sealed, in commits of one batch each; after a very long pause the rest at the next run.

    When the log differs from what was signed, nothing is signed any more, and the operator is told at once.
    """
    trouble = None
    try:
        for _ in range(MOST_BATCHES):
            done = seal_now(clock)
            if done is None or done.count < BATCH:
                break
    except LogDamaged as damage:
        trouble = str(damage)
        log.critical("the log is damaged, nothing is sealed", extra={"error": trouble})
    _tell(trouble, clock)


def _tell(trouble: str | None, clock: Callable[[], datetime]) -> None:
    """Trouble is on record, and so is its end."""
    with reading() as session:
        before = health.of(session).get(Part.SEAL)
        last = newest(session)
    if trouble or (before and before.trouble):
        with transaction() as session:
            health.note(session, Part.SEAL, trouble, size=last.size if last else 0, now=clock())


def pause(config: Config) -> float:
    """Seconds between two runs."""
    return config.evidence.seal_seconds


def seal_now(clock: Callable[[], datetime]) -> Sealed | None:
    """One batch is sealed and committed; None when nothing waits or somebody else is at it.

    Raises:
        LogDamaged: the log differs from its last checkpoint.
    """
    with transaction() as session:
        done = seal(session, now=clock())
    if done:
        try:
            heads.remember(database().config, done.note)
        except OSError:
            # It is sealed; only a later rollback would go unnoticed by this machine.
            log.exception("what was signed could not be kept beside the database")
    return done


def seal(session: Session, *, now: datetime, limit: int = BATCH) -> Sealed | None:
    """Up to `limit` events that wait have their place in the log for good, and a checkpoint signs it.

    Nobody who writes events waits for this: a place is given afterwards, here alone. The first leaf of a batch names
    the checkpoint before and its time stamps, so each seal holds the ones before it.

    Returns:
        None when nothing waits, or another process is sealing.

    Raises:
        LogDamaged: the log differs from its last checkpoint; nothing is written.

    Rule: RFC 6962 2.1; C2SP tlog-checkpoint (a log never signs two trees that contradict each other).
    """
    if not _alone(session):
        return None
    waiting = _waiting(session, limit)
    if not waiting:
        return None
    last = newest(session)
    tree = checked_tree(session, last)
    _check_own(session, tree)
    if last is not None:
        waiting = [_link(session, last, now=now), *waiting]
    tree.append([merkle.leaf_hash(leaf) for _, leaf in waiting])
    first = tree.size - len(waiting)
    for index, (ident, _) in enumerate(waiting, start=first):
        session.change(Event, {"id": ident}, {"leaf_index": index})
    for (level, number), hashes in tree.changed.items():
        row = {"level": level, "number": number, "hashes": hashes}
        session.put(LogTile, row, on_conflict="ON CONFLICT (level, number) DO UPDATE SET hashes = excluded.hashes")
    signer = _signer(session, size=first, now=now)
    note = signer.sign(Head(signer.verifier.name, tree.size, tree.root()).text)
    session.put(Checkpoint, {"size": tree.size, "note": note, "created_at": now})
    return Sealed(tree.size, len(waiting), note)


def newest(session: Session) -> Row[int, str] | None:
    """Size and note of the newest checkpoint."""
    return session.execute(select(Checkpoint.size, Checkpoint.note).order_by(Checkpoint.size.desc()).limit(1)).first()


def checked_tree(session: Session, last: Row[int, str] | None) -> Tree:
    """The tree as it is kept, which is the one that `last` signed.

    Raises:
        LogDamaged: it is not, or events were sealed that no checkpoint knows.
    """
    size = last.size if last is not None else 0
    top = session.scalar(select(func.max(Event.leaf_index)))
    if (-1 if top is None else top) + 1 != size:
        raise LogDamaged(f"the last checkpoint is over {size} leaves, and the events go on to {top}")
    tree = Tree(reader(session), size)
    if last is not None:
        _check_head(session, last, tree)
    return tree


def _check_head(session: Session, last: Row[int, str], tree: Tree) -> None:
    try:
        head = notes.head_of(last.note, verifier_of(session, last.size))
        root = tree.root()
    except (NoteInvalid, TreeDamaged) as damage:
        raise LogDamaged(f"checkpoint {last.size}: {damage}") from damage
    if (head.size, head.root) != (last.size, root):
        raise LogDamaged(f"checkpoint {last.size}: the tree has another root than the one it signs")


def _check_own(session: Session, tree: Tree) -> None:
    """The tree does not contradict what this machine signed before."""
    try:
        held = heads.last_signed(session.config)
        if held:
            heads.check(held, name_of(session), tree)
    except TreeDamaged as damage:
        raise LogDamaged(f"{damage}; flask evidence new-name goes on from here") from damage


def reader(session: Session) -> merkle.ReadTile:
    """Reads tiles as they are kept."""

    def read(level: int, number: int) -> bytes:
        found = session.rows(_TILE, {"level": level, "number": number})
        return bytes(found[0][0]) if found else b""

    return read


_TILE = Prepared(
    select(LogTile.hashes).where(LogTile.level == bindparam("level"), LogTile.number == bindparam("number"))
)


def verifier_of(session: Session, size: int) -> Verifier:
    """The key that signs a checkpoint over `size` leaves.

    Raises:
        LogDamaged: there is none.
    """
    query = select(LogKey.name, LogKey.public_key).where(LogKey.first_size < size)
    row = session.execute(query.order_by(LogKey.first_size.desc()).limit(1)).first()
    if row is None:
        raise LogDamaged(f"no key is known that signs a checkpoint over {size} leaves")
    return Verifier(row.name, bytes(row.public_key))


def verifiers(session: Session) -> list[Verifier]:
    """Every key that signed, oldest first."""
    rows = session.execute(select(LogKey.name, LogKey.public_key).order_by(LogKey.first_size))
    return [Verifier(row.name, bytes(row.public_key)) for row in rows]


def _signer(session: Session, *, size: int, now: datetime) -> Signer:
    """What signs from now on; a key that is new to the log is noted with the first leaf that it signs."""
    row = session.execute(_NEWEST_KEY).first()
    signer = Signer(row.name if row is not None else origin_of(session.config), session.config.evidence_seed)
    if row is None or bytes(row.public_key) != signer.verifier.public_key:
        _note_key(session, signer.verifier, size=size, now=now)
    return signer


def _note_key(session: Session, key: Verifier, *, size: int, now: datetime) -> None:
    """The key signs from here on; one that was to sign from here on and never did is forgotten."""
    row = {"first_size": size, "name": key.name, "public_key": key.public_key, "created_at": now}
    update = ", ".join(f"{column} = excluded.{column}" for column in ("name", "public_key", "created_at"))
    session.put(LogKey, row, on_conflict=f"ON CONFLICT (first_size) DO UPDATE SET {update}")


_NEWEST_KEY = select(LogKey.name, LogKey.public_key).order_by(LogKey.first_size.desc()).limit(1)


def name_of(session: Session) -> str:
    """The name under which the log is signed now."""
    row = session.execute(_NEWEST_KEY).first()
    return row.name if row is not None else origin_of(session.config)


def rename(session: Session, *, now: datetime) -> str:
    """The log goes on under a name that is new, because its database was put back to an earlier state.

    What was signed after that state is lost here, and may be in the hands of others. Under the old name anything
    signed from now on would contradict it.

    Returns:
        The name.

    Rule: C2SP tlog-checkpoint (a log never signs two trees that contradict each other).
    """
    last = newest(session)
    signer = Signer(heads.later_name(name_of(session), now=now), session.config.evidence_seed)
    _note_key(session, signer.verifier, size=last.size if last is not None else 0, now=now)
    return signer.verifier.name


def origin_of(config: Config) -> str:
    """The name of the log, chosen when it begins: a URL without its scheme, as logs are named."""
    return f"{config.public_url.partition('://')[2].rstrip('/')}/evidence"


def _alone(session: Session) -> bool:
    if session.get_bind().dialect.name != "postgresql":
        return True
    return bool(session.scalar(select(func.pg_try_advisory_xact_lock(ADVISORY_LOCK))))


def _waiting(session: Session, limit: int) -> list[tuple[str, bytes]]:
    query = select(Event.id, Event.leaf).where(Event.leaf_index.is_(None))
    rows = session.execute(query.order_by(Event.occurred_at, Event.id).limit(limit))
    return [(ident, bytes(leaf)) for ident, leaf in rows]


def _link(session: Session, last: Row[int, str], *, now: datetime) -> tuple[str, bytes]:
    """The event that names the checkpoint before and every time stamp that came since."""
    stamps = session.execute(
        select(LogTimestamp.size, LogTimestamp.token)
        .where(~LogTimestamp.linked)
        .order_by(LogTimestamp.size, LogTimestamp.number)
    ).all()
    fields = {
        "log_size": last.size,
        "note_sha256": hashlib.sha256(last.note.encode()).hexdigest(),
        "timestamps": [{"size": size, "sha256": hashlib.sha256(token).hexdigest()} for size, token in stamps] or None,
    }
    ident = record(session, None, EventType.LOG_SEALED, fields, now=now)
    if stamps:
        linked = update(LogTimestamp).where(~LogTimestamp.linked).values(linked=True)
        session.execute(linked.execution_options(synchronize_session=False))
    leaf = session.scalar(select(Event.leaf).where(Event.id == ident))
    assert leaf is not None  # noqa: S101 - it was written above
    return ident, bytes(leaf)
