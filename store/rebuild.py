"""Make the read tables and the agenda anew from the log.

What comes out equals what was there, row by row; leases are dropped. One write transaction, so nobody sees it half done. This
process writes; where the log is long, others fold the streams meanwhile (`folders`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from sqlalchemy import Connection, delete, func, select

from store import folders, next_hop_rows, pages
from store.read_tables import READ_TABLES, TEXTS_ON_SQLITE, texts
from store.refolded import STATEMENTS, Part
from store.rows import Row
from store.schema import agenda, events
from store.told import TELL
from store.writes import REMOVE

Progress = Callable[[int, int], None]  # events done, events in all


def rebuild(
    connection: Connection,
    progress: Progress = lambda done, total: None,
    *,
    from_events: int | None = folders.FROM_EVENTS,
) -> int:
    """Rebuild everything derived; returns how many events were read. The caller holds the append lock.

    Other processes help with a log of `from_events` or more. None forbids them: where the log is not committed yet.
    """
    total = connection.scalar(select(func.count()).select_from(events)) or 0
    alone = from_events is None or total < from_events
    with folders.here(connection) if alone else folders.beside(connection) as folding:
        indexes = _unindexed(connection)
        _empty(connection)
        working = _write(connection, folding.parts(), lambda done: progress(done, total))
        next_hop_rows.insert_rows(connection, folding.next_hops(), working)
    for index in indexes:
        connection.exec_driver_sql(index)
    return total


def _unindexed(connection: Connection) -> list[str]:
    """Drop what indexes SQLite has on the large tables, and return how they were made: sorted, it takes a fraction.

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
    " AND tbl_name IN ('messages', 'recipients', 'uidls', 'agenda')"
)


def _empty(connection: Connection) -> None:
    for table in (*READ_TABLES, agenda):
        if table is texts and connection.dialect.name == "sqlite":
            # Word by word it would take longer than all else.
            connection.exec_driver_sql("DROP TABLE texts")
            connection.exec_driver_sql(TEXTS_ON_SQLITE)
        else:
            connection.execute(delete(table))


def _write(connection: Connection, parts: Iterable[Part], progress: Callable[[int], None]) -> set[str]:
    """Write what streams add up to; returns the next hops that took something."""
    done, working = 0, set[str]()
    told: dict[tuple[object, object], tuple[int, Row]] = {}
    superseded: list[Row] = []
    for part in parts:
        for name, parcels in part.parcels.items():
            STATEMENTS[name].send(connection, parcels)
        for position, row in part.notices:
            its = row["what"], row["name"]
            told[its] = max(told.get(its, (0, row)), (position, row), key=lambda pair: pair[0])
        working |= part.working
        superseded += part.superseded
        done += part.events
        progress(done)
    TELL.many(connection, [row for _, row in told.values()])
    REMOVE.many(connection, superseded)
    return working
