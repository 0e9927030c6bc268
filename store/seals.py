"""The seals on record: read, made, and what shows that an event is under one.

A seal goes on from the one before: the roots of whole blocks are kept with it, so only events since then are read. What
was sealed once is not read again; that it is still there is what `verify` checks. Seals are not derived from the log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, insert

from store import log, merkle, pages
from store.errors import Damaged
from store.merkle import BLOCK_LEAVES, HASH_OCTETS, Tree
from store.schema import from_microseconds, seals
from store.seal import Extension, Seal

BLOCKS_KEPT = 64  # in memory, while proofs are made

Progress = Callable[[str, int, int], None]  # what is being done, how much is done, how much there is
Sign = Callable[[Seal], Seal]


@dataclass(frozen=True, slots=True)
class Entry:
    """A seal as it is on record; `blocks` are the roots of those that became whole since the one before."""

    number: int  # from 1
    seal: Seal
    blocks: tuple[bytes, ...]


def every(connection: Connection) -> list[Entry]:
    """Return the seals on record, oldest first. Raises Damaged for one that is none."""
    entries, damaged = readable(connection)
    for error in damaged.values():
        raise error
    return entries


def readable(connection: Connection) -> tuple[list[Entry], dict[int, Damaged]]:
    """Return the seals on record, oldest first, and what is wrong with those that are none, by their numbers."""
    entries: list[Entry] = []
    damaged: dict[int, Damaged] = {}
    for row in pages.query(connection, _EVERY):
        try:
            entries.append(_entry(*row))
        except Damaged as error:
            damaged[row[0]] = error
    return entries, damaged


_EVERY = "SELECT number, position, root, blocks, at, public_key, signature FROM seals ORDER BY number"


def _entry(
    number: int, position: Any, root: Any, blocks: Any, at: Any, public_key: Any, signature: Any
) -> Entry:
    kinds = ((position, int), (root, bytes), (blocks, bytes), (at, int))
    signed = all(value is None or isinstance(value, bytes) for value in (public_key, signature))
    if not signed or not all(isinstance(value, kind) for value, kind in kinds):
        raise Damaged(
            f"seal {number} on record can't be read: a value in it is of another kind than was written"
        )
    try:
        seal = Seal(
            position=position, root=root, at=from_microseconds(at), public_key=public_key, signature=signature
        )
    except OverflowError as error:
        raise Damaged(f"seal {number} on record can't be read: {error}") from error
    return Entry(number, seal, tuple(_cut(blocks)))


def make(connection: Connection, at: datetime, sign: Sign, progress: Progress) -> Entry | None:
    """Return a seal over the log as the connection sees it; None for an empty log. Nothing is written.

    Raises Damaged where the log is not what was sealed before, as far as it is read.
    """
    before, last = every(connection), log.last_position(connection)
    if last == 0 and not before:
        return None
    blocks = [block for entry in before for block in entry.blocks]
    sealed = before[-1].seal if before else None
    tree, made = Tree(blocks), []
    for marks in _going_on(connection, tree, sealed, last):
        made += tree.extend(marks)
        progress("events", tree.size, last)
    seal = sign(Seal(position=last, root=tree.root(), at=at))
    extends = None if sealed is None else _extension(connection, sealed, last, [*blocks, *made])
    return Entry(len(before) + 1, replace(seal, extends=extends), tuple(made))


def _going_on(connection: Connection, tree: Tree, sealed: Seal | None, last: int) -> Iterator[list[bytes]]:
    """Yield the hashes that the tree lacks. Raises Damaged unless it comes by the root that was sealed."""
    if sealed is not None:
        if not tree.size <= sealed.position <= last:
            raise Damaged(
                f"the log ends at position {last}, what was sealed at {sealed.position}: run 'mailgate audit verify'"
            )
        yield from _marks(connection, tree.size, sealed.position)
        if tree.root() != sealed.root:
            raise Damaged(
                f"the log up to position {sealed.position} is not what was sealed: run 'mailgate audit verify'"
            )
    yield from _marks(connection, tree.size, last)


def put(connection: Connection, entry: Entry) -> bool:
    """Record a seal; the caller holds the append lock. False where another was made meanwhile: make it anew."""
    if any(known.number >= entry.number for known in every(connection)):
        return False
    seal = entry.seal
    connection.execute(
        insert(seals).values(
            number=entry.number,
            position=seal.position,
            root=seal.root,
            blocks=b"".join(entry.blocks),
            at=seal.at,
            public_key=seal.public_key,
            signature=seal.signature,
        )
    )
    return True


class Prover:
    """Makes proofs for the tree over the first `size` events, from the blocks on record and few events."""

    def __init__(self, connection: Connection, size: int, blocks: list[bytes]) -> None:
        self._connection = connection
        self._size = size
        self._blocks = blocks
        self._leaves = lru_cache(BLOCKS_KEPT)(self._read)

    def inclusion(self, position: int) -> tuple[bytes, ...]:
        """Return what shows that the event at a position is under the root."""
        return tuple(merkle.inclusion(position - 1, self._size, self._over))

    def consistency(self, position: int) -> tuple[bytes, ...]:
        """Return what shows that the root goes on from that over the events up to a position."""
        return tuple(merkle.consistency(position, self._size, self._over))

    def _over(self, first: int, end: int) -> bytes:
        block, start = divmod(first, BLOCK_LEAVES)
        if end - first < BLOCK_LEAVES:
            return merkle.root(self._leaves(block)[start : start + end - first])
        whole, rest = divmod(end, BLOCK_LEAVES)
        roots = self._blocks[block:whole]
        return merkle.root([*roots, merkle.root(self._leaves(whole)[:rest])] if rest else roots)

    def _read(self, block: int) -> list[bytes]:
        first, end = block * BLOCK_LEAVES, min((block + 1) * BLOCK_LEAVES, self._size)
        rows = [row for page in pages.by_position(self._connection, ("hash",), first, end) for row in page]
        return [merkle.leaf(mark) for mark in _whole(rows)]


def prover(connection: Connection, entries: list[Entry], seal: Seal) -> Prover:
    """Return what makes proofs for a seal on record, by the blocks of all that are."""
    blocks = [block for entry in entries for block in entry.blocks]
    return Prover(connection, seal.position, blocks[: seal.position // BLOCK_LEAVES])


def _extension(connection: Connection, sealed: Seal, last: int, blocks: list[bytes]) -> Extension:
    proof = Prover(connection, last, blocks).consistency(sealed.position)
    return Extension(position=sealed.position, root=sealed.root, proof=proof)


def _marks(connection: Connection, after: int, last: int) -> Iterator[list[bytes]]:
    """Yield hashes of events, some thousand at a time."""
    for rows in pages.by_position(connection, ("hash",), after, last):
        if rows[-1][0] - after != len(rows):
            raise Damaged(f"positions are missing behind {after}: run 'mailgate audit verify'")
        after = rows[-1][0]
        yield _whole(rows)


def _whole(rows: list[pages.Row]) -> list[bytes]:
    """Return the hashes. Raises Damaged where one is of another kind: SQLite takes any value for octets."""
    for position, mark in rows:
        if not isinstance(mark, bytes):
            raise Damaged(f"position {position} has no hash: run 'mailgate audit verify'")
    return [mark for _, mark in rows]


def _cut(octets: bytes) -> Iterator[bytes]:
    return (octets[at : at + HASH_OCTETS] for at in range(0, len(octets), HASH_OCTETS))
