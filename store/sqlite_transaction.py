"""How a transaction on SQLite begins and ends: SQLAlchemy's, and one by the driver alone for who commits all the time.

SQLAlchemy's own takes as long as a tenth of a small append. What it is asked within the driver's takes part in that.
"""

from __future__ import annotations

import sqlite3
from types import TracebackType
from typing import Final, cast

from sqlalchemy import Connection
from sqlalchemy.exc import OperationalError

from store.place import Place

PLACE: Final = "mailgate_place"  # an execution option of each engine: the file, which must stay where it is
WRITE: Final = "mailgate_write"  # another: that it is not for reading alone
# For so long a writer trusts what it saw: a file can be moved in the middle of a commit as well, and to look takes a
# twentieth of one.
FRESH_SECONDS: Final = 0.005


def begin(connection: Connection) -> None:
    """Begin where SQLAlchemy says so, for the driver begins nothing by itself. Raises OperationalError."""
    options, driver = connection.get_execution_options(), _driver(connection)
    write = options.get(WRITE, True)
    if write and driver.in_transaction:
        return  # within the driver's own
    # A DEFERRED transaction that turns to writing fails at once when another writer is active: say it first.
    sql = "BEGIN IMMEDIATE" if write else "BEGIN"
    try:
        options[PLACE].check()
        _begin(driver, sql)
    except sqlite3.OperationalError as error:
        raise OperationalError(sql, None, error) from error


class OwnTransaction:
    """A write transaction by the driver: commits at the end of the block, or rolls back on error.

    Raises the driver's exceptions.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._driver = _driver(connection)

    def __enter__(self) -> None:
        place: Place = self._connection.get_execution_options()[PLACE]
        place.check(seen_within=FRESH_SECONDS)
        _begin(self._driver, "BEGIN IMMEDIATE")

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End it; whatever happens, none is left open that a later one would take part in."""
        try:
            if error is None:
                self._driver.commit()
        finally:
            if self._driver.in_transaction:
                self._driver.rollback()
            if self._connection.in_transaction():
                self._connection.rollback()  # SQLAlchemy's part of it: nothing is left to undo


def _begin(driver: sqlite3.Connection, sql: str) -> None:
    # As any other statement it would take longer than the rest of a small transaction.
    driver.execute(sql).close()


def _driver(connection: Connection) -> sqlite3.Connection:
    return cast(sqlite3.Connection, connection.connection.driver_connection)
