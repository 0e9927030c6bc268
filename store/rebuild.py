"""Make the read tables and the agenda anew from the log.

What comes out equals what was there, row by row; leases are dropped. One write transaction, so nobody sees it half done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime

from sqlalchemy import Connection, delete, func, insert, select

from store import log, pages
from store.agenda import first_fence
from store.codec import decode
from store.events import (
    Deferred,
    Delivered,
    Downloaded,
    Event,
    Generated,
    Kept,
    KeptNoLonger,
    RedeliveryRequested,
    RejectedOversize,
    Relayed,
    RemovedFromSource,
)
from store.life import fold
from store.mailbox_events import MAILBOX_PREFIX, Adopted
from store.mailbox_life import fold_mailbox
from store.projections import Changes
from store.schema import READ_TABLES, TEXTS_ON_SQLITE, agenda, events, from_microseconds, texts

BATCH_STREAMS = 500

# What the order of the log has a say in; of all other events it counts only that they happened.
TOLD_IN_ORDER = frozenset(
    {
        *(Adopted.NAME, Deferred.NAME, Delivered.NAME, Downloaded.NAME, Generated.NAME, Kept.NAME),
        *(KeptNoLonger.NAME, RedeliveryRequested.NAME, RejectedOversize.NAME, Relayed.NAME),
        RemovedFromSource.NAME,
    }
)

Progress = Callable[[int, int], None]  # events done, events in all (each event is read twice)


def rebuild(connection: Connection, progress: Progress = lambda done, total: None) -> int:
    """Rebuild everything derived; returns how many events were read. The caller holds the append lock."""
    total = 2 * (connection.scalar(select(func.count()).select_from(events)) or 0)
    indexes = _unindexed(connection)
    for table in (*READ_TABLES, agenda):
        if table is texts and connection.dialect.name == "sqlite":
            # Word by word it would take longer than all else.
            connection.exec_driver_sql("DROP TABLE texts")
            connection.exec_driver_sql(TEXTS_ON_SQLITE)
        else:
            connection.execute(delete(table))
    done = _streams(connection, lambda n: progress(n, total))
    _in_order(connection, lambda n: progress(done + n, total))
    for index in indexes:
        connection.exec_driver_sql(index)
    return done


def _unindexed(connection: Connection) -> list[str]:
    """Drop what indexes SQLite has on messages and recipients, and return how they were made: sorted, it takes a fraction.

    Postgres keeps them, for dropping them there would shut out who reads.
    """
    if connection.dialect.name != "sqlite":
        return []
    found = pages.query(connection, _INDEXES)
    for name, _ in found:
        connection.exec_driver_sql(f"DROP INDEX {name}")
    return [made for _, made in found]


_INDEXES = (
    "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
    " AND tbl_name IN ('messages', 'recipients', 'agenda')"
)


def _streams(connection: Connection, progress: Callable[[int], None]) -> int:
    """Messages, recipients, mailboxes and due times: what each stream adds up to."""
    changes, due, done = Changes(), [], 0
    for count, (stream, opened, story) in enumerate(_stories(connection), start=1):
        done += len(story)
        if stream.startswith(MAILBOX_PREFIX):
            name = stream.removeprefix(MAILBOX_PREFIX)
            changes.add(stream, None, fold_mailbox(name, story), opened)
        elif message := fold(stream, story):
            changes.add(stream, None, message, opened)
            for event, at in story:
                changes.tallies.add(message, (event,), at)
            if message.due_at is not None:
                lane, fence = message.lane, first_fence(message)
                due.append({"stream": stream, "lane": lane, "wake_at": message.due_at, "fence": fence})
        if count % BATCH_STREAMS == 0:
            _flush(connection, changes, due)
            changes, due = Changes(), []
            progress(done)
    _flush(connection, changes, due)
    return done


def _stories(connection: Connection) -> Iterator[tuple[str, int, list[tuple[Event, datetime]]]]:
    """Yield each stream, the position of its first event, and all that happened."""
    stream, opened, story = "", 0, list[tuple[Event, datetime]]()
    for page in pages.by_stream(connection, ("position", "name", "version", "at", "data", "personal")):
        for its, _, position, name, version, at, data, personal in page:
            if its != stream:
                if story:
                    yield stream, opened, story
                stream, opened, story = its, position, []
            story.append((decode(name, version, data, personal), from_microseconds(at)))
    if story:
        yield stream, opened, story


def _flush(connection: Connection, changes: Changes, due: list[dict[str, object]]) -> None:
    changes.write(connection)
    if due:
        connection.execute(insert(agenda), due)


def _in_order(connection: Connection, progress: Callable[[int], None]) -> None:
    """UIDLs and next hops: what the order of the log, not of one stream, decides."""
    done, last = 0, log.last_position(connection)
    for page in pages.by_position(
        connection, ("stream", "name", "version", "at", "data", "personal"), 0, last
    ):
        changes = Changes()
        for position, stream, name, version, at, data, personal in page:
            if name in TOLD_IN_ORDER:
                event = decode(name, version, data, personal)
                changes.happened(stream, event, position, from_microseconds(at))
            else:
                changes.noted(stream, name, position, from_microseconds(at))
        changes.write(connection)
        done += len(page)
        progress(done)
