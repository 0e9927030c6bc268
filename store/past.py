"""The messages as they stood at a time: each one's events up to then, added up.

A message to which nothing happened since stands as its row says; of the others the log is read. So it costs what has
changed since then, not what the store holds. The log's order is the truth, for clocks may go back: what stands before an
event of that time had happened by then.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any, Protocol, TypeVar

from sqlalchemy import ColumnElement, Connection, Row, exists, or_

from store import log, queries, selection
from store.folding import asked_words
from store.leads import Bounds
from store.life import DOMAIN_HOP, Message, fold
from store.read_tables import exempt, messages
from store.recipient import ATTENTION
from store.recorded import Recorded
from store.rows import DIRECTLY, key, storable, words_of
from store.selection import Filter

PAGE = 200  # messages whose events are in memory at once

Json = dict[str, Any]


class Dated(Protocol):
    """What has a time."""

    @property
    def at(self) -> datetime:
        """When it happened."""


D = TypeVar("D", bound=Dated)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stood:
    """A message as it stood: its row, and its events up to then where they had to be read."""

    row: Json
    recorded: Sequence[Recorded] | None = None
    lane: str | None = None  # where it waited; None: where it waits now


def upto(happened: Sequence[D], at: datetime) -> Sequence[D]:
    """Return what had happened by then, of a stream's events in their order; nothing if it was not opened yet."""
    if not happened or happened[0].at > at:
        return ()
    last = next(n for n in reversed(range(len(happened))) if happened[n].at <= at)
    return happened[: last + 1]


def every(connection: Connection, wanted: Filter, at: datetime) -> Iterator[Json]:
    """Yield the messages that fitted then, as they stood, newest first, in constant memory."""
    return (one.row for one in _stood(connection, wanted, at, newest_first=True))


def waiting(connection: Connection, wanted: Filter, at: datetime) -> Iterator[Stood]:
    """Yield the messages that fitted and were open then, as they stood, oldest first, in constant memory."""
    return (
        one
        for one in _stood(connection, wanted, at, newest_first=False, states=ATTENTION)
        if one.row["state"] in ATTENTION
    )


def touched(
    connection: Connection, wanted: Filter, since: datetime, at: datetime
) -> Iterator[tuple[int, Sequence[Recorded]]]:
    """Yield the position, and the events up to `at`, of each message that fitted then and may have changed after `since`."""
    # Where the clock went back since it came in, its last change may be older than its arrival.
    then = [or_(messages.c.changed_at > since, messages.c.opened_at > since)]
    rows = _candidates(connection, wanted, at, then, newest_first=True)
    for some in rows:
        recorded = log.read_many(connection, [row.id for row in some])
        for row in some:
            its = upto(recorded[row.id], at)
            message = fold(row.id, ((one.event, one.at) for one in its))
            if message is not None and _fits(message, its, wanted):
                yield row.position, its


def _stood(
    connection: Connection, wanted: Filter, at: datetime, *, newest_first: bool, states: Sequence[str] = ()
) -> Iterator[Stood]:
    then = [messages.c.opened_at <= at]
    # Where nothing happened since, the row tells all.
    since = messages.c.changed_at > at
    if wanted.state is not None:
        then.append(or_(since, messages.c.state == wanted.state))
    if wanted.reply is not None:
        then.append(or_(since, selection.replied(wanted.reply)))
    then += (or_(since, condition) for condition in selection.took(wanted))
    if states:
        then.append(or_(since, messages.c.state.in_(states)))
    if wanted.kept:
        then.append(or_(since, exists().where(exempt.c.message == messages.c.position)))
    for rows in _candidates(connection, wanted, at, then, newest_first=newest_first):
        yield from _as_of(connection, rows, wanted, at)


def _candidates(
    connection: Connection,
    wanted: Filter,
    at: datetime,
    then: Sequence[ColumnElement[bool]],
    *,
    newest_first: bool,
) -> Iterator[Sequence[Row[Any]]]:
    """Yield pages of what may have fitted: what may have been otherwise then is not asked for, all else only grows."""
    asked = replace(wanted, state=None, reply=None, slower=None, faster=None, kept=False)
    until = at if wanted.until is None else min(wanted.until, at)
    span = selection.between(connection, wanted.since, until)
    if span is None or span.first > span.last:
        return
    bounds = Bounds(span)
    leads = selection.weighed(connection, asked, bounds)
    while True:
        query = selection.chosen(asked, leads, bounds, newest_first=newest_first).where(*then).limit(PAGE)
        rows = selection.asked(connection, leads, query)
        if rows:
            yield rows
        if len(rows) < PAGE:
            return
        edge = rows[-1].position
        bounds = Bounds(span, before=edge) if newest_first else Bounds(span, after=edge)


def _as_of(connection: Connection, rows: Sequence[Row[Any]], wanted: Filter, at: datetime) -> Iterator[Stood]:
    changed = [row.id for row in rows if row.changed_at > at]
    recorded = log.read_many(connection, changed) if changed else {}
    for row in queries.with_recipients(connection, rows):
        if row["id"] not in recorded:
            yield Stood(row=row)
            continue
        its = upto(recorded[row["id"]], at)
        message = fold(row["id"], ((one.event, one.at) for one in its))
        if message is not None and _fits(message, its, wanted):
            yield Stood(row=queries.told(row["position"], message), recorded=its, lane=message.lane)


def _fits(message: Message, recorded: Sequence[Recorded], wanted: Filter) -> bool:
    """Whether it fitted by what may have changed since; the rest was asked of the database."""
    if wanted.state is not None and message.state != wanted.state:
        return False
    if wanted.kept and message.exempt_since is None:
        return False
    if not _took(message, wanted):
        return False
    if wanted.reply is not None and not any(
        _like(storable(one.reply or ""), wanted.reply) for one in message.recipients
    ):
        return False
    if wanted.next_hop is not None and not _was_at(message, wanted.next_hop):
        return False
    if wanted.event is not None and all(wanted.event != one.event.NAME for one in recorded):
        return False
    if wanted.replay is not None and wanted.replay not in message.replays:
        return False
    if wanted.recipient is not None and not any(
        _alike(one.address, wanted.recipient) for one in message.recipients
    ):
        return False
    return wanted.text is None or _says(message, asked_words(wanted.text))


def _was_at(message: Message, hop: str) -> bool:
    return hop in message.hops or (
        hop == DIRECTLY and any(one.startswith(DOMAIN_HOP) for one in message.hops)
    )


def _took(message: Message, wanted: Filter) -> bool:
    if wanted.slower is None and wanted.faster is None:
        return True
    if message.closed_at is None:
        return False
    took = message.closed_at - message.opened_at
    return (wanted.slower or took) <= took and (wanted.faster is None or took < wanted.faster)


def _alike(address: str, pattern: str) -> bool:
    return _like(key(address), key(pattern.strip("<>")))


def _like(text: str, pattern: str) -> bool:
    return fnmatchcase(text.lower(), pattern.lower().replace("[", "[[]").replace("?", "[?]"))


def _says(message: Message, asked: Sequence[str]) -> bool:
    said = words_of(message).split(" ")
    return all(
        any(word.startswith(one[:-1]) if one.endswith("*") else word == one for word in said) for one in asked
    )
