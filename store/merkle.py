"""A Merkle tree over the log, as RFC 6962 (section 2.1) has it for certificate logs. Pure.

Its leaves are the hashes of the events, in the order of their positions. So one value of 32 octets, the root, stands for
every event up to a position; a path of some twenty hashes shows that one event is among them at its place; and a
list as short shows that a later root stands for the same events, and more.

Leaves are summed up in blocks: the roots of whole blocks never change, so who keeps them (`seals`) need not
read what is behind them again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from hashlib import sha256

BLOCK_LEAVES = 1024
HASH_OCTETS = 32
EMPTY = sha256().digest()  # the root of no leaves


def leaf(mark: bytes) -> bytes:
    """Return the hash of a leaf; the octet in front tells it from that of a node."""
    return sha256(b"\0" + mark).digest()


def node(left: bytes, right: bytes) -> bytes:
    """Return the hash of what is above two hashes."""
    return sha256(b"\1" + left + right).digest()


def above(hashes: Sequence[bytes]) -> list[bytes]:
    """Return the next level: a node for each pair, and a last one without a partner as it is."""
    pairs = zip(hashes[::2], hashes[1::2], strict=False)
    level = [sha256(b"\1" + left + right).digest() for left, right in pairs]
    return [*level, hashes[-1]] if len(hashes) % 2 else level


def root(hashes: Sequence[bytes]) -> bytes:
    """Return the root over hashes of leaves, or of blocks of which all but the last are whole."""
    while len(hashes) > 1:
        hashes = above(hashes)
    return hashes[0] if hashes else EMPTY


Over = Callable[[int, int], bytes]  # the root over the leaves from one index up to another, without that


def inclusion(index: int, size: int, over: Over) -> list[bytes]:
    """Return what must be known besides a leaf to come to the root over so many, from below (RFC 6962, section 2.1.1)."""
    return _inclusion(index, 0, size, over)


def _inclusion(index: int, first: int, end: int, over: Over) -> list[bytes]:
    if end - first == 1:
        return []
    middle = first + split(end - first)
    if index < middle:
        return [*_inclusion(index, first, middle, over), over(middle, end)]
    return [*_inclusion(index, middle, end, over), over(first, middle)]


def consistency(old: int, new: int, over: Over) -> list[bytes]:
    """Return what shows that the tree of `new` leaves begins with that of `old` (RFC 6962, section 2.1.2)."""
    return _consistency(old, 0, new, over, whole=True)


def _consistency(old: int, first: int, end: int, over: Over, *, whole: bool) -> list[bytes]:
    if old == end:
        return [] if whole else [over(first, end)]
    middle = first + split(end - first)
    if old <= middle:
        return [*_consistency(old, first, middle, over, whole=whole), over(middle, end)]
    return [*_consistency(old, middle, end, over, whole=False), over(first, middle)]


def split(size: int) -> int:
    """Return how many leaves stand on the left: the largest power of two that is less than all of them."""
    return 1 << (size - 1).bit_length() - 1


def climb(hashed: bytes, index: int, size: int, proof: Sequence[bytes]) -> bytes | None:
    """Return the root to which a proof of inclusion leads from a leaf in a tree of so many; None where it is none."""
    steps = iter(proof)
    if not 0 <= index < size:
        return None
    while size > 1:
        if index ^ 1 < size:
            partner = next(steps, None)
            if partner is None:
                return None
            hashed = node(partner, hashed) if index & 1 else node(hashed, partner)
        index, size = index >> 1, (size + 1) >> 1
    return hashed if next(steps, None) is None else None


def extends(first: int, second: int, old: bytes, new: bytes, proof: Sequence[bytes]) -> bool:
    """Whether a proof shows that the tree of `second` leaves begins with that of `first` (RFC 9162, section 2.1.4.2)."""
    if not 0 < first <= second:
        return False
    if first == second:
        return not proof and old == new
    steps = [old, *proof] if first & (first - 1) == 0 else list(proof)
    if not steps:
        return False
    index, last = first - 1, second - 1
    while index & 1:
        index, last = index >> 1, last >> 1
    before = after = steps[0]
    for step in steps[1:]:
        if last == 0:
            return False
        if index & 1 or index == last:
            before, after = node(step, before), node(step, after)
            while index and not index & 1:
                index, last = index >> 1, last >> 1
        else:
            after = node(after, step)
        index, last = index >> 1, last >> 1
    return last == 0 and before == old and after == new


class Tree:
    """A tree that grows. It remembers the leaves of its last block, and little of the blocks before it."""

    def __init__(self, blocks: Iterable[bytes] = ()) -> None:
        self.size = 0
        self._pending: list[bytes] = []  # leaves of the block that is not whole
        self._peaks: list[
            tuple[int, bytes]
        ] = []  # of whole trees, the largest first: their blocks, and their root
        for block in blocks:
            self._put(block)
            self.size += BLOCK_LEAVES

    def extend(self, marks: Sequence[bytes]) -> list[bytes]:
        """Add leaves; returns the roots of the blocks that became whole."""
        made: list[bytes] = []
        self._pending += [sha256(b"\0" + mark).digest() for mark in marks]
        self.size += len(marks)
        while len(self._pending) >= BLOCK_LEAVES:
            made.append(root(self._pending[:BLOCK_LEAVES]))
            self._pending = self._pending[BLOCK_LEAVES:]
            self._put(made[-1])
        return made

    def root(self) -> bytes:
        """Return the root over all leaves so far."""
        right = [root(self._pending)] if self._pending else []
        hashes = [*(peak for _, peak in self._peaks), *right]
        if not hashes:
            return EMPTY
        found = hashes.pop()
        while hashes:
            found = node(hashes.pop(), found)
        return found

    def _put(self, block: bytes) -> None:
        size = 1
        while self._peaks and self._peaks[-1][0] == size:
            block, size = node(self._peaks.pop()[1], block), 2 * size
        self._peaks.append((size, block))
