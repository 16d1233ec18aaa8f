"""How an event is sealed: its place in the log, and what stood in the log before it."""

from __future__ import annotations

from base64 import b64encode
from functools import cached_property

from msgspec import Struct
from sqlalchemy import Row, Select, select

from signup.core.db import Session
from signup.eventlog import merkle, notes, sealing
from signup.eventlog.models import Checkpoint, LogTimestamp


class Previous(Struct):
    """A checkpoint that does not hold the event yet, and the proof that the later one only adds to it."""

    note: str
    tsr: str | None
    consistency: list[str]


class Seal(Struct):
    """The proof that an event is in the log, under a checkpoint and its time stamp."""

    tlog_proof: str
    tsr: str | None
    previous: Previous | None


class Seals:
    """Proofs from one state of the log; each takes as many reads as the log has levels."""

    def __init__(self, session: Session) -> None:
        self._session = session
        self._notes: dict[int, str] = {}

    @cached_property
    def _tree(self) -> merkle.Tree:
        last = sealing.newest(self._session)
        return merkle.Tree(sealing.reader(self._session), last.size if last else 0)

    def of(self, index: int | None) -> Seal | None:
        """The proof of the event at this place of the log; None while it waits for one.

        The checkpoint is the first that holds the event and has a time stamp, so that the time is told as closely as
        anybody else can vouch for it; the one before likewise, from the other side.

        Rule: C2SP tlog-proof; RFC 6962 2.1.1 and 2.1.2.
        """
        if index is None:
            return None
        size, token = self._first_above(index)
        proof = notes.proof_text(index, self._tree.inclusion(index, size), self._note(size))
        return Seal(proof, _b64(token), self._previous(index, size))

    def _previous(self, index: int, size: int) -> Previous | None:
        before = self._last_below(index)
        if before is None:
            return None
        old, token = before
        return Previous(self._note(old), _b64(token), [_text(item) for item in self._tree.consistency(old, size)])

    def _first_above(self, index: int) -> tuple[int, bytes | None]:
        stamped = _STAMPS.where(LogTimestamp.size > index).order_by(LogTimestamp.size, LogTimestamp.number)
        if found := self._first(stamped):
            return found.size, found.token
        size = self._session.scalar(
            select(Checkpoint.size).where(Checkpoint.size > index).order_by(Checkpoint.size).limit(1)
        )
        if size is None:
            raise sealing.LogDamaged(f"no checkpoint is over the leaf {index}, which is in the log")
        return size, None

    def _last_below(self, index: int) -> tuple[int, bytes | None] | None:
        stamped = _STAMPS.where(LogTimestamp.size <= index).order_by(LogTimestamp.size.desc(), LogTimestamp.number)
        if found := self._first(stamped):
            return found.size, found.token
        size = self._session.scalar(
            select(Checkpoint.size).where(Checkpoint.size <= index).order_by(Checkpoint.size.desc()).limit(1)
        )
        return None if size is None else (size, None)

    def _first(self, query: Select[int, bytes]) -> Row[int, bytes] | None:
        return self._session.execute(query.limit(1)).first()

    def _note(self, size: int) -> str:
        if size not in self._notes:
            self._notes[size] = self._session.execute(
                select(Checkpoint.note).where(Checkpoint.size == size)
            ).scalar_one()
        return self._notes[size]


_STAMPS = select(LogTimestamp.size, LogTimestamp.token)


def _text(content: bytes) -> str:
    return b64encode(content).decode()


def _b64(token: bytes | None) -> str | None:
    return None if token is None else _text(token)
