"""Make the read tables and the agenda anew from the log.

What comes out equals what was there, row by row; leases are dropped. One write transaction, so nobody sees it half done.
"""

from __future__ import annotations

from collections.abc import Callable

from sqlalchemy import Connection, delete, func, insert, select

from store import log
from store.agenda import first_fence
from store.life import fold
from store.mailbox_events import MAILBOX_PREFIX
from store.mailbox_life import fold_mailbox
from store.projections import Changes
from store.schema import READ_TABLES, TEXTS_ON_SQLITE, agenda, events, texts

BATCH_STREAMS = 500

Progress = Callable[[int, int], None]  # events done, events in all (each event is read twice)


def rebuild(connection: Connection, progress: Progress = lambda done, total: None) -> int:
    """Rebuild everything derived; returns how many events were read. The caller holds the append lock."""
    total = 2 * (connection.scalar(select(func.count()).select_from(events)) or 0)
    for table in (*READ_TABLES, agenda):
        if table is texts and connection.dialect.name == "sqlite":
            # Word by word it would take longer than all else.
            connection.exec_driver_sql("DROP TABLE texts")
            connection.exec_driver_sql(TEXTS_ON_SQLITE)
        else:
            connection.execute(delete(table))
    done = _streams(connection, lambda n: progress(n, total))
    _in_order(connection, lambda n: progress(done + n, total))
    return done


def _streams(connection: Connection, progress: Callable[[int], None]) -> int:
    """Messages, recipients, mailboxes and due times: what each stream adds up to."""
    changes, due, done = Changes(), [], 0
    for count, (stream, recorded) in enumerate(log.streams(connection), start=1):
        done += len(recorded)
        story = [(r.event, r.at) for r in recorded]
        if stream.startswith(MAILBOX_PREFIX):
            name = stream.removeprefix(MAILBOX_PREFIX)
            changes.add(stream, None, fold_mailbox(name, story), recorded[0].position)
        elif message := fold(stream, story):
            changes.add(stream, None, message, recorded[0].position)
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


def _flush(connection: Connection, changes: Changes, due: list[dict[str, object]]) -> None:
    changes.write(connection)
    if due:
        connection.execute(insert(agenda), due)


def _in_order(connection: Connection, progress: Callable[[int], None]) -> None:
    """UIDLs and next hops: what the order of the log, not of one stream, decides."""
    changes, done = Changes(), 0
    for done, recorded in enumerate(log.walk(connection), start=1):
        changes.happened(recorded.stream, recorded.event, recorded.position, recorded.at)
        if done % log.READ_BATCH == 0:
            changes.write(connection)
            changes = Changes()
            progress(done)
    changes.write(connection)
    progress(done)
