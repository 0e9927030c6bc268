"""Hold the history of the store against another configuration, message by message, in constant memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import cast

from sqlalchemy import Connection

from engine.core.arrival import Candidate
from engine.core.backtest import Difference, compare
from store import log, queries
from store.errors import Damaged, UnknownEvent
from store.events import Erased, MessageEvent
from store.queries import Filter
from store.recorded import Recorded

BATCH = 200  # messages whose events are read together


@dataclass(frozen=True, slots=True, kw_only=True)
class Tested:
    """A message, and what would differ in its life. `untold` says why that can't be told, None where it can."""

    stream: str
    differences: tuple[Difference, ...] = ()
    untold: str | None = None


def tested(connection: Connection, wanted: Filter, candidate: Candidate) -> Iterator[Tested]:
    """Yield each message that fits, the newest first."""
    for some in _together(row["id"] for row in queries.every(connection, wanted)):
        try:
            stories = log.read_many(connection, some)
        except (Damaged, UnknownEvent):  # one of them; which, is found out below
            stories = {}
        for stream in some:
            yield _one(connection, stream, stories.get(stream), candidate)


def _together(streams: Iterable[str]) -> Iterator[list[str]]:
    rest = iter(streams)
    while some := list(islice(rest, BATCH)):
        yield some


def _one(
    connection: Connection, stream: str, story: Sequence[Recorded] | None, candidate: Candidate
) -> Tested:
    try:
        recorded = log.read(connection, stream) if story is None else story
    except (Damaged, UnknownEvent) as error:
        return Tested(stream=stream, untold=str(error))
    if any(isinstance(one.event, Erased) for one in recorded):
        return Tested(stream=stream, untold="it was erased: for whom it was, nobody knows")
    events = [(cast(MessageEvent, one.event), one.at) for one in recorded]
    return Tested(stream=stream, differences=tuple(compare(stream, events, candidate)))
