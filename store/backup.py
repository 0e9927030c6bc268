"""A copy of the store while the gateway runs, and back.

A backup is always a SQLite store file of its own, whatever it was made from, so that it can be opened, asked and
verified like any store. Events, seals, followers and octets go over as they are: positions, salts and hashes unchanged. A
backup appears under its name only when it is whole and on the disk, readable by its owner alone; nothing is ever overwritten.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import cast
from urllib.parse import quote

from sqlalchemy import (
    URL,
    Connection,
    Engine,
    Table,
    create_engine,
    delete,
    event,
    inspect,
    text,
)
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from store import copy_mark
from store.copying import Copied, Progress, Row, holds_any, insert_rows, pour, quiet, size
from store.database import first_line, open_store, reading, writing
from store.errors import NeedsUpgrade, StoreError
from store.rebuild import rebuild
from store.schema import contents, events, followers

LOOK_EVERY_INSTRUCTIONS = 100_000  # of SQLite's machine, between two looks at how far it is: milliseconds


def backup(
    source: Engine, file: Path, prepare: Callable[[Engine], None], progress: Progress = quiet
) -> Copied:
    """Write a backup of the store to `file`, which must not exist; the gateway may go on.

    `prepare` gives an empty database the schema. Raises StoreError; then there is no file.
    """
    if file.exists() or file.is_symlink():
        raise StoreError(f"{file} exists already: name another file")
    part = _part(file)
    try:
        if source.dialect.name == "sqlite":
            _vacuum(source, part, progress)
        else:
            _fill(source, part, prepare, progress)
        copy_mark.mark(part)
        copied = _count(part)
        _publish(part, file)
    except (SQLAlchemyError, sqlite3.Error, OSError) as error:
        raise StoreError(f"no backup was made: {_said(error)}") from error
    finally:
        for leftover in (part, *(part.with_name(part.name + end) for end in ("-wal", "-shm", "-journal"))):
            leftover.unlink(missing_ok=True)
    return copied


def restore(file: Path, target: Engine, progress: Progress = quiet) -> Copied:
    """Copy a backup into an empty store and make its read tables, in one transaction. The file stays as it is.

    Raises StoreError; then nothing was changed.
    """
    with _reading_file(file) as reader, writing(target) as writer:
        if holds_any(writer, events) or holds_any(writer, contents):
            raise StoreError("the store is not empty: a backup is restored into an empty one only")
        _compare_revisions(file, reader, writer)
        writer.execute(delete(followers))  # of a gateway that ran here before there was any mail
        copied = pour(reader, lambda table, rows: insert_rows(writer, table, rows), progress, file)
        rebuild(writer, lambda done, total: progress("read tables", done, total), from_events=None)
    return copied


# -- writing a backup


def _part(file: Path) -> Path:
    """Make an empty file beside `file`, for the backup until it is whole."""
    try:
        number, name = tempfile.mkstemp(prefix=f".{file.name}.", suffix=".part", dir=file.parent)
    except OSError as error:
        raise StoreError(f"no backup was made: {file.parent}: {error.strerror}") from error
    os.close(number)
    return Path(name)


def _vacuum(source: Engine, part: Path, progress: Progress) -> None:
    """SQLite copies itself: one state of the store, packed, without stopping the writer."""
    with closing(source.raw_connection()) as pooled:
        connection = cast(sqlite3.Connection, pooled.driver_connection)
        pages, free, size = (
            connection.execute(f"PRAGMA {name}").fetchone()[0]
            for name in ("page_count", "freelist_count", "page_size")
        )
        total = (pages - free) * size

        def look() -> None:
            progress("octets", min(part.stat().st_size, total), total)

        connection.set_progress_handler(look, LOOK_EVERY_INSTRUCTIONS)
        try:
            connection.execute("VACUUM INTO ?", (str(part),))
        finally:
            connection.set_progress_handler(None, 0)
        progress("octets", total, total)


def _fill(source: Engine, part: Path, prepare: Callable[[Engine], None], progress: Progress) -> None:
    """Copy one snapshot of any store into a fresh SQLite file, and make its read tables."""
    target = open_store(_url(part), checkpoints=True)
    try:
        prepare(target)

        def put(table: Table, rows: Sequence[Row]) -> None:
            with writing(target) as writer:  # one for each batch: nobody sees the file before it is whole
                insert_rows(writer, table, rows)

        with reading(source) as reader:
            with reading(target) as fresh:
                if _revision(reader, None) != _revision(fresh, None):
                    raise NeedsUpgrade("the store's schema is not this program's: run 'mailgate db upgrade'")
            pour(reader, put, progress)
        with writing(target) as writer:
            rebuild(writer, lambda done, total: progress("read tables", done, total))
        with closing(target.raw_connection()) as pooled:
            cast(sqlite3.Connection, pooled.driver_connection).execute("PRAGMA journal_mode=DELETE")
    finally:
        target.dispose()


def _publish(part: Path, file: Path) -> None:
    """Give the backup its name, once it is on the disk; never takes the place of another file."""
    _sync(part)
    try:
        os.link(part, file)
    except FileExistsError:
        raise
    except OSError:  # a file system without hard links
        if file.exists():
            raise FileExistsError(f"{file} exists already") from None
        part.rename(file)
    _sync(file.parent)


def _sync(path: Path) -> None:
    number = os.open(path, os.O_RDONLY)
    try:
        os.fsync(number)
    finally:
        os.close(number)


def _said(error: SQLAlchemyError | sqlite3.Error | OSError) -> str:
    if isinstance(error, SQLAlchemyError):
        return first_line(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


# -- reading one


@contextmanager
def _reading_file(file: Path) -> Iterator[Connection]:
    """Yield a connection that reads a backup and writes nothing, not even beside it."""
    if not file.is_file():
        raise StoreError(f"{file}: no such file")
    engine = create_engine("sqlite://", poolclass=NullPool, creator=lambda: _open_to_read(file))
    event.listen(engine, "begin", lambda connection: connection.exec_driver_sql("BEGIN"))
    try:
        with engine.connect() as connection, connection.begin():
            yield connection
    except SQLAlchemyError as error:
        raise StoreError(f"nothing was restored: {first_line(error)}") from error
    finally:
        engine.dispose()


def _open_to_read(file: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(str(file.absolute()))}?mode=ro", uri=True, isolation_level=None)


def _count(part: Path) -> Copied:
    with _reading_file(part) as reader:
        return size(reader)


def _compare_revisions(file: Path, backup: Connection, store: Connection) -> None:
    """A backup and a store must be of one schema: columns are copied as they are."""
    theirs, ours = _revision(backup, file), _revision(store, None)
    if theirs > ours:
        raise StoreError(
            f"{file} was made by a newer mailgate (schema {theirs}, here {ours}): upgrade mailgate"
        )
    if theirs < ours:
        raise StoreError(
            f"{file} has schema {theirs}, the store {ours}: name a copy of it as store.url,"
            " run 'mailgate db upgrade' on that, and restore it"
        )


def _revision(connection: Connection, file: Path | None) -> str:
    """Return the schema's revision. Raises StoreError where it is no store."""
    try:
        if inspect(connection).has_table("alembic_version"):
            return str(connection.scalar(text("SELECT version_num FROM alembic_version")))
    except SQLAlchemyError as error:
        if file is None:
            raise
        raise StoreError(f"{file} is no backup of a store: {first_line(error)}") from error
    raise StoreError(f"{file or 'the database'} is no mailgate store: it has none of its tables")


def _url(file: Path) -> str:
    return URL.create("sqlite", database=str(file)).render_as_string(hide_password=False)
