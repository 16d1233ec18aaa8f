"""The file of a backup: one part a table, a manifest at the end, whole or not there."""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import msgspec

from signup.backup.rules import FORMAT, Manifest, Part
from signup.core.errors import Invalid

MANIFEST = "manifest.json"
UNFINISHED = ".part"
# Sealed bytes do not get smaller; names and times do, and the first level finds them.
LEVEL = 1
CHUNK_BYTES = 1 << 20


class Writer:
    """A backup that is being written under a name that nobody restores from."""

    def __init__(self, file: IO[bytes]) -> None:
        self._zip = zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=LEVEL)

    @contextmanager
    def part(self, part: Part) -> Iterator[PartWriter]:
        """Lines for one table; their number and hash are in `part` afterwards."""
        with self._zip.open(f"{part.table}.jsonl", "w", force_zip64=True) as target:
            writer = PartWriter(target)
            yield writer
        part.rows, part.sha256 = writer.rows, writer.sha256

    def finish(self, manifest: Manifest) -> None:
        self._zip.writestr(MANIFEST, msgspec.json.format(msgspec.json.encode(manifest)))
        self._zip.close()

    def abandon(self) -> None:
        """Nothing more is written, not even an end."""
        self._zip.fp = None


class PartWriter:
    """Counts and hashes what goes through it."""

    def __init__(self, target: IO[bytes]) -> None:
        self._target = target
        self._digest = hashlib.sha256()
        self._encoder = msgspec.json.Encoder()
        self.rows = 0

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()

    def add(self, lines: list[list[Any]]) -> None:
        text = self._encoder.encode_lines(lines)
        self._digest.update(text)
        self._target.write(text)
        self.rows += len(lines)


@contextmanager
def writing(folder: Path, name: str) -> Iterator[Writer]:
    """A file `name` is in `folder` when the block ends well, on the disk and readable by its owner only."""
    _clear_unfinished(folder)
    unfinished = folder / f".{name}.{secrets.token_hex(4)}{UNFINISHED}"
    descriptor = os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "w+b") as file:
            # Held while this process lives: another backup can tell a file in the making from a dead one's.
            fcntl.flock(file, fcntl.LOCK_EX)
            writer = Writer(file)
            try:
                yield writer
            except BaseException:
                writer.abandon()
                raise
            file.flush()
            os.fsync(file.fileno())
            # A link fails where a rename would silently replace what is there.
            (folder / name).hardlink_to(unfinished)
    finally:
        unfinished.unlink(missing_ok=True)
    _sync(folder)


def _clear_unfinished(folder: Path) -> None:
    """What killed backups left behind is gone; one that is being written stays."""
    for path in folder.glob(f".signup-*{UNFINISHED}"):
        with suppress(OSError), path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


class Reader:
    """A backup that was opened; `check` reads all of it once.

    Raises:
        Invalid: it is no backup of ours.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._zip = zipfile.ZipFile(path)
            self.manifest = msgspec.json.decode(self._zip.read(MANIFEST), type=Manifest)
        except OSError as error:
            raise Invalid(f"{path} cannot be read: {error.strerror}.") from None
        except (zipfile.BadZipFile, zlib.error, KeyError, EOFError, msgspec.MsgspecError):
            raise Invalid(f"{path} is not a whole backup of Signup.") from None
        if self.manifest.format != FORMAT:
            raise Invalid(f"{path} is of the format {self.manifest.format!r}, which this program does not know.")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        self._zip.close()

    def part(self, table: str) -> Part:
        return next(part for part in self.manifest.parts if part.table == table)

    def check(self) -> None:
        """Every part is as it was written.

        Raises:
            Invalid: names the first that is not.
        """
        for part in self.manifest.parts:
            digest, lines = hashlib.sha256(), 0
            try:
                with self._zip.open(f"{part.table}.jsonl") as source:
                    while chunk := source.read(CHUNK_BYTES):
                        digest.update(chunk)
                        lines += chunk.count(b"\n")
            except (zipfile.BadZipFile, zlib.error, KeyError, OSError, EOFError):
                raise Invalid(f"{self.path}: the part {part.table} cannot be read.") from None
            if digest.hexdigest() != part.sha256 or lines != part.rows:
                raise Invalid(f"{self.path}: the part {part.table} is not what was written.")

    def lines(self, part: Part, batch: int) -> Iterator[list[list[Any]]]:
        """The rows of one part, `batch` at a time."""
        decoder = msgspec.json.Decoder(list[Any])
        with self._zip.open(f"{part.table}.jsonl") as source:
            held = []
            for line in source:
                held.append(decoder.decode(line))
                if len(held) == batch:
                    yield held
                    held = []
            if held:
                yield held
