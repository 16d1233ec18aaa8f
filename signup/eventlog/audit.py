"""The audit of the log: everything is hashed again from the events up, and held against what was signed."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import func, select

from signup.core.db import Session, database, hold_still, reading, transaction
from signup.eventlog import heads, health, notes, paths, sealing, tokens
from signup.eventlog.growing import Growing, Tile
from signup.eventlog.health import Part
from signup.eventlog.leaves import KeysOf, Leaf, Told, Wrong, leaves
from signup.eventlog.merkle import HASH_BYTES, TILE_WIDTH, Tree, TreeDamaged
from signup.eventlog.models import Checkpoint, Event, LogTimestamp
from signup.eventlog.notes import Head, NoteInvalid
from signup.eventlog.sealing import LogDamaged
from signup.eventlog.tokens import TokenInvalid
from signup.jobs import Job

JOB_AUDIT = "evidence.audit"
EVERY_SECONDS = 86_400
# Some ten thousand events a second go by; a log of many years takes an hour or two.
LEASE_SECONDS = 6 * 3600
# A few tiles, some megabytes.
BATCH = 4 * TILE_WIDTH

log = logging.getLogger(__name__)

Tell = Callable[[int], None]


@dataclass
class Report:
    """What was looked at, and what was wrong first.

    Args:
        since: where the walk began; what is below was taken from the tiles, under the checkpoint of that size.
        redacted: fields that are gone by intent.
        unreadable: rows whose person has no key any more.
        unpinned: time stamps whose certificate is not set here, so that only their hash was looked at.
        wrong: None when everything is as it was signed.
    """

    since: int = 0
    size: int = 0
    events: int = 0
    disclosures: int = 0
    redacted: int = 0
    unreadable: int = 0
    checkpoints: int = 0
    stamps: int = 0
    unpinned: int = 0
    wrong: str | None = None


def run(keys_of: KeysOf) -> Callable[[Sequence[Job], Callable[[], datetime]], None]:
    """The nightly job: the outcome is on record, and the operator is told when something is wrong."""

    def nightly(_leased: Sequence[Job], clock: Callable[[], datetime]) -> None:
        report = audit(keys_of)
        with transaction() as session:
            health.note(session, Part.AUDIT, report.wrong, size=report.size, now=clock())
        if report.wrong:
            log.critical("the audit found the log changed", extra={"error": report.wrong})

    return nightly


def audit(keys_of: KeysOf, *, since: int = 0, against: str | None = None, tell: Tell | None = None) -> Report:
    """Everything from `since` on was hashed again and held against tiles, checkpoints and time stamps.

    Memory stays flat: it takes batches, each of one moment, while everybody goes on writing.

    Args:
        keys_of: finds the keys that open what is sealed, by contact id.
        since: a size that has a checkpoint.
        against: a checkpoint that somebody else kept; the log must begin with it.
        tell: called with how many leaves were looked at.

    Returns:
        What was found; the first wrong row is named.

    Raises:
        LogDamaged: there is no checkpoint of the size `since`.

    Rule: RFC 6962 2.1; whoever can write to the database must not be able to change it unseen.
    """
    report = Report(since=since)
    try:
        walk = _Walk(keys_of, report)
        walk.begin()
        while walk.tree.size < report.size:
            walk.step()
            if tell:
                tell(walk.tree.size - since)
        walk.end(against)
    except (Wrong, TreeDamaged) as wrong:
        report.wrong = str(wrong)
    return report


class _Walk:
    """One audit under way."""

    def __init__(self, keys_of: KeysOf, report: Report) -> None:
        self.report = report
        self.tree = Growing()
        self._keys_of = keys_of
        # What the events of the log say of checkpoints and tokens, kept until those were looked up.
        self._told = Told()

    def begin(self) -> None:
        """Where the log ends now, and the tree to begin with."""
        with reading() as session:
            hold_still(session)
            last = sealing.newest(session)
            self.report.size = last.size if last else 0
            top = session.scalar(select(func.max(Event.leaf_index)))
            if top is not None and top >= self.report.size:
                raise Wrong(f"event of leaf {top}: the last checkpoint ends at {self.report.size} leaves")
            if self.report.since:
                self._begin_later(session, self.report.since)

    def _begin_later(self, session: Session, size: int) -> None:
        note = session.scalar(select(Checkpoint.note).where(Checkpoint.size == size))
        if note is None:
            raise LogDamaged(f"there is no checkpoint over {size} leaves")
        self.tree = Growing.from_tiles(sealing.reader(session), size)
        self._check_note(session, size, note)

    def step(self) -> None:
        """One batch of leaves was looked at, with the tiles and checkpoints that end in it."""
        start = self.tree.size
        end = min(start - start % TILE_WIDTH + BATCH, self.report.size)
        with reading() as session:
            hold_still(session)
            signed = select(Checkpoint.size, Checkpoint.note).where(Checkpoint.size > start, Checkpoint.size <= end)
            checkpoints = {row.size: row.note for row in session.execute(signed.order_by(Checkpoint.size))}
            stored = self._stored(session, start, end)
            for leaf in leaves(session, start, end, self._keys_of, self.report):
                self._take(session, leaf, stored)
                if self.tree.size in checkpoints:
                    self._check_note(session, self.tree.size, checkpoints[self.tree.size])
            if self.tree.size < end:
                raise Wrong(f"event of leaf {self.tree.size} is missing; the log goes on to {self.report.size} leaves")
            self._check_stamps(session, start, end, checkpoints)
            self._told.check(session)

    def _stored(self, session: Session, start: int, end: int) -> dict[int, bytes]:
        """The lowest tiles of these leaves."""
        read = sealing.reader(session)
        return {number: read(0, number) for number in range(start // TILE_WIDTH, (end - 1) // TILE_WIDTH + 1)}

    def _take(self, session: Session, leaf: Leaf, stored: dict[int, bytes]) -> None:
        number, offset = divmod(leaf.index, TILE_WIDTH)
        kept = stored[number][offset * HASH_BYTES : (offset + 1) * HASH_BYTES]
        if leaf.wrong or leaf.hash != kept:
            raise Wrong(leaf.wrong or self._blame(session, leaf, kept))
        self._told.note(leaf)
        for tile in self.tree.append(leaf.hash):
            self._check_tile(session, tile)

    def _blame(self, session: Session, leaf: Leaf, kept: bytes) -> str:
        """Event and tile differ: the one that leads to the signed root is right."""
        number = leaf.index // TILE_WIDTH
        tile, event = f"tile 0/{number}", f"event {leaf.id} (leaf {leaf.index})"
        try:
            root = self._signed_root(session)
            path = Tree(sealing.reader(session), self.report.size).inclusion(leaf.index, self.report.size)
        except (TreeDamaged, NoteInvalid, LogDamaged):
            return f"{event} and {tile} differ"
        for held, wrong in ((kept, event), (leaf.hash, tile)):
            if paths.inclusion_root(held, leaf.index, self.report.size, path) == root:
                return f"{wrong} is not what was sealed"
        return f"{tile} is not what was sealed, or {event} and others are not"

    def _signed_root(self, session: Session) -> bytes:
        note = session.execute(select(Checkpoint.note).where(Checkpoint.size == self.report.size)).scalar_one()
        return notes.head_of(note, sealing.verifier_of(session, self.report.size)).root

    def _check_tile(self, session: Session, tile: Tile) -> None:
        level, number, hashes = tile
        kept = sealing.reader(session)(level, number)
        # The last tile of a level may have grown since.
        if kept[: len(hashes)] != hashes:
            raise Wrong(f"tile {level}/{number} is not what was sealed")

    def _check_note(self, session: Session, size: int, note: str) -> None:
        try:
            head = notes.head_of(note, sealing.verifier_of(session, size))
        except (NoteInvalid, LogDamaged) as invalid:
            raise Wrong(f"checkpoint {size}: {invalid}") from invalid
        if (head.size, head.root) != (size, self.tree.root()):
            raise Wrong(f"checkpoint {size} signs another tree than the one of the events")
        self.report.checkpoints += 1

    def _check_stamps(self, session: Session, start: int, end: int, checkpoints: dict[int, str]) -> None:
        query = select(LogTimestamp.size, LogTimestamp.number, LogTimestamp.token, LogTimestamp.authority)
        query = query.where(LogTimestamp.size > start, LogTimestamp.size <= end)
        tsa = session.config.evidence.tsa
        known = {tokens.fingerprint(item) for item in tsa.certificates} if tsa else set()
        for row in session.execute(query.order_by(LogTimestamp.size, LogTimestamp.number)):
            if tsa is None or row.authority not in known:
                self.report.unpinned += 1
                continue
            try:
                # The policy in force today says nothing about a token of before.
                tokens.checked(replace(tsa, policy=None), bytes(row.token), checkpoints[row.size].encode())
            except (TokenInvalid, KeyError) as invalid:
                raise Wrong(f"time stamp {row.number} of checkpoint {row.size}: {invalid}") from invalid
            self.report.stamps += 1

    def end(self, against: str | None) -> None:
        """The unfinished tiles, what this machine signed last, and what somebody else kept."""
        # Read first: what is signed while this goes on is in no moment of ours.
        held = heads.last_signed(database().config)
        with reading() as session:
            hold_still(session)
            for tile in self.tree.unfinished():
                self._check_tile(session, tile)
            last = sealing.newest(session)
            if held:
                heads.check(held, sealing.name_of(session), Tree(sealing.reader(session), last.size if last else 0))
            if against is not None:
                self._check_outside(session, against, Tree(sealing.reader(session), self.report.size))

    def _check_outside(self, session: Session, note: str, tree: Tree) -> None:
        head = outside(session, note)
        if head.size > tree.size:
            raise Wrong(f"the checkpoint from outside is over {head.size} leaves, and the log has {tree.size}")
        if tree.root(head.size) != head.root:
            raise Wrong(f"the checkpoint from outside signs other {head.size} leaves than the first of the log")


def outside(session: Session, note: str) -> Head:
    """What a checkpoint says that somebody else kept.

    Raises:
        Wrong: no key of this log signed it.
    """
    for verifier in sealing.verifiers(session):
        try:
            return notes.head_of(note, verifier)
        except NoteInvalid:
            continue
    raise Wrong("the checkpoint from outside is signed by no key of this log")
