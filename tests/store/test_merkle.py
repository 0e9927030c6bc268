"""The tree is that of RFC 6962: checked against its definition, word by word, and against its test vectors."""

from __future__ import annotations

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from store import merkle
from store.merkle import BLOCK_LEAVES, Tree

SIZES = st.one_of(st.integers(1, 70), st.integers(1, 4 * BLOCK_LEAVES))

# Those of RFC 6962's reference implementation.
VECTORS = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"]
ROOTS = {
    1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    3: "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    5: "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
}


def definition(entries: list[bytes]) -> bytes:
    """MTH of section 2.1."""
    if not entries:
        return sha256(b"").digest()
    if len(entries) == 1:
        return sha256(b"\0" + entries[0]).digest()
    k = 1
    while 2 * k < len(entries):
        k *= 2
    return sha256(b"\1" + definition(entries[:k]) + definition(entries[k:])).digest()


def entries(size: int) -> list[bytes]:
    return [sha256(b"%d" % number).digest() for number in range(size)]


def over(leaves: list[bytes]) -> merkle.Over:
    return lambda first, end: definition(leaves[first:end])


@pytest.mark.parametrize("size", ROOTS)
def test_the_reference_vectors(size: int) -> None:
    tree = Tree()
    tree.extend([bytes.fromhex(entry) for entry in VECTORS[:size]])
    assert tree.root().hex() == ROOTS[size]


def test_the_root_of_nothing() -> None:
    assert Tree().root() == merkle.EMPTY == definition([])


@given(SIZES, st.integers(1, 3000))
def test_a_tree_that_grows_has_the_root_of_the_definition(size: int, step: int) -> None:
    leaves = entries(size)
    tree, blocks = Tree(), []
    for start in range(0, size, step):
        blocks += tree.extend(leaves[start : start + step])
    assert (tree.size, tree.root()) == (size, definition(leaves))
    assert merkle.root([merkle.leaf(one) for one in leaves]) == definition(leaves)
    again = Tree(blocks)
    again.extend(leaves[again.size :])
    assert (again.size, again.root()) == (size, definition(leaves))


@given(st.data())
def test_inclusion_is_shown_of_each_leaf_and_of_no_other(data: st.DataObject) -> None:
    size = data.draw(st.integers(1, 40))
    index = data.draw(st.integers(0, size - 1))
    leaves = entries(size)
    proof = merkle.inclusion(index, size, over(leaves))
    assert merkle.climb(merkle.leaf(leaves[index]), index, size, proof) == definition(leaves)
    for other in range(-1, size + 2):
        if other != index:
            assert merkle.climb(merkle.leaf(leaves[index]), other, size, proof) != definition(leaves)
    assert merkle.climb(merkle.leaf(b"another"), index, size, proof) != definition(leaves)
    assert merkle.climb(merkle.leaf(leaves[index]), index, size, [*proof, bytes(32)]) is None
    if proof:
        assert merkle.climb(merkle.leaf(leaves[index]), index, size, proof[:-1]) is None


@given(st.data())
def test_a_longer_tree_is_shown_to_extend_a_shorter_one(data: st.DataObject) -> None:
    new = data.draw(st.integers(1, 40))
    old = data.draw(st.integers(1, new))
    leaves = entries(new)
    before, after = definition(leaves[:old]), definition(leaves)
    proof = merkle.consistency(old, new, over(leaves))
    assert merkle.extends(old, new, before, after, proof)
    rewritten = definition([b"another", *leaves[1:old]])
    assert not merkle.extends(old, new, rewritten, after, proof)
    assert not merkle.extends(old, new, before, rewritten if old == new else before, [*proof, bytes(32)])
    for number in range(len(proof)):
        flipped = [*proof[:number], bytes(32), *proof[number + 1 :]]
        assert not merkle.extends(old, new, before, after, flipped)
        assert not merkle.extends(old, new, before, after, proof[:number])
    assert not merkle.extends(0, new, merkle.EMPTY, after, proof)
    assert not merkle.extends(new + 1, new, before, after, proof)
