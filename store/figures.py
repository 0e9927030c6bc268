"""How many messages came in during a period, by what became of them: figures for a report.

Each figure is of messages that a filter of `selection` finds, counted from their rows by the database; so what was erased still
counts, and memory is that of the answer. A period is cut into steps from its beginning on, all as long unless it says where each
begins; the last may be short.
"""

from __future__ import annotations

import itertools
import math
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Connection,
    Select,
    case,
    func,
    literal,
    literal_column,
    select,
)

from store import selection
from store.leads import Bounds
from store.message import DOMAIN_HOP
from store.read_tables import hops, messages, recipients
from store.recipient import State
from store.schema import MICROSECOND, microseconds
from store.selection import Filter, time_taken

FAILING: tuple[State, ...] = ("failed", "deferred", "outcome-unknown")
SAID = 30  # characters that replies without a code of their own have in common


@dataclass(frozen=True, slots=True, kw_only=True)
class Period:
    """From `since` until before `until`, in steps. `begins` is where each does, where they are not all as long."""

    since: datetime
    until: datetime
    step: timedelta
    begins: tuple[datetime, ...] = ()  # the first is `since`

    def edges(self) -> list[datetime]:
        """Return where each step begins, and the end."""
        if self.begins:
            return [*self.begins, self.until]
        count = -((self.since - self.until) // self.step)
        return [*(self.since + n * self.step for n in range(count)), self.until]


def by_step(connection: Connection, period: Period) -> Counter[tuple[int, str]]:
    """Count by the number of the step in which a message came in, and by its state."""
    since = microseconds(period.since)
    begins = [(begin - period.since) // MICROSECOND for begin in period.edges()[:-1]]
    # A step is a whole number of these parts, also where it is not as long as the others.
    part = math.gcd(period.step // MICROSECOND, *begins)
    # The literal, for a database that groups by it must see that it is the same in both places.
    number = literal_column(f"(messages.opened_at - {since}) / {part}", BigInteger)
    counts: Counter[tuple[int, str]] = Counter()
    for (n, state), count in _counted(connection, period, number).items():
        counts[bisect_right(begins, n * part) - 1, state] += count
    return counts


def by_mailbox(connection: Connection, period: Period) -> Counter[tuple[str, str]]:
    """Count what was fetched, by mailbox and state."""
    return _counted(connection, period, messages.c.mailbox, messages.c.mailbox.is_not(None))


def by_direction(connection: Connection, period: Period) -> Counter[tuple[str, str]]:
    """Count by direction and state."""
    return _counted(connection, period, messages.c.direction)


def by_next_hop(connection: Connection, period: Period) -> Counter[tuple[str, str]]:
    """Count by each next hop where a message was to go or was tried, and by state; direct delivery is one of them."""
    bounds = _bounds(connection, period)
    if bounds is None:
        return Counter()
    query = (
        _grouped(hops.c.name)
        .join(messages, messages.c.position == hops.c.message)
        .where(*bounds.on(hops.c.message), *_within(bounds, period))
        .where(hops.c.name.not_like(f"{DOMAIN_HOP}%"))
    )
    return _rows(connection, query)


def by_time_taken(
    connection: Connection, period: Period, edges: Sequence[timedelta], states: Sequence[State]
) -> Counter[tuple[int, str]]:
    """Count by how many of these durations, the shortest first, a message took until it was closed, and by state."""
    longest_first = list(enumerate(edges, 1))[::-1]
    took = case(
        *((time_taken >= edge // MICROSECOND, literal(n)) for n, edge in longest_first), else_=literal(0)
    )
    number = took.label("number")
    return _counted(
        connection, period, number, messages.c.state.in_(states), messages.c.closed_at.is_not(None)
    )


def replies(connection: Connection, period: Period, most: int) -> list[Filter]:
    """Return what finds messages that failed or could not be delivered yet, by how the last reply begins.

    Those first that most recipients got, up to so many.
    """
    bounds = _bounds(connection, period)
    if bounds is None:
        return []
    begins = _begins(func.coalesce(recipients.c.reply, "")).label("begins")
    its = (
        select(messages.c.state, begins)
        .join(recipients, recipients.c.message == messages.c.position)
        .where(messages.c.state.in_(FAILING), recipients.c.state == messages.c.state)
        .where(*_within(bounds, period), *bounds.on(recipients.c.message))
    ).subquery()
    alike = func.lower(its.c.begins)  # that is how they are looked for
    query = (
        select(its.c.state, func.min(its.c.begins))
        .group_by(its.c.state, alike)
        .order_by(func.count().desc(), its.c.state, alike)
        .limit(most)
    )
    rows = connection.execute(query).all()
    found = (Filter(state=state, reply=_pattern(said)) for state, said in rows)
    return list(dict.fromkeys(found))


def count(connection: Connection, wanted: Filter, period: Period) -> int:
    """Return how many messages that came in during the period fit."""
    asked = replace(wanted, since=period.since, until=period.until)
    span = selection.between(connection, asked.since, asked.until)
    if span is None or span.first > span.last:
        return 0
    bounds = Bounds(span)
    leads = selection.weighed(connection, asked, bounds)
    chosen = selection.chosen(asked, leads, bounds).order_by(None).subquery()
    return connection.scalar(select(func.count()).select_from(chosen)) or 0


def _counted(
    connection: Connection, period: Period, what: ColumnElement[Any], *conditions: ColumnElement[bool]
) -> Counter[Any]:
    bounds = _bounds(connection, period)
    if bounds is None:
        return Counter()
    return _rows(connection, _grouped(what).where(*_within(bounds, period), *conditions))


def _grouped(what: ColumnElement[Any]) -> Select[Any]:
    return select(what, messages.c.state, func.count()).group_by(what, messages.c.state)


def _rows(connection: Connection, query: Select[Any]) -> Counter[Any]:
    return Counter({(what, state): number for what, state, number in connection.execute(query)})


def _bounds(connection: Connection, period: Period) -> Bounds | None:
    span = selection.between(connection, period.since, period.until)
    return None if span is None or span.first > span.last else Bounds(span)


def _within(bounds: Bounds, period: Period) -> Iterator[ColumnElement[bool]]:
    yield from bounds.on(messages.c.position)
    yield messages.c.opened_at >= period.since
    yield messages.c.opened_at < period.until


def _begins(reply: ColumnElement[str]) -> ColumnElement[str]:
    """How a reply begins: code and enhanced code (RFC 3463) with the space behind where it has both; else so many characters."""
    sizes = itertools.product((1, 2, 3), repeat=2)
    coded = (
        (reply.like(f"___ _.{'_' * subject}.{'_' * detail} %"), func.substr(reply, 1, 8 + subject + detail))
        for subject, detail in sizes
    )
    return case(*coded, else_=func.substr(reply, 1, SAID))


def _pattern(begins: str) -> str:
    """The filter's pattern for replies that begin so, and for no other; what can't be typed may be anything."""
    typed = "".join(character if character.isprintable() else "*" for character in begins)
    return f"{typed}*" if typed.endswith(" ") or len(typed) == SAID else typed
