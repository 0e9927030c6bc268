"""A copy of the store while the gateway runs, and back.

A backup is always a SQLite store file of its own, whatever it was made from, so that it can be opened, asked and
verified like any store. Events and octets go over as they are: positions, salts and hashes unchanged. A backup appears
under its name only when it is whole and on the disk, readable by its owner alone; nothing is ever overwritten.
"""

from __future__ import annotations

import os
import sqlite3
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast
from urllib.parse import quote

from sqlalchemy import (
    URL,
    Connection,
    Engine,
    Table,
    create_engine,
    event,
    func,
    insert,
    inspect,
    select,
    text,
)
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from store.database import first_line, open_store, reading, writing
from store.errors import NeedsUpgrade, StoreError
from store.rebuild import rebuild
from store.schema import contents, events

T = TypeVar("T")
Row = dict[str, Any]

BATCH_ROWS = 1_000  # events in one statement: some hundred kilobytes
BATCH_OCTETS = 4 << 20  # contents in one statement; a larger one goes alone
LOOK_EVERY_INSTRUCTIONS = (
    100_000  # of SQLite's machine, between looks at how far a copy is: some milliseconds
)

Progress = Callable[[str, int, int], None]  # what is being done, how much is done, how much there is


def quiet(doing: str, done: int, total: int) -> None:
    """Show no progress."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Copied:
    """What went over."""

    events: int
    messages: int  # with their octets
    octets: int


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
        if _any(writer, events) or _any(writer, contents):
            raise StoreError("the store is not empty: a backup is restored into an empty one only")
        _compare_revisions(file, reader, writer)
        copied = _pour(reader, lambda table, rows: _insert(writer, table, rows), progress, file)
        rebuild(writer, lambda done, total: progress("read tables", done, total))
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
                _insert(writer, table, rows)

        with reading(source) as reader:
            with reading(target) as fresh:
                if _revision(reader, None) != _revision(fresh, None):
                    raise NeedsUpgrade("the store's schema is not this program's: run 'mailgate db upgrade'")
            _pour(reader, put, progress)
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
        return _copied(reader)


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


# -- copying


def _pour(
    reader: Connection,
    put: Callable[[Table, Sequence[Row]], None],
    progress: Progress,
    file: Path | None = None,
) -> Copied:
    """Read everything that is not derived, in order and in constant memory, and put it."""
    total, done = _copied(reader), 0
    for rows in _told(file, _events(reader)):
        put(events, rows)
        done += len(rows)
        progress("events", done, total.events)
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


def _contents(reader: Connection) -> Iterator[list[Row]]:
    """Look at the sizes first: a batch is bounded in octets, not in rows."""
    for first, last in _content_ranges(reader):
        some = select(contents).where(contents.c.position.between(first, last))
        yield [dict(row) for row in reader.execute(some.order_by(contents.c.position)).mappings()]


def _content_ranges(reader: Connection) -> Iterator[tuple[int, int]]:
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


def _insert(writer: Connection, table: Table, rows: Sequence[Row]) -> None:
    writer.execute(insert(table), rows)


def _any(connection: Connection, table: Table) -> bool:
    return connection.scalar(select(table.c.position).limit(1)) is not None


def _copied(reader: Connection) -> Copied:
    octets = func.coalesce(func.sum(func.length(contents.c.octets)), 0)
    messages, size = reader.execute(select(func.count(), octets).select_from(contents)).one()
    # Positions are without gaps, so the last one is their number.
    last = reader.scalar(select(func.coalesce(func.max(events.c.position), 0))) or 0
    return Copied(events=last, messages=messages, octets=int(size))


def _url(file: Path) -> str:
    return URL.create("sqlite", database=str(file)).render_as_string(hide_password=False)
