"""The log as the driver gives it, page by page: for who reads all of it and needs no events made of the rows.

Constant memory on both databases. Octets come as bytes on either.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import Any

from sqlalchemy import Connection

from store.database import undecodable

PAGE_ROWS = 1_000  # more is slower: it leaves the processor's cache
LAST_REVISION = 2**31 - 1  # above any there is, and Postgres' largest integer

Row = tuple[Any, ...]


def by_position(
    connection: Connection, columns: Sequence[str], after: int, until: int
) -> Iterator[list[Row]]:
    """Yield the events behind one position up to another, in order; position is the first column, then these."""
    sql = (
        f"SELECT position, {', '.join(columns)} FROM events"  # noqa: S608  # names from this program
        " WHERE position > {0} AND position <= {0} ORDER BY position LIMIT {0}"
    )
    while rows := query(connection, sql, (after, until, PAGE_ROWS)):
        yield rows
        after = rows[-1][0]


def by_stream(
    connection: Connection, columns: Sequence[str], after: str = "", until: str | None = None
) -> Iterator[list[Row]]:
    """Yield the events of the streams behind one name up to another, stream by stream in the order of names, or all.

    Stream and revision are the first columns, then these.
    """
    sql = (
        f"SELECT stream, revision, {', '.join(columns)} FROM events"  # noqa: S608  # names from this program
        " WHERE (stream, revision) > ({0}, {0})"
        f"{'' if until is None else ' AND stream <= {0}'} ORDER BY stream, revision LIMIT {{0}}"
    )
    bound = () if until is None else (until,)
    last = (after, LAST_REVISION)
    while rows := query(connection, sql, (*last, *bound, PAGE_ROWS)):
        yield rows
        last = (rows[-1][0], rows[-1][1])


def stream_after(connection: Connection, stream: str, events: int) -> str | None:
    """Return the stream that so many events behind the end of this one are in; None where there are no more so many."""
    sql = (
        "SELECT stream FROM events WHERE (stream, revision) > ({0}, {0})"
        " ORDER BY stream, revision LIMIT 1 OFFSET {0}"
    )
    found = query(connection, sql, (stream, LAST_REVISION, events))
    return found[0][0] if found else None


def query(connection: Connection, sql: str, parameters: tuple[Any, ...] = ()) -> list[Row]:
    """Return all that a query finds; `{0}` stands for a parameter in the driver's way.

    What SQLite holds as text and is none, for it is not UTF-8, comes as the octets that it is.
    """
    driver: Any = connection.connection
    postgres = connection.dialect.name == "postgresql"
    statement = sql.format("%s" if postgres else "?")
    try:
        with closing(driver.cursor(binary=True) if postgres else driver.cursor()) as cursor:
            cursor.execute(statement, parameters)
            return list(cursor.fetchall())
    except sqlite3.OperationalError as error:
        if not undecodable(error):
            raise
        return _as_it_is(driver.driver_connection, statement, parameters)


def _as_it_is(driver: sqlite3.Connection, statement: str, parameters: tuple[Any, ...]) -> list[Row]:
    """Ask again, and decode what can be: done for each text, this is too slow to be the rule."""
    usual, driver.text_factory = driver.text_factory, _text
    try:
        return driver.execute(statement, parameters).fetchall()
    finally:
        driver.text_factory = usual


def _text(octets: bytes) -> str | bytes:
    try:
        return octets.decode()
    except UnicodeDecodeError:
        return octets
