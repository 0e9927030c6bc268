"""Is the log what was written? Every chain, every position, every seal; octets too, where that is asked for.

Walks the log once, in order of positions, in constant memory: of each stream the last hash is remembered while it is lively, and
looked up again where it is not. What is wrong is named in the order in which it stands; a wrong event does not make
the ones behind it wrong.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import sha256

import orjson
from sqlalchemy import Connection

from store import pages
from store.chain import GENESIS
from store.codec import CLASSES
from store.copying import Progress, content_ranges, quiet
from store.pages import Row
from store.sealed import Under
from store.seals import Entry
from store.verified import Count, Finding, Sealed

COLUMNS = ("stream", "revision", "name", "version", "at", "data", "personal", "salt", "digest", "hash")
OF_NOBODY = "octets are kept here, and no message was opened"
REMEMBERED = 50_000  # streams, twice: some 20 MB

_Head = tuple[int, bytes | None]  # revision and hash of the last event; None where that is not known
_NEW: _Head = (-1, GENESIS)
_VERSIONS = {name: kind.VERSION for name, kind in CLASSES.items()}


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
    chains, under = _Chains(connection, count), Under(entries, others, last, count)
    for position, stream, revision in pages.query(connection, _BEFORE_ALL):
        count.findings += 1
        yield Finding.at(
            "it stands before the first position, where nothing is written", position, stream, revision
        )
    for rows in pages.by_position(connection, COLUMNS, 0, last):
        found = [*chains.page(rows), *under.page(rows)]
        count.findings += len(found)
        yield from found
        progress("events", rows[-1][0], last)
    for finding in under.rest():
        count.findings += 1
        yield finding


_BEFORE_ALL = "SELECT position, stream, revision FROM events WHERE position < 1 ORDER BY position"


def contents(connection: Connection, count: Count, progress: Progress = quiet) -> Iterator[Finding]:
    """Yield which kept octets are not those that arrived."""
    ((total,),) = pages.query(connection, "SELECT count(*) FROM contents")
    for (position,) in pages.query(connection, _CONTENTS_BEFORE_ALL):
        count.findings += 1
        yield Finding(OF_NOBODY, position)
    for first, until in content_ranges(connection):
        for position, octets, stream, data in pages.query(connection, _CONTENTS, (first, until)):
            count.contents += 1
            if (what := _unlike(octets, data)) is not None:
                count.findings += 1
                yield Finding(what, position) if stream is None else Finding.at(what, position, stream, 0)
        progress("contents", count.contents, total)


_CONTENTS_BEFORE_ALL = "SELECT position FROM contents WHERE position < 1 ORDER BY position"
_CONTENTS = (
    "SELECT c.position, c.octets, e.stream, e.data FROM contents c LEFT JOIN events e ON e.position = c.position"
    " AND e.revision = 0 WHERE c.position BETWEEN {0} AND {0} ORDER BY c.position"
)


def _unlike(octets: object, data: bytes | None) -> str | None:
    if data is None:
        return OF_NOBODY
    try:
        wanted = orjson.loads(data).get("content")
    except (ValueError, AttributeError):
        return "its facts can't be read, so its octets can't be compared"
    same = isinstance(octets, bytes) and sha256(octets).hexdigest() == wanted
    return None if same else "its octets are not those that arrived"


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
                revision = revision if isinstance(revision, int) else before + 1
            young[stream] = (revision, mark)
            expected = position + 1
        self._next = expected
        found = sorted([*found, *self._unaccounted(rows)], key=lambda one: one.position or 0)
        self._tell(rows)
        if len(young) > REMEMBERED:
            self._old, self._young = young, {}
        return found

    def _tell(self, rows: Sequence[Row]) -> None:
        self._count.events += len(rows)
        self._count.streams += sum([row[2] == 0 for row in rows])
        self._count.erased += sum([row[7] is None and row[9] is not None for row in rows])

    def _unaccounted(self, rows: Sequence[Row]) -> Iterator[Finding]:
        """Yield whose personal facts are gone although no `erased` of its stream tells so: the chain holds without them."""
        gone = [(row[0], row[1], row[2]) for row in rows if row[7] is None and row[9] is not None]
        streams = tuple({stream for _, stream, _ in gone})
        if not streams:
            return
        sql = _ERASED.format(", ".join(["{0}"] * len(streams)))
        told: dict[str, set[int]] = {}
        for stream, revision, data in pages.query(self._connection, sql, streams):
            if isinstance(revision, int):
                told.setdefault(stream, set()).update(r for r in _revisions(data) if r < revision)
        for position, stream, revision in gone:
            if revision not in told.get(stream, ()):
                yield Finding.at(
                    "its personal facts are gone, and no 'erased' tells of it", position, stream, revision
                )

    def _recall(self, stream: str, revision: int) -> _Head:
        """Return the head of a stream that was not lively."""
        if (head := self._old.get(stream)) is not None:
            return head
        if revision == 0 or not isinstance(revision, int):
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
        if not isinstance(revision, int):
            yield Finding.at(f"its revision is no number but {revision!r}", *here)
        elif revision != before + 1 or hashed is None:
            yield Finding.at(
                f"revision {before + 1 if hashed else revision - 1} does not stand before it", *here
            )
        elif not _follows(hashed, row):
            yield Finding.at("its hash is not that of its facts and of the event before it", *here)
        if personal is not None and not _covers(digest, salt, personal):
            yield Finding.at("its personal facts are not those that its digest stands for", *here)
        if personal is None and salt is not None:
            yield Finding.at("its personal facts are gone and their salt is not", *here)
        if not isinstance(name, str) or name not in _VERSIONS:
            yield Finding.at(f"no event is called {name!r}", *here)
        elif not isinstance(version, int) or _VERSIONS[name] < version:
            yield Finding.at(
                f"{name!r} version {version} is newer than this program: upgrade mailgate", *here
            )


_BEFORE = "SELECT revision, hash, position FROM events WHERE stream = {0} AND revision = {0}"


_ERASED = "SELECT stream, revision, data FROM events WHERE name = 'erased' AND stream IN ({})"  # marks alone


def _revisions(data: bytes) -> list[int]:
    try:
        return [r for r in orjson.loads(data)["revisions"] if isinstance(r, int)]
    except (ValueError, TypeError, KeyError):
        return []  # it is found not to be what was written


def _follows(hashed: bytes, row: Row) -> bool:
    _, stream, revision, name, version, at, data, _, _, digest, mark = row
    try:
        head = orjson.dumps([stream, revision, name, version, at, digest.hex() if digest else None])
        return bool(sha256(hashed + head + data).digest() == mark)
    except (TypeError, AttributeError):  # of another kind than what was written
        return False


def _covers(digest: bytes | None, salt: bytes | None, personal: bytes) -> bool:
    try:
        return sha256((salt or b"") + personal).digest() == digest
    except TypeError:
        return False
