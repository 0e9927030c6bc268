"""Statements of the hot path: built by SQLAlchemy once, run by the driver.

SQLAlchemy's per-call work costs several times what SQLite's own does when a message's row is written (measured: three
times the whole append). So inserts and updates that every message needs are compiled once per dialect and then given to the
driver as they are, inside SQLAlchemy's transaction. Rows are plain dicts with values the driver knows: times already
in microseconds. What goes wrong is the driver's own exception (`database.unreachable` tells which kind).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import chain
from operator import itemgetter
from typing import Any

import orjson
from sqlalchemy import Compiled, Connection, Dialect, Executable
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.elements import CompilerElement

Row = Mapping[str, Any]


FEW = 16
BLOCKS = (64, FEW)  # rows given to one statement on SQLite; an UPDATE of fewer takes longer than one by one


def _dialect(name: str) -> Dialect:
    """Return a dialect as its driver likes its parameters; imported only where it is used."""
    if name == "sqlite":
        from sqlalchemy.dialects import sqlite

        return sqlite.dialect(paramstyle="qmark")
    from sqlalchemy.dialects import postgresql

    made: Dialect = postgresql.psycopg.dialect(paramstyle="pyformat")  # type: ignore[no-untyped-call]
    return made


# Parameters as a driver takes them: of a block of rows one behind the other, or of each row by itself.
Parcel = list[Any]


@dataclass(frozen=True, slots=True)
class _Ready:
    """A statement as a driver takes it, and what makes the driver's parameters of a row."""

    sql: str
    width: int  # how many parameters a row has
    blocks: tuple[
        tuple[int, str], ...
    ]  # the same for so many rows, most first; none: the driver does as well
    parameters: Callable[[Row], Any]


class Statement:
    """One statement, ready for either driver."""

    def __init__(self, statement: Executable) -> None:
        self._statement = statement
        self._ready: dict[str, _Ready] = {}

    def many(self, connection: Connection, rows: Sequence[Row]) -> None:
        """Run it for each row; nothing for no rows. On SQLite no two rows may change the same one differently."""
        if not rows:
            return
        if len(rows) >= FEW:
            self.send(connection, self.packed(connection.dialect.name, rows))
            return
        ready = self._for(connection.dialect.name)
        cursor = connection.connection.cursor()
        try:
            cursor.executemany(ready.sql, [ready.parameters(row) for row in rows])
        finally:
            cursor.close()

    def packed(self, dialect: str, rows: Sequence[Row]) -> list[Parcel]:
        """Return what `send` needs to run it for each row: plain values, that another process may have put together."""
        ready = self._for(dialect)
        given = [ready.parameters(row) for row in rows]
        parcels: list[Parcel] = []
        done = 0
        for size, _ in ready.blocks:
            while len(given) - done >= size:
                parcels.append(list(chain.from_iterable(given[done : done + size])))
                done += size
        return [*parcels, given[done:]]

    def send(self, connection: Connection, parcels: Sequence[Parcel]) -> None:
        """Run it for what was packed for this database."""
        ready = self._for(connection.dialect.name)
        by_length = {size * ready.width: sql for size, sql in ready.blocks}
        *blocks, rest = parcels
        with closing(connection.connection.cursor()) as cursor:
            for block in blocks:
                cursor.execute(by_length[len(block)], block)
            if rest:
                cursor.executemany(ready.sql, rest)

    def one(self, connection: Connection, row: Row) -> None:
        """Run it once."""
        ready = self._for(connection.dialect.name)
        with closing(connection.connection.cursor()) as cursor:
            cursor.execute(ready.sql, ready.parameters(row))

    def _for(self, name: str) -> _Ready:
        if name not in self._ready:
            assert isinstance(self._statement, CompilerElement)
            compiled = self._statement.compile(dialect=_dialect(name))
            self._ready[name] = (
                _positional(compiled) if name == "sqlite" else _Ready(str(compiled), 0, (), _as_it_is)
            )
        return self._ready[name]


def _positional(compiled: Compiled) -> _Ready:
    """Return a statement for SQLite's driver.

    It lets other threads run, and then waits for its turn, at each named parameter and at each row: beside a busy event loop
    that takes many times longer than the work. So parameters go by position, and many rows into one statement.
    """
    assert isinstance(compiled, SQLCompiler)
    names = compiled.positiontup
    assert names
    sql = str(compiled)
    blocks = tuple((size, _for_rows(sql, len(names), size)) for size in BLOCKS)
    if len(names) == 1:
        return _Ready(sql, 1, blocks, lambda given: (given[names[0]],))
    return _Ready(sql, len(names), blocks, itemgetter(*names))


def _for_rows(sql: str, width: int, rows: int) -> str:
    """Return what does for many rows of parameters at once what a statement does for one."""
    row = f"({', '.join('?' * width)})"
    values = f"VALUES {', '.join([row] * rows)}"
    if f"VALUES {row}" in sql:
        return sql.replace(f"VALUES {row}", values)
    if sql.startswith("DELETE"):
        assert "= (SELECT" not in sql  # it would take one row of those given
        return sql.replace("= ?", f"IN ({values})")
    numbers = iter(range(1, width + 1))
    named = re.sub(r"\?", lambda _: f"given.column{next(numbers)}", sql)
    if sql.startswith("UPDATE"):
        return named.replace(" WHERE ", f" FROM ({values}) AS given WHERE ", 1)
    # In this order: it must not go through the whole table for the rows given.
    return re.sub(r"\bFROM\s", f"FROM ({values}) AS given CROSS JOIN ", named, count=1)


def _as_it_is(row: Row) -> Row:
    return row


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
