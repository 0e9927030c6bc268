"""How many messages were open at some times, by state: the same as `past` finds at each of them, in one go.

Only messages that were open at one of the times are looked at, and of those the log of the ones that have changed since. Most
mail is closed within a second and never is: so it costs what waited, not what came. Memory does not grow with either.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import BigInteger, ColumnElement, Connection, Row, exists, or_, select, type_coerce

from store import log, selection
from store.events import RedeliveryRequested
from store.leads import Bounds, Span
from store.life import evolve
from store.message import Message
from store.read_tables import SLOW, happenings, messages, slow
from store.recipient import ATTENTION
from store.recorded import Recorded
from store.schema import MICROSECOND, microseconds

PAGE = 500  # messages whose events are in memory at once


class Depth:
    """How many messages were open at each of these times, the earliest first."""

    def __init__(self, times: Sequence[datetime]) -> None:
        self.times = times
        self._steps = {state: [0] * (len(times) + 1) for state in ATTENTION}

    def add(self, state: str, since: datetime, until: datetime | None = None) -> None:
        """Count a message that was in a state from one time to before another, or to the end."""
        if state in self._steps:
            first = bisect_left(self.times, since)
            last = len(self.times) if until is None else bisect_left(self.times, until)
            self._steps[state][first] += 1
            self._steps[state][max(first, last)] -= 1

    def counts(self) -> dict[str, list[int]]:
        """Return how many there were in each state, for each time."""
        found: dict[str, list[int]] = {}
        for state, steps in self._steps.items():
            there = 0
            found[state] = [there := there + step for step in steps[:-1]]
        return found


def between(connection: Connection, times: Sequence[datetime]) -> dict[str, list[int]]:
    """Return how many messages were open at each of these times, the earliest first, by state."""
    depth = Depth(times)
    for rows in _candidates(connection, times):
        changed = [row.id for row in rows if row.changed_at > times[0]]
        recorded = log.read_many(connection, changed) if changed else {}
        for row in rows:
            if row.id in recorded:
                _follow(depth, row.id, recorded[row.id])
            else:
                depth.add(row.state, row.opened_at)
    return depth.counts()


def _follow(depth: Depth, stream: str, recorded: Sequence[Recorded]) -> None:
    """Count a message by its events: each state holds until the next event, which no later one may precede (`past.upto`)."""
    begins = [one.at for one in recorded]
    for n in reversed(range(1, len(begins) - 1)):
        begins[n] = min(begins[n], begins[n + 1])
    message: Message | None = None
    for n, one in enumerate(recorded):
        message = evolve(message, stream, one.event, one.at)  # type: ignore[arg-type]
        begin = max(begins[n], begins[0])
        until = max(begins[n + 1], begins[0]) if n + 1 < len(begins) else None
        depth.add(message.state, begin, until)


def _candidates(connection: Connection, times: Sequence[datetime]) -> Iterator[Sequence[Row[Any]]]:
    """Yield pages of what may have been open at one of the times. The kinds exclude each other."""
    span = selection.between(connection, None, times[-1])
    if span is None or span.first > span.last:
        return
    early = times[0] - SLOW
    replayed = happenings.c.name == RedeliveryRequested.NAME
    once = ~exists().where(replayed, happenings.c.message == messages.c.position)
    before = messages.c.opened_at < early
    yield from _pages(connection, span, [replayed], place=happenings.c.message)
    for state in ATTENTION:
        yield from _pages(connection, span, [messages.c.state == state, before, once])
    yield from _pages(connection, span, [slow, messages.c.closed_at > times[0], before, once])
    recent = selection.between(connection, early, times[-1])
    if recent is not None and recent.first <= recent.last:
        since = messages.c.opened_at >= early
        yield from _pages(connection, recent, [since, messages.c.opened_at <= times[-1], _seen(times), once])


def _seen(times: Sequence[datetime]) -> ColumnElement[bool]:
    """Whether what was open only once, not long before the first time or later, was open at one of them."""
    seen_last = or_(messages.c.closed_at.is_(None), messages.c.closed_at > times[-1])
    if len(times) < 2:
        return seen_last
    # Every time but the last is a whole number of these steps behind the first. Where summer time begins or ends, a day is not as
    # long as the others; then some are looked at that were open at none of the times.
    step = (
        math.gcd(*((at - times[0]) // MICROSECOND for at in times[:-1]))
        or (times[1] - times[0]) // MICROSECOND
    )
    before = step - 1 - microseconds(times[0])  # of how many steps a time is behind: rounded up
    opened, closed = (
        (type_coerce(column, BigInteger) + before) // step
        for column in (messages.c.opened_at, messages.c.closed_at)
    )
    return or_(seen_last, opened != closed)


def _pages(
    connection: Connection,
    span: Span,
    conditions: Sequence[ColumnElement[bool]],
    place: ColumnElement[int] = messages.c.position,
) -> Iterator[Sequence[Row[Any]]]:
    """Yield rows of the messages in a span that fit, oldest first."""
    wanted = select(
        *(place.label("place"), messages.c.id, messages.c.state),
        *(messages.c.opened_at, messages.c.changed_at),
    )
    if place is not messages.c.position:
        wanted = wanted.join(place.table, place == messages.c.position)
    bounds = Bounds(span)
    while True:
        page = wanted.where(*conditions, *bounds.on(place)).order_by(place).limit(PAGE)
        rows = connection.execute(page).all()
        yield rows
        if len(rows) < PAGE:
            return
        bounds = Bounds(span, after=rows[-1].place)
