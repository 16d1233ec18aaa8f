"""A tree that is only walked has the roots and tiles of the one that is kept."""

from __future__ import annotations

import hashlib
import random

import pytest

from signup.eventlog import merkle
from signup.eventlog.growing import Growing


def hashes(count: int) -> list[bytes]:
    return [hashlib.sha256(str(number).encode()).digest() for number in range(count)]


@pytest.fixture(scope="module")
def kept() -> merkle.Tree:
    tree = merkle.Tree(lambda _level, _number: b"", 0)
    tree.append(hashes(66_000))
    return tree


def test_every_root_and_tile_is_that_of_the_kept_tree_when_walked(kept: merkle.Tree) -> None:
    walked, tiles = Growing(), {}
    sizes = {*range(1, 600), *random.Random(5).sample(range(600, 66_000), 40), 65_535, 65_536, 65_537, 66_000}
    assert walked.root() == merkle.EMPTY_ROOT
    for item in hashes(66_000):
        tiles |= {(level, number): content for level, number, content in walked.append(item)}
        if walked.size in sizes:
            assert walked.root() == kept.root(walked.size)
    tiles |= {(level, number): content for level, number, content in walked.unfinished()}
    assert tiles == kept.changed


@pytest.mark.parametrize("size", [1, 255, 256, 257, 511, 512, 65_536, 65_793, 65_999])
def test_a_walk_goes_on_from_any_size_when_its_tiles_are_kept(kept: merkle.Tree, size: int) -> None:
    walked = Growing.from_tiles(lambda level, number: kept.changed.get((level, number), b""), size)
    assert walked.root() == kept.root(size)
    for item in hashes(66_000)[size : size + 300]:
        walked.append(item)
    assert walked.root() == kept.root(walked.size)
