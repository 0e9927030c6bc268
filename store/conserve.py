"""Does everything add up? Each message accepted has, for each recipient, exactly one fate, or is open and will be looked at.

Reads the whole store in constant memory and yields what does not add up, one line each; nothing yielded is the proof.
What a mailbox lists right now is compared elsewhere: this is about what is on record.

Lives that are alike are added up once: see `decisive`. Everything on record is compared with what that comes to.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import cast

from sqlalchemy import Connection

from store import pages
from store.codec import decode
from store.copying import Progress, quiet
from store.decisive import read
from store.errors import Damaged
from store.events import Delivered, Failed, MessageEvent, Relayed
from store.life import Message, evolve
from store.mailbox_events import MAILBOX_PREFIX
from store.pages import Row
from store.recipient import FATES
from store.recorded import VERIFY
from store.schema import EPOCH

TOGETHER = 500  # messages that are compared with the read tables in one go
LIVES_KEPT = 20_000  # that were added up: tens of megabytes at most

REBUILD = "run: mailgate db rebuild"


@dataclass(slots=True)
class Count:
    """What was looked at."""

    messages: int = 0
    recipients: int = 0
    open: int = 0
    unknown_attempts: int = 0  # possible duplicates, each named in its message's log
    problems: int = 0


@dataclass(frozen=True, slots=True)
class _Sum:
    """What the events of a message add up to."""

    state: str
    states: tuple[str, ...]  # of the recipients
    open: bool
    due: bool
    kept: bool  # its octets
    purged: bool  # they were dropped
    unknown_attempts: int
    problems: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Standing:
    """What the read tables say of a message."""

    state: str
    has_octets: bool
    states: tuple[str, ...]


_Summed = list[tuple[str, _Sum | str]]  # of streams, in the order of their names; why there is no sum


def check(connection: Connection, count: Count, progress: Progress = quiet) -> Iterator[str]:
    """Yield every discrepancy in the store, and add up in `count` what was seen.

    Raises UnknownEvent for an event newer than this program.
    """
    ((total,),) = pages.query(connection, "SELECT coalesce(max(position), 0) FROM events")
    summing, last = _Summing(), ""
    for done, some in summing.batches(connection):
        until = some[-1][0] if some else None
        for problem in _compare(some, _Tables(connection, last, until), count):
            count.problems += 1
            yield problem
        last = until or last
        progress("events", done, total)


# -- adding up


class _Summing:
    """Adds up each message, those with the same life once."""

    def __init__(self) -> None:
        self._known: dict[tuple[Hashable, ...], _Sum] = {}

    def batches(self, connection: Connection) -> Iterator[tuple[int, _Summed]]:
        """Yield so many messages together, with how many events were read; an empty batch at the end."""
        some: _Summed = []
        done = 0
        for stream, rows in _streams(connection):
            done += len(rows)
            if stream.startswith(MAILBOX_PREFIX):
                continue
            some.append((stream, self._sum(stream, rows)))
            if len(some) == TOGETHER:
                yield done, some
                some = []
        if some:
            yield done, some
        yield done, []

    def _sum(self, stream: str, rows: Sequence[Row]) -> _Sum | str:
        if [row[1] for row in rows] != list(range(len(rows))):
            return "its revisions have a hole"  # what is left adds up to nothing
        try:
            life = tuple([read(name, version, data) for _, _, name, version, data in rows])
            if (found := self._known.get(life)) is None:
                found = _added_up(stream, rows)
                if len(self._known) >= LIVES_KEPT:
                    self._known.clear()
                self._known[life] = found
        except Damaged as error:
            return str(error)
        return found


def _streams(connection: Connection) -> Iterator[tuple[str, list[Row]]]:
    gathered: list[Row] = []
    stream = None
    for page in pages.by_stream(connection, ("name", "version", "data")):
        for row in page:
            if row[0] != stream:
                if not isinstance(row[0], str):
                    raise Damaged(f"an event's stream is no text but {row[0]!r}; {VERIFY}")
                if gathered:
                    yield gathered[0][0], gathered
                gathered, stream = [], row[0]
            gathered.append(row)
    if gathered:
        yield gathered[0][0], gathered


def _added_up(stream: str, rows: Sequence[Row]) -> _Sum:
    message: Message | None = None
    problems: list[str] = []
    for _, _, name, version, data in rows:
        event = cast(MessageEvent, decode(name, version, data, None))
        before = message
        message = evolve(before, stream, event, EPOCH)
        problems += _undone_fates(before, message, event)
    assert message is not None
    return _Sum(
        state=message.state,
        states=tuple(one.state for one in message.recipients),
        open=message.open,
        due=message.due_at is not None,
        kept=message.kept,
        purged=message.purged_at is not None,
        unknown_attempts=sum(one.unknown_attempts for one in message.recipients),
        problems=tuple(problems),
    )


def _undone_fates(before: Message | None, after: Message, event: MessageEvent) -> Iterator[str]:
    """A fate once had must not be had again in another way; only what was relayed may be reported on later."""
    if before is None:
        return
    mended = {Failed.NAME}
    if isinstance(event, Delivered | Failed) and event.report is not None:
        mended.add(Relayed.NAME)
    for old, new in zip(before.recipients, after.recipients, strict=False):
        if old.state in FATES and new.state in FATES and old.state != new.state and old.state not in mended:
            yield f"recipient {new.number} was {old.state} and became {new.state}"


# -- comparing


class _Tables:
    """What the read tables and the agenda say of messages behind one stream up to another, or to the last."""

    def __init__(self, connection: Connection, after: str, until: str | None) -> None:
        behind = "{0} < {1}" if until is None else "{0} < {1} AND {1} <= {0}"
        given = (after,) if until is None else (after, until)

        def asked(sql: str, column: str) -> list[Row]:
            return pages.query(connection, sql.format(behind.format("{0}", column)), given)

        states: defaultdict[str, list[str]] = defaultdict(list)
        for stream, state in asked(_RECIPIENTS, "m.id"):
            states[_text(stream)].append(_text(state))
        self.standing = {
            _text(stream): _Standing(_text(state), octets is not None, tuple(states.get(_text(stream), ())))
            for stream, state, octets in asked(_MESSAGES, "m.id")
        }
        listed = {_text(stream) for (stream,) in asked("SELECT stream FROM agenda WHERE {}", "stream")}
        self.listed = {stream for stream in listed if not stream.startswith(MAILBOX_PREFIX)}


def _text(value: object) -> str:
    return value if isinstance(value, str) else repr(value)  # SQLite takes any


_MESSAGES = "SELECT m.id, m.state, c.position FROM messages m LEFT JOIN contents c ON c.position = m.position WHERE {}"
_RECIPIENTS = "SELECT m.id, r.state FROM messages m JOIN recipients r ON r.message = m.position WHERE {} ORDER BY m.id, r.number"


def _compare(some: _Summed, tables: _Tables, count: Count) -> Iterator[str]:
    for stream, found in some:
        count.messages += 1
        listed = stream in tables.listed
        tables.listed.discard(stream)
        standing = tables.standing.pop(stream, None)
        if isinstance(found, str):
            yield f"{stream}: {found}"
            continue
        count.recipients += len(found.states)
        count.unknown_attempts += found.unknown_attempts
        count.open += found.open
        for problem in (*found.problems, *_differences(found, standing, listed=listed)):
            yield f"{stream}: {problem}"
    for stream in sorted({*tables.standing, *tables.listed}):
        yield f"{stream}: it is in the read tables and not in the log; {REBUILD}"


def _differences(found: _Sum, standing: _Standing | None, *, listed: bool) -> Iterator[str]:
    if standing is None:
        yield f"it is not in the read tables; {REBUILD}"
        return
    if standing.state != found.state:
        yield f"the read tables say {standing.state}, the log says {found.state}; {REBUILD}"
    elif standing.states != found.states:
        said, says = (", ".join(states) or "nobody" for states in (standing.states, found.states))
        yield f"its recipients are {said} in the read tables, {says} in the log; {REBUILD}"
    if found.kept and not standing.has_octets:
        yield f"{'it is open and' if found.open else 'nothing says why'} its octets are gone"
    if found.purged and standing.has_octets:
        yield "its octets were dropped, as the log says, and are there"
    if found.due and not listed:
        yield f"it is open and nobody will look at it; {REBUILD}"
    if not found.due and listed:
        yield f"it is settled and still in the agenda; {REBUILD}"
