"""Statements of the hot path: built by SQLAlchemy once, run by the driver.

SQLAlchemy's per-call work costs several times what SQLite's own does when a message's row is written (measured: three
times the whole append). So inserts and updates that every message needs are compiled once per dialect and then given to the
driver as they are, inside SQLAlchemy's transaction. Rows are plain dicts with values the driver knows: times already
in microseconds. What goes wrong is the driver's own exception (`database.unreachable` tells which kind).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from typing import Any

import orjson
from sqlalchemy import Connection, Dialect, Executable
from sqlalchemy.sql.elements import CompilerElement


def _dialect(name: str) -> Dialect:
    """Return a dialect with named parameters, so that rows stay dicts on both; imported only where it is used."""
    if name == "sqlite":
        from sqlalchemy.dialects import sqlite

        return sqlite.dialect(paramstyle="named")
    from sqlalchemy.dialects import postgresql

    made: Dialect = postgresql.psycopg.dialect(paramstyle="pyformat")  # type: ignore[no-untyped-call]
    return made


class Statement:
    """One statement, ready for either driver."""

    def __init__(self, statement: Executable, columns: Sequence[str] | None = None) -> None:
        self._statement = statement
        self._columns = columns
        self._compiled: dict[str, str] = {}

    def many(self, connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
        """Run it for each row; nothing for no rows."""
        if not rows:
            return
        with closing(connection.connection.cursor()) as cursor:
            cursor.executemany(self._sql(connection), rows)

    def one(self, connection: Connection, row: Mapping[str, Any]) -> None:
        """Run it once."""
        with closing(connection.connection.cursor()) as cursor:
            cursor.execute(self._sql(connection), row)

    def _sql(self, connection: Connection) -> str:
        name = connection.dialect.name
        if name not in self._compiled:
            assert isinstance(self._statement, CompilerElement)
            compiled = self._statement.compile(dialect=_dialect(name), column_keys=self._columns)
            self._compiled[name] = str(compiled)
        return self._compiled[name]


class Lookup:
    """A query over a list given as one JSON parameter: no statement per length of list."""

    def __init__(self, *, sqlite: str, postgres: str) -> None:
        self._sql = {"sqlite": sqlite, "postgresql": postgres}

    def rows(self, connection: Connection, wanted: Sequence[Any]) -> list[tuple[Any, ...]]:
        """Return what it finds for the list; nothing for an empty one."""
        if not wanted:
            return []
        with closing(connection.connection.cursor()) as cursor:
            cursor.execute(self._sql[connection.dialect.name], {"wanted": orjson.dumps(wanted).decode()})
            return list(cursor.fetchall())


def scalar(connection: Connection, sql: str) -> Any:
    """Return the one value of a query without parameters."""
    with closing(connection.connection.cursor()) as cursor:
        cursor.execute(sql)
        row = cursor.fetchone()
        return row[0] if row else None
