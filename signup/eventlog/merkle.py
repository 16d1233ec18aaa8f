"""The Merkle tree of the log: hashes, proofs, and the tiles it is kept in. Pure; knows no table.

A tile holds up to 256 hashes of one level, eight levels above the tile below it. Only the last tile of each level ever
changes, and no other node is kept: what lies between two tiles is hashed again when a proof needs it.

Rule: RFC 6962 2.1 (the tree, its audit paths and consistency proofs); C2SP tlog-tiles (how it is cut).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

HASH_BYTES = 32
# A tile spans eight levels: 2 ** 8 hashes.
TILE_HEIGHT = 8
TILE_WIDTH = 1 << TILE_HEIGHT
EMPTY_ROOT = hashlib.sha256().digest()

# The bytes of a tile as they are kept, by its level and number; empty when there is none.
ReadTile = Callable[[int, int], bytes]


def leaf_hash(leaf: bytes) -> bytes:
    return hashlib.sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(b"\x01" + left + right).digest()


class TreeDamaged(Exception):
    """The tree is not what it was: a tile is missing, too short or altered."""


class Tree:
    """The tree over `read`; `changed` holds the tiles that `append` made, to be kept by the caller.

    Args:
        size: how many leaves it has.
    """

    def __init__(self, read: ReadTile, size: int) -> None:
        self._read = read
        self._tiles: dict[tuple[int, int], bytes] = {}
        self.size = size
        self.changed: dict[tuple[int, int], bytes] = {}

    def append(self, hashes: Sequence[bytes]) -> None:
        """The leaves with these hashes are the next ones of the tree."""
        start, level = self.size, 0
        self.size += len(hashes)
        added = list(hashes)
        while added:
            start, added = self._append_to_level(level, start, added)
            level += 1

    def _append_to_level(self, level: int, start: int, hashes: list[bytes]) -> tuple[int, list[bytes]]:
        """Where on the level above the full tiles stand, and their roots."""
        full: list[bytes] = []
        first = start // TILE_WIDTH
        while hashes:
            number, held = divmod(start, TILE_WIDTH)
            room = TILE_WIDTH - held
            before = self._tile(level, number, held)
            if len(before) > held * HASH_BYTES:
                raise TreeDamaged(f"tile {level}/{number} holds more than the {held} hashes of the tree")
            tile = before + b"".join(hashes[:room])
            self._tiles[level, number] = self.changed[level, number] = tile
            start, hashes = start + min(room, len(hashes)), hashes[room:]
            if len(tile) == TILE_WIDTH * HASH_BYTES:
                full.append(root_of(split(tile)))
        return first, full

    def root(self, size: int | None = None) -> bytes:
        """The root over the first `size` leaves; over all of them if not given."""
        size = self.size if size is None else size
        return self._range(0, size) if size else EMPTY_ROOT

    def inclusion(self, index: int, size: int) -> list[bytes]:
        """The audit path of the leaf `index`, counted from 0, in the tree of `size` leaves.

        Rule: RFC 6962 2.1.1.
        """
        if not 0 <= index < size <= self.size:
            raise ValueError(f"no leaf {index} in a tree of {size}")
        return self._path(index, 0, size)

    def consistency(self, old: int, new: int) -> list[bytes]:
        """The proof that the tree of `new` leaves begins with the one of `old`.

        Rule: RFC 6962 2.1.2.
        """
        if not 0 <= old <= new <= self.size:
            raise ValueError(f"no trees of {old} and {new} leaves")
        return [] if old in (0, new) else self._subproof(old, 0, new, whole=True)

    def _path(self, index: int, start: int, end: int) -> list[bytes]:
        if end - start == 1:
            return []
        middle = start + _split_at(end - start)
        if index < middle:
            return [*self._path(index, start, middle), self._range(middle, end)]
        return [*self._path(index, middle, end), self._range(start, middle)]

    def _subproof(self, old: int, start: int, end: int, *, whole: bool) -> list[bytes]:
        if old == end:
            return [] if whole else [self._range(start, end)]
        middle = start + _split_at(end - start)
        if old <= middle:
            return [*self._subproof(old, start, middle, whole=whole), self._range(middle, end)]
        return [*self._subproof(old, middle, end, whole=False), self._range(start, middle)]

    def _range(self, start: int, end: int) -> bytes:
        """The hash over the leaves from `start` to before `end`, a range that the recursion of the RFC meets."""
        width = end - start
        if width & (width - 1) == 0:
            return self._perfect(width.bit_length() - 1, start)
        middle = start + _split_at(width)
        return node_hash(self._range(start, middle), self._range(middle, end))

    def _perfect(self, height: int, start: int) -> bytes:
        """The hash of the perfect subtree of this height that begins with the leaf `start`."""
        level, above = divmod(height, TILE_HEIGHT)
        first = start >> (level * TILE_HEIGHT)
        number, offset = divmod(first, TILE_WIDTH)
        count = 1 << above
        tile = self._tile(level, number, offset + count)
        return root_of(split(tile[offset * HASH_BYTES : (offset + count) * HASH_BYTES]))

    def _tile(self, level: int, number: int, needed: int) -> bytes:
        """At least the first `needed` hashes of a tile; when more are kept, a tree of before can be asked too."""
        tile = self._tiles.get((level, number))
        if tile is None:
            tile = self._tiles[level, number] = self._read(level, number) if needed else b""
        if len(tile) < needed * HASH_BYTES:
            raise TreeDamaged(f"tile {level}/{number} holds {len(tile) // HASH_BYTES} hashes, not {needed}")
        return tile


def _split_at(width: int) -> int:
    """The largest power of two below `width`."""
    return 1 << ((width - 1).bit_length() - 1)


def split(tile: bytes) -> list[bytes]:
    return [tile[start : start + HASH_BYTES] for start in range(0, len(tile), HASH_BYTES)]


def root_of(hashes: list[bytes]) -> bytes:
    """The root over a power of two of hashes."""
    while len(hashes) > 1:
        hashes = [node_hash(hashes[at], hashes[at + 1]) for at in range(0, len(hashes), 2)]
    return hashes[0]
