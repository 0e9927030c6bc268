"""Is the log what was written? Every chain, every position, every seal; octets too, where that is asked for.

Walks the log once, in order of positions, in constant memory: of each stream the last hash is remembered while it is lively, and
looked up again where it is not. What is wrong is named in the order in which it stands; a wrong event does not make
the ones behind it wrong.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import sha256

import orjson
from sqlalchemy import Connection

from store import pages, signing
from store.chain import GENESIS
from store.codec import CLASSES
from store.copying import Progress, content_ranges, quiet
from store.merkle import Tree
from store.pages import Row
from store.seal import Seal
from store.seals import Entry

COLUMNS = ("stream", "revision", "name", "version", "at", "data", "personal", "salt", "digest", "hash")
REMEMBERED = 50_000  # streams, twice: some 20 MB

_Head = tuple[int, bytes | None]  # revision and hash of the last event; None where that is not known
_NEW: _Head = (-1, GENESIS)
_VERSIONS = {name: kind.VERSION for name, kind in CLASSES.items()}


@dataclass(frozen=True, slots=True)
class Finding:
    """What is wrong, and at which event, where it is about one."""

    what: str
    position: int | None = None
    stream: str | None = None
    revision: int | None = None

    def __str__(self) -> str:
        if self.stream is None:
            return self.what if self.position is None else f"position {self.position}: {self.what}"
        return f"position {self.position} ({self.stream}, revision {self.revision}): {self.what}"


@dataclass(slots=True)
class Count:
    """What was looked at."""

    events: int = 0
    streams: int = 0
    erased: int = 0  # events whose personal facts were erased
    contents: int = 0
    seals: int = 0
    sealed_until: int = 0  # the last position under a seal that holds
    findings: int = 0


@dataclass(frozen=True, slots=True)
class Sealed:
    """A seal to be compared with the log, and what to call it."""

    name: str
    seal: Seal
    kept_elsewhere: bool = False


def log(
    connection: Connection,
    last: int,
    count: Count,
    *,
    entries: Sequence[Entry] = (),
    others: Sequence[Sealed] = (),
    progress: Progress = quiet,
) -> Iterator[Finding]:
    """Yield what is wrong with the events up to position `last`, with the seals on record, and with others given."""
    chains, under = _Chains(connection, count), _Under(entries, others, last, count)
    for rows in pages.by_position(connection, COLUMNS, 0, last):
        found = [*chains.page(rows), *under.page(rows)]
        count.findings += len(found)
        yield from found
        progress("events", rows[-1][0], last)
    for finding in under.rest():
        count.findings += 1
        yield finding


def guards(connection: Connection, count: Count) -> Iterator[Finding]:
    """Yield which triggers are not there any more that refuse to change the log: somebody has taken them away."""
    kind = connection.dialect.name
    there = {name for (name,) in pages.query(connection, _TRIGGERS[kind])}
    for name in GUARDS[kind]:
        if name not in there:
            count.findings += 1
            yield Finding(f"the database may change the log: its trigger {name} is gone, or is disabled")


GUARDS = {
    "sqlite": (
        *("events_no_delete", "events_no_update", "events_no_replace"),
        *("seals_no_delete", "seals_no_update", "seals_no_replace"),
    ),
    "postgresql": (
        *("events_no_delete", "events_no_truncate", "events_no_update"),
        *("seals_no_change", "seals_no_truncate"),
    ),
}
_TRIGGERS = {
    "sqlite": "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name IN ('events', 'seals')",
    "postgresql": "SELECT tgname::text FROM pg_trigger WHERE tgenabled IN ('O', 'A')"
    " AND tgrelid IN ('events'::regclass, 'seals'::regclass)",
}


def signatures(
    every: Sequence[Sealed], count: Count, key: bytes | None, by_key: Sequence[Sealed]
) -> Iterator[Finding]:
    """Yield which seals have a wrong signature; those in `by_key` must have one by that key, where it is named.

    Raises KeyTrouble where nothing here can check one.
    """
    for sealed in every:
        what = signing.trouble(sealed.seal, key if sealed in by_key else None)
        if what is None and not sealed.seal.continues():
            what = "does not go on from the seal before, as it says"
        if what is not None:
            count.findings += 1
            yield Finding(f"{sealed.name} {what}")


def contents(connection: Connection, count: Count, progress: Progress = quiet) -> Iterator[Finding]:
    """Yield which kept octets are not those that arrived."""
    ((total,),) = pages.query(connection, "SELECT count(*) FROM contents")
    for first, until in content_ranges(connection):
        for position, octets, stream, data in pages.query(connection, _CONTENTS, (first, until)):
            count.contents += 1
            if (what := _unlike(octets, data)) is not None:
                count.findings += 1
                yield Finding(what, position, stream, 0 if stream is not None else None)
        progress("contents", count.contents, total)


_CONTENTS = (
    "SELECT c.position, c.octets, e.stream, e.data FROM contents c LEFT JOIN events e ON e.position = c.position"
    " AND e.revision = 0 WHERE c.position BETWEEN {0} AND {0} ORDER BY c.position"
)


def _unlike(octets: bytes, data: bytes | None) -> str | None:
    if data is None:
        return "octets are kept here, and no message was opened"
    try:
        wanted = orjson.loads(data).get("content")
    except (ValueError, AttributeError):
        return "its facts can't be read, so its octets can't be compared"
    return None if sha256(octets).hexdigest() == wanted else "its octets are not those that arrived"


class _Chains:
    """The chain of every stream, event by event."""

    def __init__(self, connection: Connection, count: Count) -> None:
        self._connection = connection
        self._count = count
        self._next = 1  # position
        self._young: dict[str, _Head] = {}
        self._old: dict[str, _Head] = {}

    def page(self, rows: Sequence[Row]) -> list[Finding]:
        """Return what is wrong with the next events."""
        found: list[Finding] = []
        young, versions, dumps, expected = self._young, _VERSIONS, orjson.dumps, self._next
        for row in rows:
            position, stream, revision, name, version, at, data, personal, salt, digest, mark = row
            before, hashed = young.get(stream) or self._recall(stream, revision)
            try:  # this is done millions of times: what is wrong in detail is found out elsewhere
                head = dumps([stream, revision, name, version, at, digest.hex() if digest else None])
                good = (
                    position == expected
                    and revision == before + 1
                    and hashed is not None
                    and sha256(hashed + head + data).digest() == mark
                    and (sha256(salt + personal).digest() == digest if personal is not None else salt is None)
                    and versions.get(name, 0) >= version
                )
            except (TypeError, AttributeError):
                good = False
            if not good:
                found += self._wrong(row, expected, before, hashed)
            young[stream] = (revision, mark)
            expected = position + 1
        self._next = expected
        self._tell(rows)
        if len(young) > REMEMBERED:
            self._old, self._young = young, {}
        return found

    def _tell(self, rows: Sequence[Row]) -> None:
        self._count.events += len(rows)
        self._count.streams += sum([row[2] == 0 for row in rows])
        self._count.erased += sum([row[7] is None and row[9] is not None for row in rows])

    def _recall(self, stream: str, revision: int) -> _Head:
        """Return the head of a stream that was not lively."""
        if (head := self._old.get(stream)) is not None:
            return head
        if revision == 0:
            return _NEW
        rows = pages.query(self._connection, _BEFORE, (stream, revision - 1))
        return (rows[0][0], rows[0][1]) if rows and rows[0][2] < self._next else (revision - 1, None)

    def _wrong(self, row: Row, expected: int, before: int, hashed: bytes | None) -> Iterator[Finding]:
        """Yield what is wrong with one event, in words."""
        position, stream, revision, name, version, _, _, personal, salt, digest, _ = row
        if position != expected:
            gone = f"{expected}" if position == expected + 1 else f"{expected} to {position - 1}"
            yield Finding(f"no event is here: positions without one are {gone}", expected)
        here = (position, stream, revision)
        if revision != before + 1 or hashed is None:
            yield Finding(
                f"revision {before + 1 if hashed else revision - 1} does not stand before it", *here
            )
        elif not _follows(hashed, row):
            yield Finding("its hash is not that of its facts and of the event before it", *here)
        if personal is not None and not _covers(digest, salt, personal):
            yield Finding("its personal facts are not those that its digest stands for", *here)
        if personal is None and salt is not None:
            yield Finding("its personal facts are gone and their salt is not", *here)
        if not isinstance(name, str) or name not in _VERSIONS:
            yield Finding(f"no event is called {name!r}", *here)
        elif not isinstance(version, int) or _VERSIONS[name] < version:
            yield Finding(f"{name!r} version {version} is newer than this program: upgrade mailgate", *here)


_BEFORE = "SELECT revision, hash, position FROM events WHERE stream = {0} AND revision = {0}"


def _follows(hashed: bytes, row: Row) -> bool:
    _, stream, revision, name, version, at, data, _, _, digest, mark = row
    try:
        head = orjson.dumps([stream, revision, name, version, at, digest.hex() if digest else None])
        return sha256(hashed + head + data).digest() == bytes(mark)
    except (TypeError, AttributeError):  # of another kind than what was written
        return False


def _covers(digest: bytes | None, salt: bytes | None, personal: bytes) -> bool:
    try:
        return sha256((salt or b"") + personal).digest() == digest
    except TypeError:
        return False


class _Under:
    """The seals: the root of the tree at the position of each."""

    def __init__(self, entries: Sequence[Entry], others: Sequence[Sealed], last: int, count: Count) -> None:
        on_record = [Sealed(f"seal {entry.number}", entry.seal) for entry in entries]
        self._entries = entries
        self._due = sorted([*on_record, *others], key=lambda one: one.seal.position)
        self._blocks = [block for entry in entries for block in entry.blocks]
        self._known = len(self._blocks)
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
        """Yield what is wrong with seals that reach beyond the log, and with their numbers."""
        for sealed in self._due:
            cut = f"the log ends at position {self._last}: its tail was cut off"
            yield Finding(f"{self._named(sealed)} covers {sealed.seal.position} events, and {cut}")
        for wanted, entry in enumerate(self._entries, start=1):
            if entry.number != wanted:
                yield Finding(f"seal {wanted} is not on record, and seal {entry.number} is")
                return

    def _grow(self, marks: list[bytes]) -> Iterator[Finding]:
        for block in self._tree.extend(marks):
            wanted = self._blocks[:1]
            if wanted and wanted[0] != block and not self._broken:
                number = self._known - len(self._blocks)
                self._broken = True
                yield Finding(
                    f"the events {number * 1024 + 1} to {number * 1024 + 1024} are not those sealed"
                )
            del self._blocks[:1]

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
                f"{self._named(sealed)} does not hold: the log up to position {position} is not what it covers; {since}"
            )

    def _named(self, sealed: Sealed) -> str:
        return f"{sealed.name}, of {sealed.seal.at:%Y-%m-%d %H:%M:%S} UTC,"
