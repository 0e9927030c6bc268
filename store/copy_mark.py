"""Whether a store is a copy on which no gateway ran yet: SQLite's `user_version` says so, which nothing else uses.

Its original may have gone on since: what is open in the copy may have been handed over there.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from sqlalchemy import Connection

from store.statement import scalar

COPY = 1


def mark(file: Path) -> None:
    """Write into a backup that it is one. Raises sqlite3.Error."""
    with closing(sqlite3.connect(file, isolation_level=None)) as connection:
        connection.execute(f"PRAGMA user_version = {COPY}")


def stands(connection: Connection) -> bool:
    """Whether this store is such a copy; never on Postgres, where a backup is restored by a command."""
    return connection.dialect.name == "sqlite" and scalar(connection, "PRAGMA user_version") == COPY


def clear(connection: Connection) -> None:
    """It is a store like any other from now on."""
    connection.exec_driver_sql("PRAGMA user_version = 0")
