"""Does everything add up? Each message accepted has, for each recipient, exactly one fate, or is open and will be looked at.

Reads the whole store in constant memory and yields what does not add up, one line each; nothing yielded is the proof.
What a mailbox lists right now is compared elsewhere: this is about what is on record.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, select

from store import log
from store.events import Delivered, Failed, MessageEvent, Relayed
from store.life import Message, evolve
from store.mailbox_events import MAILBOX_PREFIX
from store.recipient import FATES
from store.recorded import Recorded
from store.schema import agenda, contents, messages


@dataclass(slots=True)
class Count:
    """What was looked at."""

    messages: int = 0
    recipients: int = 0
    open: int = 0
    unknown_attempts: int = 0  # possible duplicates, each named in its message's log
    problems: int = 0


def check(connection: Connection, count: Count) -> Iterator[str]:
    """Yield every discrepancy in the store, and add up in `count` what was seen."""
    for some in _batches(connection):
        tables = _read_tables(connection, [recorded[0].position for _, recorded in some])
        for stream, recorded in some:
            count.messages += 1
            for problem in _check_message(stream, recorded, tables, count):
                count.problems += 1
                yield f"{stream}: {problem}"


_Streams = list[tuple[str, list[Recorded]]]
_Row = tuple[str, bool, bool]  # the state, whether there are octets, whether it stands in the agenda


def _batches(connection: Connection) -> Iterator[_Streams]:
    """Yield the messages with their events, some hundred together."""
    some: _Streams = []
    for stream, recorded in log.streams(connection):
        if stream.startswith(MAILBOX_PREFIX):
            continue
        some.append((stream, recorded))
        if len(some) == log.READ_BATCH:
            yield some
            some = []
    if some:
        yield some


def _read_tables(connection: Connection, positions: list[int]) -> dict[int, _Row]:
    """Return what the read tables say of the messages that were opened at these positions."""
    found = connection.execute(_STANDING, {"positions": positions})
    return {position: (state, octets is not None, due is not None) for position, state, octets, due in found}


_STANDING = (
    select(messages.c.position, messages.c.state, contents.c.position, agenda.c.stream)
    .join(contents, contents.c.position == messages.c.position, isouter=True)
    .join(agenda, agenda.c.stream == messages.c.id, isouter=True)
    .where(messages.c.position.in_(bindparam("positions", expanding=True)))
)


def _check_message(
    stream: str, recorded: list[Recorded], tables: dict[int, _Row], count: Count
) -> Iterator[str]:
    if [r.revision for r in recorded] != list(range(len(recorded))):
        yield "its revisions have a hole"
        return  # what is left adds up to nothing
    message: Message | None = None
    for one in recorded:
        before = message
        assert isinstance(one.event, MessageEvent)
        message = evolve(before, stream, one.event, one.at)
        yield from _undone_fates(before, message, one.event)
    assert message is not None
    count.recipients += len(message.recipients)
    count.unknown_attempts += sum(r.unknown_attempts for r in message.recipients)
    count.open += message.open
    yield from _standing(message, tables.get(recorded[0].position))


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


def _standing(message: Message, row: _Row | None) -> Iterator[str]:
    if row is None:
        yield "it is not in the read tables; run: mailgate db rebuild"
        return
    state, has_octets, listed = row
    if state != message.state:
        yield f"the read tables say {state}, the log says {message.state}; run: mailgate db rebuild"
    if message.kept and not has_octets:
        open_or_not = "it is open and" if message.open else "nothing says why"
        yield f"{open_or_not} its octets are gone"
    if message.purged_at is not None and has_octets:
        yield "its octets were dropped, as the log says, and are there"
    if message.due_at is not None and not listed:
        yield "it is open and nobody will look at it; run: mailgate db rebuild"
    if message.due_at is None and listed:
        yield "it is settled and still in the agenda; run: mailgate db rebuild"
