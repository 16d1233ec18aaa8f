"""The tree of the log, against the definitions of the RFC written down once more without any cleverness."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable

import pytest

from signup.eventlog.merkle import EMPTY_ROOT, HASH_BYTES, TILE_WIDTH, Tree, TreeDamaged, leaf_hash

MOST = 257
# The eight inputs that implementations of certificate transparency test themselves with, and their root.
KNOWN = ("", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f")
KNOWN_ROOT = "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"
LEAVES = [str(number).encode() for number in range(MOST)]


def sha256(*parts: bytes) -> bytes:
    return hashlib.sha256(b"".join(parts)).digest()


def mth(leaves: list[bytes]) -> bytes:
    """RFC 6962 2.1: MTH(D[n])."""
    if not leaves:
        return sha256()
    if len(leaves) == 1:
        return sha256(b"\x00", leaves[0])
    k = power_below(len(leaves))
    return sha256(b"\x01", mth(leaves[:k]), mth(leaves[k:]))


def path(m: int, leaves: list[bytes]) -> list[bytes]:
    """RFC 6962 2.1.1: PATH(m, D[n])."""
    if len(leaves) == 1:
        return []
    k = power_below(len(leaves))
    if m < k:
        return [*path(m, leaves[:k]), mth(leaves[k:])]
    return [*path(m - k, leaves[k:]), mth(leaves[:k])]


def subproof(m: int, leaves: list[bytes], complete: bool) -> list[bytes]:
    """RFC 6962 2.1.2: SUBPROOF(m, D[n], b)."""
    if m == len(leaves):
        return [] if complete else [mth(leaves)]
    k = power_below(len(leaves))
    if m <= k:
        return [*subproof(m, leaves[:k], complete), mth(leaves[k:])]
    return [*subproof(m - k, leaves[k:], False), mth(leaves[:k])]


def power_below(n: int) -> int:
    k = 1
    while k * 2 < n:
        k *= 2
    return k


def kept() -> tuple[dict[tuple[int, int], bytes], Callable[[int, int], bytes]]:
    tiles: dict[tuple[int, int], bytes] = {}
    return tiles, lambda level, number: tiles.get((level, number), b"")


def grown(leaves: list[bytes]) -> Tree:
    tree = Tree(lambda _level, _number: b"", 0)
    tree.append([leaf_hash(leaf) for leaf in leaves])
    return tree


def test_the_root_is_the_published_one_when_the_leaves_are() -> None:
    assert grown([bytes.fromhex(item) for item in KNOWN]).root().hex() == KNOWN_ROOT


@pytest.mark.req("E36")
def test_roots_and_proofs_are_those_of_the_rfc_when_the_tree_has_any_size_up_to_a_tile_and_one() -> None:
    tree = grown(LEAVES)
    assert tree.root(0) == EMPTY_ROOT
    for size in range(1, MOST + 1):
        assert tree.root(size) == mth(LEAVES[:size])
        for index in {0, size // 2, size - 1, power_below(size)} & set(range(size)):
            assert tree.inclusion(index, size) == path(index, LEAVES[:size])
        for old in {1, size // 2, size - 1, power_below(size)} & set(range(1, size)):
            assert tree.consistency(old, size) == subproof(old, LEAVES[:size], True)
        assert tree.consistency(size, size) == []


def test_the_tree_is_the_same_when_it_grew_in_batches_of_any_size() -> None:
    dice = random.Random(6962)
    tiles, read = kept()
    size, total = 0, 3 * TILE_WIDTH * 4
    leaves = [str(number).encode() for number in range(total)]
    while size < total:
        count = min(dice.choice([1, 2, 255, 256, 257, 300]), total - size)
        tree = Tree(read, size)
        tree.append([leaf_hash(leaf) for leaf in leaves[size : size + count]])
        tiles.update(tree.changed)
        size += count
        assert Tree(read, size).root() == mth(leaves[:size])


def test_a_tree_of_several_levels_proves_leaves_and_growth_when_it_is_read_from_its_tiles() -> None:
    total = TILE_WIDTH * TILE_WIDTH + 3
    leaves = [str(number).encode() for number in range(total)]
    tiles, read = kept()
    tree = grown(leaves)
    tiles.update(tree.changed)
    assert {level for level, _ in tiles} == {0, 1, 2}
    again = Tree(read, total)
    assert again.root() == mth(leaves)
    for index in (0, 255, 256, 65_535, 65_536, total - 1):
        assert again.inclusion(index, total) == path(index, leaves)
    assert again.consistency(65_000, total) == subproof(65_000, leaves, True)


def test_damage_is_named_when_a_tile_is_short_missing_or_too_long() -> None:
    tiles, read = kept()
    tree = grown(LEAVES)
    tiles.update(tree.changed)
    whole = tiles[0, 0]
    for damaged in (b"", whole[:-HASH_BYTES]):
        tiles[0, 0] = damaged
        with pytest.raises(TreeDamaged, match="tile 0/0"):
            Tree(read, MOST).inclusion(3, MOST)
    tiles[0, 0] = whole
    tiles[0, 1] += HASH_BYTES * b"x"
    with pytest.raises(TreeDamaged, match="tile 0/1 holds more"):
        Tree(read, MOST).append([leaf_hash(b"next")])


@pytest.mark.parametrize(("index", "size"), [(-1, 3), (3, 3), (0, 0), (0, MOST + 1)])
def test_no_proof_is_made_when_the_leaf_or_the_tree_does_not_exist(index: int, size: int) -> None:
    with pytest.raises(ValueError, match="no leaf"):
        grown(LEAVES).inclusion(index, size)
