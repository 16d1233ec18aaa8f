"""Where proofs lead: to the roots that the tree has, and nowhere else."""

from __future__ import annotations

import pytest

from signup.eventlog import paths
from signup.eventlog.merkle import Tree, leaf_hash

LEAVES = [leaf_hash(str(number).encode()) for number in range(700)]


@pytest.fixture(scope="module")
def tree() -> Tree:
    grown = Tree(lambda _level, _number: b"", 0)
    grown.append(LEAVES)
    return grown


@pytest.mark.parametrize("size", [1, 2, 3, 7, 40, 255, 256, 257, 700])
def test_an_audit_path_leads_to_the_root_from_its_own_leaf_alone(tree: Tree, size: int) -> None:
    for index in {0, size // 3, size // 2, size - 1}:
        path = tree.inclusion(index, size)
        assert paths.inclusion_root(LEAVES[index], index, size, path) == tree.root(size)
        assert paths.inclusion_root(LEAVES[index][::-1], index, size, path) != tree.root(size)
        for longer_or_shorter in ([*path, path[0]], path[:-1]) if path else ([b"x" * 32],):
            assert paths.inclusion_root(LEAVES[index], index, size, longer_or_shorter) is None
    assert paths.inclusion_root(LEAVES[0], size, size, []) is None


def test_a_consistency_proof_leads_to_both_roots_when_it_is_whole(tree: Tree) -> None:
    for new in (2, 3, 39, 40, 256, 257, 700):
        for old in {1, 2, new // 3, new // 2, new - 1} - {0, new}:
            path, roots = tree.consistency(old, new), (tree.root(old), tree.root(new))
            assert paths.consistency_roots(tree.root(old), old, new, path) == roots
            assert paths.consistency_roots(tree.root(old), old, new, path[:-1]) != roots
            assert paths.consistency_roots(tree.root(old), old, new, [*path, path[0]]) is None
