"""Copying what is not derived from one store to another: events, seals, followers and octets, as they are, in constant memory.

Knows tables and rows, no files. `store.backup` says what is copied where.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import Connection, Table, func, insert, select
from sqlalchemy.exc import SQLAlchemyError

from store.database import first_line
from store.errors import StoreError
from store.schema import contents, events, followers, seals

T = TypeVar("T")
Row = dict[str, Any]

BATCH_ROWS = 1_000  # events in one statement: some hundred kilobytes
BATCH_OCTETS = 4 << 20  # contents in one statement; a larger one goes alone

Progress = Callable[[str, int, int], None]  # what is being done, how much is done, how much there is


def quiet(doing: str, done: int, total: int) -> None:
    """Show no progress."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """What went over."""

    events: int
    messages: int  # with their octets
    octets: int


def pour(
    reader: Connection,
    put: Callable[[Table, Sequence[Row]], None],
    progress: Progress,
    file: Path | None = None,
) -> Copied:
    """Read everything that is not derived, in order and in constant memory, and put it.

    `file` is named where reading it fails.
    """
    total, done = size(reader), 0
    for rows in _told(file, _events(reader)):
        put(events, rows)
        done += len(rows)
        progress("events", done, total.events)
    for rows in _told(file, _seals(reader)):
        put(seals, rows)
    for rows in _told(file, _followers(reader)):
        put(followers, rows)
    done = 0
    for rows in _told(file, _contents(reader)):
        put(contents, rows)
        done += sum(len(row["octets"]) for row in rows)
        progress("octets", done, total.octets)
    return total


def _told(file: Path | None, batches: Iterable[T]) -> Iterator[T]:
    """Say of which file it is that can't be read."""
    try:
        yield from batches
    except SQLAlchemyError as error:
        if file is None:
            raise
        raise StoreError(f"{file} is damaged: {first_line(error)}") from error


def _events(reader: Connection) -> Iterator[list[Row]]:
    after = 0
    while True:
        page = select(events).where(events.c.position > after).order_by(events.c.position).limit(BATCH_ROWS)
        rows = [dict(row) for row in reader.execute(page).mappings()]
        if rows:
            yield rows
        if len(rows) < BATCH_ROWS:
            return
        after = rows[-1]["position"]


def _seals(reader: Connection) -> Iterator[list[Row]]:
    """One at a time: the first may hold the blocks of millions of events."""
    for row in reader.execute(select(seals).order_by(seals.c.number)).mappings():
        yield [dict(row)]


def _followers(reader: Connection) -> Iterator[list[Row]]:
    """A few rows; who holds one there doesn't hold it here."""
    rows = reader.execute(select(followers)).mappings()
    if free := [dict(row) | {"holder": None, "lease_until": None} for row in rows]:
        yield free


def _contents(reader: Connection) -> Iterator[list[Row]]:
    """Look at the sizes first: a batch is bounded in octets, not in rows."""
    for first, last in content_ranges(reader):
        some = select(contents).where(contents.c.position.between(first, last))
        yield [dict(row) for row in reader.execute(some.order_by(contents.c.position)).mappings()]


def content_ranges(reader: Connection) -> Iterator[tuple[int, int]]:
    """Yield the positions between which there are as many octets as one may hold in memory, or one message."""
    after, first, octets = 0, None, 0
    while True:
        sizes = select(contents.c.position, func.length(contents.c.octets))
        page = sizes.where(contents.c.position > after).order_by(contents.c.position).limit(BATCH_ROWS)
        rows = reader.execute(page).all()
        for position, size in rows:
            if first is not None and octets + size > BATCH_OCTETS:
                yield first, after
                first, octets = None, 0
            first, octets, after = first or position, octets + size, position
        if first is not None:
            yield first, after
            first, octets = None, 0
        if len(rows) < BATCH_ROWS:
            return


def insert_rows(writer: Connection, table: Table, rows: Sequence[Row]) -> None:
    """Put rows as they are."""
    writer.execute(insert(table), rows)


def holds_any(connection: Connection, table: Table) -> bool:
    """Whether a table has a row."""
    return connection.scalar(select(table.c.position).limit(1)) is not None


def size(reader: Connection) -> Copied:
    """Return how much there is to copy."""
    octets = func.coalesce(func.sum(func.length(contents.c.octets)), 0)
    messages, sum_octets = reader.execute(select(func.count(), octets).select_from(contents)).one()
    # Positions are without gaps, so the last one is their number.
    last = reader.scalar(select(func.coalesce(func.max(events.c.position), 0))) or 0
    return Copied(events=last, messages=messages, octets=int(sum_octets))
