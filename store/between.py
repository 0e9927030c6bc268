"""What changed between two times: messages that came in, and those that stand otherwise than before.

Both times are read from the log, in constant memory. It goes through the messages that something happened to since the
earlier time, which their rows tell, newest first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection

from store import past, queries
from store.life import Message, fold
from store.recipient import State
from store.selection import Filter

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """A message as it stood at the later time, and its state at the earlier; None: it came in between."""

    row: Json
    before: State | None
    after: State
    closed: bool  # it was open or not here yet, and then it was closed


def changes(connection: Connection, wanted: Filter, since: datetime, at: datetime) -> Iterator[Change]:
    """Yield what changed after `since` and up to `at`, of the messages that fitted then, newest first."""
    for position, recorded in past.touched(connection, wanted, since, at):
        stream = recorded[0].stream
        after = fold(stream, ((one.event, one.at) for one in recorded))
        before = fold(stream, ((one.event, one.at) for one in past.upto(recorded, since)))
        assert after is not None  # what was touched has events
        if _standing(before) != _standing(after):
            yield Change(
                row=queries.told(position, after),
                before=None if before is None else before.state,
                after=after.state,
                closed=not after.open and (before is None or before.open),
            )


def _standing(message: Message | None) -> tuple[State, ...] | None:
    return None if message is None else (message.state, *(one.state for one in message.recipients))
