"""The log: append and read.

Appending is optimistic: a unit says what it believed each stream to be, and is refused with Conflict if the stream has moved
on. Many units share one transaction; a refused one changes nothing and the others still commit. Everything derived (read
tables, agenda) is written in the same transaction. The caller's transaction must hold the append lock
(`database.write_transaction`): positions are given out here, so order of positions is order of commits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, cast

from sqlalchemy import Connection, bindparam, insert, select, tuple_

from store import agenda, projections
from store.chain import GENESIS
from store.errors import Conflict, LeaseLost, StoreError
from store.events import Event, MailboxEvent, MessageEvent
from store.life import Message, evolve, fold
from store.mailbox_events import MAILBOX_PREFIX
from store.mailbox_life import Mailbox, evolve_mailbox, fold_mailbox
from store.recorded import Recorded, event_row, recorded
from store.schema import contents, events, from_microseconds
from store.statement import Lookup, Statement, scalar

READ_BATCH = 1_000  # rows fetched at a time when walking the log: memory stays constant
LARGE_OCTETS = 256 * 1024

Entity = Message | Mailbox
Octets = bytes | bytearray | memoryview


@dataclass(slots=True)
class Append:
    """Events for one stream, and what the stream adds up to before and after them.

    `before` is None for a stream that these events open; its revision is what the writer believed. `begun` is what it is after
    all events but the last, where the writer has added these up already: it may have done so earlier than `at`.
    """

    stream: str
    before: Entity | None
    events: tuple[Event, ...]
    at: datetime
    octets: Octets | None = None  # of a message that is opened here
    begun: Entity | None = None
    after: Entity = field(init=False)

    def __post_init__(self) -> None:
        if self.begun is None:
            self.after = _after(self.stream, self.before, self.events, self.at)
        else:
            self.after = _after(self.stream, self.begun, self.events[-1:], self.at)

    @property
    def expected(self) -> int:
        """The revision the stream must be at; -1 for none yet."""
        return -1 if self.before is None else self.before.revision


@dataclass(slots=True)
class Unit:
    """What must happen together or not at all."""

    appends: tuple[Append, ...]
    lease: agenda.Lease | None = (
        None  # of any stream: must still be held; that of one appended to is given back
    )
    keep: bool = False  # renew nothing, but go on holding the lease
    claim: agenda.Claim | None = None  # hold the streams opened here from the start

    @property
    def octets(self) -> int:
        """How much content it carries, in octets."""
        return sum(len(append.octets) for append in self.appends if append.octets is not None)


Refusal = Conflict | LeaseLost
_Head = tuple[int, bytes]  # revision and hash of the last event


def append(connection: Connection, units: Sequence[Unit]) -> list[Refusal | None]:
    """Append units in order, in one transaction; returns for each None, or why it was refused.

    Raises StoreError for a message that would be on record without its octets: it would be taken for safe, and be lost.
    A refused unit changes nothing. Its lease stays with its holder, who may have an answer in hand that must go on
    record before anybody else looks at the stream.
    """
    heads = _heads(connection, units)
    fences = agenda.fences(connection, list({unit.lease for unit in units if unit.lease}))
    answers = [_check(unit, heads, fences) for unit in units]
    taken = [unit for unit, answer in zip(units, answers, strict=True) if answer is None]
    _write(connection, taken, heads)
    return answers


def read(connection: Connection, stream: str) -> list[Recorded]:
    """Return a stream's events, oldest first; empty for no such stream."""
    rows = connection.execute(_READ, {"stream": stream})
    return [recorded(row) for row in rows]


def read_many(connection: Connection, streams: Sequence[str]) -> dict[str, list[Recorded]]:
    """Return the events of several streams, oldest first."""
    found: dict[str, list[Recorded]] = {}
    for row in connection.execute(_READ_MANY, {"streams": list(streams)}):
        found.setdefault(row.stream, []).append(recorded(row))
    return found


