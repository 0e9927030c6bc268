"""What every command stands on: the configuration, the open store, and how to fail.

Owns finding and loading the configuration, opening the store with its schema checked, and the exit codes. Light on
purpose: SQLAlchemy and Alembic are imported only when a store is opened or moved. Asking never makes a file.

Exit codes: 0 done; 1 the answer is bad news; 2 wrong usage; 3 configuration; 4 the store can't be reached or needs
upgrading.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING

from store.errors import Damaged

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from engine.settings import Settings

EXIT_DONE = 0
EXIT_BAD_NEWS = 1
EXIT_USAGE = 2
EXIT_CONFIGURATION = 3
EXIT_STORE = 4
EXIT_DEFECT = 70  # EX_SOFTWARE of sysexits.h: our own fault, none of the contract's answers
EXIT_INTERRUPTED = 130  # as the shell says it of SIGINT
EXIT_READER_GONE = 141  # as the shell says it of SIGPIPE

_named: ContextVar[str | None] = ContextVar("configuration", default=None)


class Failure(Exception):
    """A command can't go on: one line for stderr, and the exit code."""

    def __init__(self, text: str, code: int = EXIT_BAD_NEWS) -> None:
        super().__init__(text)
        self.code = code


class Misuse(Failure):
    """The command was given something that means nothing."""

    def __init__(self, text: str) -> None:
        super().__init__(text, EXIT_USAGE)


class StoreFailure(Failure):
    """The store can't be used as it is; the text says what to do."""

    def __init__(self, text: str) -> None:
        super().__init__(text, EXIT_STORE)


def nearest(word: str, known: Iterable[str]) -> str:
    """Return a suggestion to put behind an error, "" where nothing is like the word."""
    from difflib import get_close_matches

    found = get_close_matches(word, list(known), n=1)
    return f": did you mean {found[0]!r}?" if found else ""


def name_configuration(file: str | None) -> None:
    """Take note of what `--config` named; None where it named nothing."""
    _named.set(file)


def named_configuration() -> str | None:
    """Return what `--config` named, None where it named nothing."""
    return _named.get()


def configuration_file() -> Path:
    """Return the configuration file by the search order. Raises Failure, exit 3."""
    from engine.settings import SettingsError, find

    try:
        return find(_named.get(), os.environ)
    except SettingsError as error:
        raise Failure(str(error), EXIT_CONFIGURATION) from None


def settings() -> Settings:
    """Return the configuration. Raises Failure, exit 3."""
    from engine.settings import SettingsError, load

    file = configuration_file()
    try:
        return load(file)
    except SettingsError as error:
        raise Failure(str(error), EXIT_CONFIGURATION) from None


@contextmanager
def opened(settings: Settings, *, checkpoints: bool = False) -> Iterator[Engine]:
    """Open the store; its schema is the program's. Raises Failure, exit 4.

    An SQLite store that is behind is upgraded on the way; one that is missing is not made.
    """
    file = sqlite_file(settings)
    if file is not None and not file.exists():
        raise StoreFailure(f"there is no store at {file} yet: {_FIRST}")
    with _engine(settings, checkpoints=checkpoints) as engine:
        _require_current(engine, file)
        yield engine


def ensure_store(settings: Settings) -> None:
    """Make an SQLite store that is missing, upgrade one that is behind. Raises Failure, exit 4.

    A database on a server is left to `mailgate db upgrade`: there may be others on it.
    """
    file = sqlite_file(settings)
    if file is not None and not file.parent.is_dir():
        raise StoreFailure(
            f"there is no folder {file.parent} to keep the store in: make it, or change store.url"
        )
    with _engine(settings) as engine:
        _require_current(engine, file, make=True)


def sqlite_file(settings: Settings) -> Path | None:
    """Return the file of an SQLite store, None for a server's."""
    from engine.settings.store import sqlite_file

    return sqlite_file(settings.store)


def gateway_runs(engine: Engine) -> bool | None:
    """Whether a gateway runs on the store; None where it can't be said."""
    from engine import presence

    try:
        return presence.gateway_runs(engine)
    except presence.LockTrouble:  # the sign of life is another user's
        return None


_FIRST = "'mailgate run' makes it, and so does 'mailgate db upgrade'"


@contextmanager
def _engine(settings: Settings, *, checkpoints: bool = False) -> Iterator[Engine]:
    """Yield the store's engine, unchecked; what a database refuses becomes one line. Raises StoreFailure, Damaged."""
    from store.database import open_store, undecodable

    engine = open_store(settings.store.url, checkpoints=checkpoints)
    try:
        yield engine
    except Exception as error:
        if undecodable(error):
            raise Damaged(
                "a text in the store is not UTF-8, and was when it was written; 'mailgate audit verify' says where"
            ) from error
        if text := _trouble(engine, error):
            raise StoreFailure(text) from error
        raise
    finally:
        engine.dispose()


def _trouble(engine: Engine, error: Exception) -> str | None:
    """What to say of an error that is the database's own trouble, None for any other."""
    from store.database import first_line, unreachable

    if trouble := unreachable(engine, error):
        return str(trouble)
    origin = getattr(error, "orig", None) or error
    if type(origin) is engine.dialect.loaded_dbapi.DatabaseError:  # damaged, or another kind of file
        return f"the store can't be used: {first_line(error)}"
    return None


def _require_current(engine: Engine, file: Path | None, *, make: bool = False) -> None:
    import migrations
    from store.database import reading

    with reading(engine) as connection:
        standing = migrations.standing(connection)
    match standing:
        case "current":
            return
        case "unknown":
            raise StoreFailure("the store was written by a newer mailgate than this one: upgrade mailgate")
        case "empty" if file is not None and not make:
            raise StoreFailure(f"there is no store in {file} yet: {_FIRST}")
        case "empty" | "behind" if file is not None:
            migrations.upgrade(engine)
        case "empty":
            raise StoreFailure("the database holds no store yet: 'mailgate db upgrade' makes one")
        case "behind":
            raise StoreFailure(
                "the store was written by an older mailgate: 'mailgate db upgrade' brings it up to date"
            )
