"""A tree that is only walked: it grows leaf by leaf and holds no more than its unfinished tiles. Pure; knows no table.

Rule: RFC 6962 2.1; C2SP tlog-tiles.
"""

from __future__ import annotations

from collections.abc import Sequence

from signup.eventlog.merkle import EMPTY_ROOT, HASH_BYTES, TILE_WIDTH, ReadTile, node_hash, root_of, split

# Level, number and hashes of a tile.
Tile = tuple[int, int, bytes]


class Growing:
    """The tree over the leaves that it was given, in memory that grows with the number of its levels.

    Args:
        size: how many leaves it has already.
        tails: the hashes of the last, unfinished tile of each level, from the leaves upwards.
    """

    def __init__(self, size: int = 0, tails: Sequence[Sequence[bytes]] = ()) -> None:
        self.size = size
        self._tails = [list(tail) for tail in tails] or [[]]

    @classmethod
    def from_tiles(cls, read: ReadTile, size: int) -> Growing:
        """The tree of `size` leaves, as its tiles tell it; its root says whether they tell the truth."""
        tails: list[list[bytes]] = []
        count = size
        while count:
            number, held = divmod(count, TILE_WIDTH)
            tile = read(len(tails), number)[: held * HASH_BYTES] if held else b""
            tails.append(split(tile))
            count = number
        return cls(size, tails)

    def append(self, leaf: bytes) -> list[Tile]:
        """One more leaf hash.

        Returns:
            The tiles that it finishes, from the leaves upwards.
        """
        done: list[Tile] = []
        level, number, added = 0, self.size, leaf
        self.size += 1
        while True:
            if level == len(self._tails):
                self._tails.append([])
            tail = self._tails[level]
            tail.append(added)
            number //= TILE_WIDTH
            if len(tail) < TILE_WIDTH:
                return done
            done.append((level, number, b"".join(tail)))
            added, self._tails[level] = root_of(tail), []
            level += 1

    def unfinished(self) -> list[Tile]:
        """The last tile of each level, as far as it has hashes."""
        found, count = [], self.size
        for level, tail in enumerate(self._tails):
            count //= TILE_WIDTH
            if tail:
                found.append((level, count, b"".join(tail)))
        return found

    def root(self) -> bytes:
        """The root over all leaves so far."""
        parts: list[bytes] = []
        for tail in reversed(self._tails):
            start = 0
            for width in (1 << bit for bit in reversed(range(TILE_WIDTH.bit_length()))):
                if len(tail) & width:
                    parts.append(root_of(tail[start : start + width]))
                    start += width
        if not parts:
            return EMPTY_ROOT
        root = parts.pop()
        while parts:
            root = node_hash(parts.pop(), root)
        return root
