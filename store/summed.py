"""What the events of each message add up to: those with the same life once. `conserve` compares it with what is on record.

Lives that are alike are added up once: see `decisive`. What depends on times and next hops too is told of open messages alone.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, cast

from sqlalchemy import Connection

from store import pages
from store.codec import decode
from store.decisive import read
from store.errors import Damaged
from store.events import Delivered, Failed, MessageEvent, Relayed
from store.life import Message, evolve, fold
from store.mailbox_events import MAILBOX_PREFIX
from store.pages import Row
from store.recipient import FATES
from store.recorded import VERIFY, time_of
from store.schema import EPOCH, microseconds

TOGETHER = 500  # messages that are compared with the read tables in one go
LIVES_KEPT = 20_000  # that were added up: tens of megabytes at most


@dataclass(frozen=True, slots=True)
class Sum:
    """What the events of a message add up to."""

    state: str
    states: tuple[str, ...]  # of the recipients
    open: bool
    closed: bool
    due: bool
    exempt: bool
    kept: bool  # its octets
    purged: bool  # they were dropped
    unknown_attempts: int
    problems: tuple[str, ...]


class Wait(NamedTuple):
    """Whom an open message waits for, and when it is to be looked at."""

    lane: str
    due: int


class Life(NamedTuple):
    """What is on record of a message; why it adds up to nothing, where it does not."""

    stream: str
    found: Sum | str
    wait: Wait | None = None


class Summing:
    """Adds up each message, those with the same life once."""

    def __init__(self) -> None:
        self._known: dict[tuple[Hashable, ...], Sum] = {}

    def batches(self, connection: Connection) -> Iterator[tuple[int, list[Life]]]:
        """Yield so many messages together, with how many events were read; an empty batch at the end."""
        some: list[Life] = []
        done = 0
        for stream, rows in _streams(connection):
            done += len(rows)
            if stream.startswith(MAILBOX_PREFIX):
                continue
            some.append(self._life(connection, stream, rows))
            if len(some) == TOGETHER:
                yield done, some
                some = []
        if some:
            yield done, some
        yield done, []

    def _life(self, connection: Connection, stream: str, rows: Sequence[Row]) -> Life:
        if [row[1] for row in rows] != list(range(len(rows))):
            return Life(stream, "its revisions have a hole")  # what is left adds up to nothing
        try:
            found = self._sum(stream, rows)
            return Life(stream, found, _wait(connection, stream, rows) if found.due else None)
        except Damaged as error:
            return Life(stream, str(error))

    def _sum(self, stream: str, rows: Sequence[Row]) -> Sum:
        life = tuple([read(name, version, data) for _, _, name, version, data in rows])
        if (found := self._known.get(life)) is None:
            found = _added_up(stream, rows)
            if len(self._known) >= LIVES_KEPT:
                self._known.clear()
            self._known[life] = found
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


def _added_up(stream: str, rows: Sequence[Row]) -> Sum:
    message: Message | None = None
    problems: list[str] = []
    for _, _, name, version, data in rows:
        event = cast(MessageEvent, decode(name, version, data, None))
        before = message
        message = evolve(before, stream, event, EPOCH)
        problems += _undone_fates(before, message, event)
    assert message is not None
    return Sum(
        state=message.state,
        states=tuple(one.state for one in message.recipients),
        open=message.open,
        closed=message.closed_at is not None,
        due=message.due_at is not None,
        exempt=message.exempt_since is not None,
        kept=message.kept,
        purged=message.purged_at is not None,
        unknown_attempts=sum(one.unknown_attempts for one in message.recipients),
        problems=tuple(problems),
    )


def _wait(connection: Connection, stream: str, rows: Sequence[Row]) -> Wait | None:
    """Return what its times and next hops say, which are no part of a sum; of few messages, for most are closed."""
    times = pages.query(connection, "SELECT at FROM events WHERE stream = {0} ORDER BY revision", (stream,))
    events = (decode(name, version, data, None) for _, _, name, version, data in rows)
    message = fold(stream, zip(events, (time_of(at) for (at,) in times), strict=True))
    if message is None or message.due_at is None:
        return None
    return Wait(message.lane, microseconds(message.due_at))


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
