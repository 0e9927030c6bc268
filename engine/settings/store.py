"""What the [store] table comes to: a URL for SQLAlchemy, or the Fault that names the key to change.

A URL may hold a password: no error shows it. Opens nothing.
"""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import unquote

from engine.settings.reading import Fault, meant
from engine.settings.shapes import Store
from engine.settings.tables import StoreTable
from engine.settings.values import shown

SQLITE = "sqlite:///"
POSTGRES = "postgresql+psycopg://"
OURS = ("options",)  # of a connection: whatever the URL says
IN_FLIGHT_AT_LEAST_OCTETS = 64 << 10  # a larger message gets through alone


def store(table: StoreTable, folder: Path) -> Store:
    """The [store] table. Raises Fault."""
    if table.in_flight < IN_FLIGHT_AT_LEAST_OCTETS:
        raise Fault(("store", "in_flight"), 'is too little: at least "64KiB"')
    url = meant(("store", "url"), lambda: _url(table.url, folder))
    return Store(url=url, in_flight=table.in_flight, subjects=table.subjects)


def _url(written: str, folder: Path) -> str:
    """The URL for SQLAlchemy."""
    scheme, separator, rest = written.partition("://")
    dialect, _, driver = scheme.partition("+")
    if not separator or dialect not in ("sqlite", "postgresql", "postgres"):
        raise ValueError('must begin with "sqlite:///" or "postgresql://": these two are supported')
    if "\0" in unquote(written):
        raise ValueError("holds a NUL")
    if dialect == "sqlite":
        return f"{SQLITE}{_sqlite_path(driver, rest, folder)}"
    if driver not in ("", "psycopg"):
        raise ValueError('must use the driver psycopg: write "postgresql+psycopg://"')
    if not rest:
        raise ValueError('names no database: write it as in "postgresql://user@host/mailgate"')
    return _postgres_url(rest)


def _sqlite_path(driver: str, rest: str, folder: Path) -> str:
    name, mark, query = rest.removeprefix("/").partition("?")
    if driver not in ("", "pysqlite"):
        raise ValueError('must use the driver of Python itself: write "sqlite:///"')
    if name in ("", ":memory:") or "mode=memory" in query:
        raise ValueError("is a database in memory: it would lose all mail at the end; name a file")
    if not rest.startswith("/"):
        raise ValueError('lacks a slash: a relative path is "sqlite:///mailgate.db"')
    if name.startswith("file:"):
        raise ValueError('write the path alone, as in "sqlite:///mailgate.db", without file:')
    if mark:
        raise ValueError("has a '?': an SQLite store has no options; write the path alone")
    # SQLAlchemy un-quotes the path: a folder that really has "%41" or "?" in its name must stay itself.
    return os.path.normpath(folder / name).replace("%", "%25").replace("?", "%3F")


def _postgres_url(rest: str) -> str:
    # Slow to import, and needed for this store anyhow.
    from psycopg import ProgrammingError
    from psycopg.conninfo import make_conninfo

    from store.url import parsed as read

    url = f"{POSTGRES}{rest}"
    try:
        parsed = read(url)
    except ValueError as error:
        written = '"postgresql://user:password@host/mailgate", a password with %40 for @'
        raise ValueError(f"{error}: write it as in {written}") from None
    for option, value in parsed.query.items():
        if option in OURS:
            raise ValueError(f"has an option {option}, which is the gateway's own to say: leave it out")
        try:
            make_conninfo("", **{option: str(value)})
        except (ProgrammingError, TypeError):
            raise ValueError(f"has an option {shown(option)}, which Postgres doesn't know") from None
    return url


def sqlite_file(store: Store) -> Path | None:
    """Return the file of an SQLite store, None for a server's."""
    return Path(unquote(store.url.removeprefix(SQLITE))) if store.url.startswith(SQLITE) else None