def opened(connection: Connection, stream: str) -> bool:
    """Whether a stream has an event."""
    found = select(events.c.position).where(events.c.stream == stream).limit(1)
    return connection.scalar(found) is not None


def message(connection: Connection, stream: str) -> Message | None:
    """Fold a message from the log; None for no such stream."""
    return fold(stream, ((r.event, r.at) for r in read(connection, stream)))


def mailbox(connection: Connection, name: str) -> Mailbox:
    """Fold a mailbox from the log; one with no events yet is at revision -1."""
    return fold_mailbox(name, ((r.event, r.at) for r in read(connection, MAILBOX_PREFIX + name)))


def messages(connection: Connection, streams: Sequence[str]) -> dict[str, Message]:
    """Fold several messages in one go."""
    found = read_many(connection, streams)
    folded = {stream: fold(stream, ((r.event, r.at) for r in rows)) for stream, rows in found.items()}
    return {stream: message for stream, message in folded.items() if message is not None}


def walk(connection: Connection, after: int = 0, limit: int | None = None) -> Iterator[Recorded]:
    """Yield the log in order from behind position `after`, in constant memory."""
    while limit is None or limit > 0:
        size = READ_BATCH if limit is None else min(READ_BATCH, limit)
        rows = connection.execute(_WALK, {"after": after, "size": size}).all()
        yield from map(recorded, rows)
        if len(rows) < size:
            return
        after = rows[-1].position
        limit = None if limit is None else limit - size


def streams(connection: Connection) -> Iterator[tuple[str, list[Recorded]]]:
    """Yield every stream with its events, in the order of their names, in constant memory."""
    gathered: list[Recorded] = []
    after = ("", -1)
    while rows := connection.execute(_BY_STREAM, {"stream": after[0], "revision": after[1]}).all():
        for row in rows:
            if gathered and gathered[0].stream != row.stream:
                yield gathered[0].stream, gathered
                gathered = []
            gathered.append(recorded(row))
        after = (rows[-1].stream, rows[-1].revision)
    if gathered:
        yield gathered[0].stream, gathered


def first_at(connection: Connection) -> datetime | None:
    """Return the time of the first event, None for an empty log."""
    at = connection.scalar(select(events.c.at).order_by(events.c.position).limit(1))
    return None if at is None else from_microseconds(at)


def last_position(connection: Connection) -> int:
    """Return the position of the newest event, 0 for an empty log."""
    return int(scalar(connection, "SELECT coalesce(max(position), 0) FROM events"))


_COLUMNS = (
    events.c.position,
    events.c.stream,
    events.c.revision,
    events.c.name,
    events.c.version,
    events.c.at,
    events.c.data,
    events.c.personal,
    events.c.hash,
)
_READ = select(*_COLUMNS).where(events.c.stream == bindparam("stream")).order_by(events.c.revision)
_READ_MANY = (
    select(*_COLUMNS)
    .where(events.c.stream.in_(bindparam("streams", expanding=True)))
    .order_by(events.c.stream, events.c.revision)
)
_WALK = (
    select(*_COLUMNS)
    .where(events.c.position > bindparam("after"))
    .order_by(events.c.position)
    .limit(bindparam("size"))
)
_BY_STREAM = (
    select(*_COLUMNS)
    .where(tuple_(events.c.stream, events.c.revision) > tuple_(bindparam("stream"), bindparam("revision")))
    .order_by(events.c.stream, events.c.revision)
    .limit(READ_BATCH)
)
# What is believed to be the head, and whatever stands behind it and so refutes the belief.
_HEADS = Lookup(
    sqlite="SELECT e.stream, e.revision, e.hash FROM json_each(:wanted) w JOIN events e"
    " ON e.stream = json_extract(w.value, '$[0]') AND e.revision >= json_extract(w.value, '$[1]')",
    postgres="SELECT e.stream, e.revision, e.hash FROM jsonb_array_elements(%(wanted)s::jsonb) w JOIN events e"
    " ON e.stream = w->>0 AND e.revision >= (w->>1)::integer",
)


