"""Do seals hold? The tree grows along with a walk over the log, and at the position of each seal its root must be the seal's."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import pairwise

from store import signing
from store.merkle import BLOCK_LEAVES, Tree
from store.pages import Row
from store.seals import Entry
from store.verified import Count, Finding, Sealed


def signatures(
    others: Sequence[Sealed], on_record: Sequence[Sealed], count: Count, key: bytes | None
) -> Iterator[Finding]:
    """Yield which seals have a wrong signature.

    Where a key is named it must have signed each of the others; where there are none, one on record that covers as much as the
    last. For a seal that was made without it can't be taken back. Raises KeyTrouble where nothing here can check a signature.
    """
    by_key = others or _uncovered(on_record, key)
    if key is not None:
        count.unsigned = sum(signing.trouble(sealed.seal, key) is not None for sealed in on_record)
    for sealed in [*others, *on_record]:
        what = signing.trouble(sealed.seal, key if sealed in by_key else None)
        if what is None and not sealed.seal.continues():
            what = "does not go on from the seal before, as it says"
        if what is not None:
            count.findings += 1
            yield Finding(f"{sealed.name} {what}", seal=sealed.name)


def _uncovered(on_record: Sequence[Sealed], key: bytes | None) -> Sequence[Sealed]:
    """Return the last one, unless the key signed another that covers as much."""
    last = on_record[-1:]
    if key is None or any(
        one.seal.position >= last[0].seal.position and signing.trouble(one.seal, key) is None
        for one in on_record
    ):
        return ()
    return last


class Under:
    """The seals: the root of the tree at the position of each."""

    def __init__(self, entries: Sequence[Entry], others: Sequence[Sealed], last: int, count: Count) -> None:
        on_record = [Sealed(f"seal {entry.number}", entry.seal) for entry in entries]
        self._entries = entries
        self._due = sorted([*on_record, *others], key=lambda one: one.seal.position)
        self._blocks = dict(_numbered(entries))
        self._grown = 0  # blocks
        self._tree, self._last, self._count = Tree(), last, count
        self._broken = False  # one on record does not hold: so don't those behind it
        self._holds_until = {True: 0, False: 0}  # kept elsewhere, or on record

    def page(self, rows: Sequence[Row]) -> Iterator[Finding]:
        """Yield which seals do not hold, of those that end among these events."""
        positions = [row[0] for row in rows]
        marks = [row[-1] if isinstance(row[-1], bytes) else b"" for row in rows]
        done = 0
        while self._due and self._due[0].seal.position <= positions[-1]:
            sealed = self._due.pop(0)
            until = bisect_right(positions, sealed.seal.position)
            yield from self._grow(marks[done:until])
            done = max(done, until)
            yield from self._compare(sealed)
        yield from self._grow(marks[done:])

    def rest(self) -> Iterator[Finding]:
        """Yield what is wrong with seals that reach beyond the log, with their blocks, and with their numbers."""
        for sealed in self._due:
            cut = f"the log ends at position {self._last}: its tail was cut off"
            what = f"{self._named(sealed)} covers {sealed.seal.position} events, and {cut}"
            yield Finding(what, seal=sealed.name)
        yield from _miscounted(self._entries)
        for wanted, entry in enumerate(self._entries, start=1):
            if entry.number != wanted:
                yield Finding(f"seal {wanted} is not on record, and seal {entry.number} is")
                break
        yield from _turned_back(self._entries)

    def _grow(self, marks: list[bytes]) -> Iterator[Finding]:
        for number, block in enumerate(self._tree.extend(marks), start=self._grown):
            self._grown = number + 1
            if self._blocks.pop(number, block) != block and not self._broken:
                self._broken = True
                yield Finding(
                    f"the events {number * BLOCK_LEAVES + 1} to {(number + 1) * BLOCK_LEAVES} are not those sealed"
                )

    def _compare(self, sealed: Sealed) -> Iterator[Finding]:
        self._count.seals += 1
        elsewhere, position = sealed.kept_elsewhere, sealed.seal.position
        if sealed.seal.root == self._tree.root():
            self._holds_until[elsewhere] = position
            self._count.sealed_until = max(self._holds_until.values())
        elif elsewhere or not self._broken:
            self._broken = self._broken or not elsewhere
            until = self._holds_until[elsewhere]
            since = (
                f"up to position {until} it is" if until else "its past was rewritten, or it is another store"
            )
            yield Finding(
                f"{self._named(sealed)} does not hold: the log up to position {position} is not what it covers; {since}",
                seal=sealed.name,
            )

    def _named(self, sealed: Sealed) -> str:
        return f"{sealed.name}, of {sealed.seal.at:%Y-%m-%d %H:%M:%S} UTC,"


def _became_whole(entries: Sequence[Entry]) -> Iterator[tuple[Entry, range]]:
    """Yield with each seal the numbers of the blocks that became whole since the one before."""
    whole = 0
    for entry in entries:
        before, whole = whole, entry.seal.position // BLOCK_LEAVES
        yield entry, range(before, whole)


def _numbered(entries: Sequence[Entry]) -> Iterator[tuple[int, bytes]]:
    """Yield the roots of blocks on record, as far as a seal has as many as it must."""
    for entry, numbers in _became_whole(entries):
        if len(entry.blocks) == len(numbers):
            yield from zip(numbers, entry.blocks, strict=True)


def _miscounted(entries: Sequence[Entry]) -> Iterator[Finding]:
    """Yield which seals have other blocks than they can have: none can be made on top of them."""
    for entry, numbers in _became_whole(entries):
        if len(entry.blocks) != len(numbers):
            yield Finding(
                f"seal {entry.number} has the roots of {len(entry.blocks)} whole blocks of events on record,"
                f" and {len(numbers)} became whole since the seal before",
                seal=f"seal {entry.number}",
            )


def _turned_back(entries: Sequence[Entry]) -> Iterator[Finding]:
    """Yield which seals cover fewer events than the one before: they were made in another order."""
    for before, entry in pairwise(entries):
        if entry.seal.position < before.seal.position:
            name = f"seal {entry.number}"
            yield Finding(f"{name} covers fewer events than the seal before it", seal=name)
