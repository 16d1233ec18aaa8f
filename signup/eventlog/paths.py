"""Where audit paths and consistency proofs lead, worked out from below as a stranger does. Pure; knows no table."""

from __future__ import annotations

from collections.abc import Sequence

from signup.eventlog.merkle import node_hash


def inclusion_root(leaf: bytes, index: int, size: int, path: Sequence[bytes]) -> bytes | None:
    """The root that an inclusion path leads to; None when its length cannot be right.

    Rule: RFC 9162 2.1.3.2.
    """
    if index >= size:
        return None
    place, last, found = index, size - 1, leaf
    for step in path:
        if last == 0:
            return None
        if place % 2 or place == last:
            found = node_hash(step, found)
            while place % 2 == 0 and place:
                place, last = place >> 1, last >> 1
        else:
            found = node_hash(found, step)
        place, last = place >> 1, last >> 1
    return found if last == 0 else None


def consistency_roots(old_root: bytes, old: int, size: int, path: Sequence[bytes]) -> tuple[bytes, bytes] | None:
    """Both roots that a consistency path leads to; None when its length cannot be right.

    Rule: RFC 9162 2.1.4.2.
    """
    # A size that is a power of two is one node, whose hash is not in the path.
    steps = [old_root, *path] if old & (old - 1) == 0 else list(path)
    if not (0 < old < size and path):
        return None
    place, last = old - 1, size - 1
    while place % 2:
        place, last = place >> 1, last >> 1
    first = second = steps[0]
    for step in steps[1:]:
        if last == 0:
            return None
        if place % 2 or place == last:
            first, second = node_hash(step, first), node_hash(step, second)
            while place % 2 == 0 and place:
                place, last = place >> 1, last >> 1
        else:
            second = node_hash(second, step)
        place, last = place >> 1, last >> 1
    return (first, second) if last == 0 else None