def _heads(connection: Connection, units: Sequence[Unit]) -> dict[str, _Head]:
    """Read how far the streams are that the units believe to know."""
    believed = {(a.stream, a.expected) for unit in units for a in unit.appends}
    heads: dict[str, _Head] = {}
    for stream, revision, mark in _HEADS.rows(connection, list(believed)):
        if stream not in heads or heads[stream][0] < revision:
            heads[stream] = (revision, bytes(mark))
    return heads


def _check(unit: Unit, heads: dict[str, _Head], fences: dict[str, int]) -> Refusal | None:
    """Say why a unit can't be appended; if it can, move the heads so that a later unit of the batch sees it."""
    if unit.lease is not None and fences.get(unit.lease.stream) != unit.lease.fence:
        return LeaseLost(unit.lease.stream, unit.lease.fence)
    for append in unit.appends:
        if heads.get(append.stream, (-1, GENESIS))[0] != append.expected:
            return Conflict(append.stream, append.expected)
    for append in unit.appends:
        known = heads.get(append.stream, (-1, GENESIS))
        heads[append.stream] = (append.expected + len(append.events), known[1])
    return None


def _write(connection: Connection, units: Sequence[Unit], heads: dict[str, _Head]) -> None:
    position = last_position(connection)
    marks: dict[str, bytes] = {}
    rows: list[dict[str, Any]] = []
    octets: list[dict[str, Any]] = []
    changes = projections.Changes()
    for append in (append for unit in units for append in unit.appends):
        opened, mark = position + 1, marks.get(append.stream) or heads[append.stream][1]
        for revision, happened in enumerate(append.events, start=append.expected + 1):
            position += 1
            rows.append(event_row(append.stream, append.at, happened, position, revision, mark))
            mark = rows[-1]["hash"]
            changes.happened(append.stream, happened, position, append.at)
            if isinstance(append.after, Message):
                changes.tallies.add(append.after, happened, append.at)
        marks[append.stream] = mark
        changes.add(append.stream, append.before, append.after, opened)
        if (content := _content(append)) is not None:
            octets.append({"position": opened, "octets": content})
    _EVENT.many(connection, rows)
    _put(connection, octets)
    changes.write(connection)
    agenda.settle(connection, units)


def _content(append: Append) -> Octets | None:
    """Return the octets to write; None where the message never had any here, or has them already."""
    octets, after = append.octets, append.after
    if octets is None and append.before is None and isinstance(after, Message) and after.content is not None:
        raise StoreError(f"stream {append.stream}: a message can't be put on record without its octets")
    return octets


def _put(connection: Connection, octets: list[dict[str, Any]]) -> None:
    """Write contents: the small ones in one go, a large one alone, for a driver holds what it is given once more."""
    _CONTENT.many(connection, [row for row in octets if len(row["octets"]) <= LARGE_OCTETS])
    for row in octets:
        if len(row["octets"]) > LARGE_OCTETS:
            _CONTENT.one(connection, row)


_EVENT = Statement(insert(events))
_CONTENT = Statement(insert(contents))


def _after(stream: str, before: Entity | None, happened: Iterable[Event], at: datetime) -> Entity:
    if stream.startswith(MAILBOX_PREFIX):
        mailbox = cast(Mailbox, before) if before else Mailbox(name=stream.removeprefix(MAILBOX_PREFIX))
        for event in happened:
            mailbox = evolve_mailbox(mailbox, cast(MailboxEvent, event), at)
        return mailbox
    message = cast("Message | None", before)
    for event in happened:
        message = evolve(message, stream, cast(MessageEvent, event), at)
    if message is None:
        raise StoreError(f"stream {stream}: nothing to append")
    return message
