"""Room in the store's file that nothing uses, and how it goes back to the disk.

SQLite keeps the pages of what was deleted for what comes next; the file gets smaller only where it is asked to, from its end.
Postgres sees to that itself.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass

from sqlalchemy import Connection

from store.statement import scalar


@dataclass(frozen=True, slots=True)
class Space:
    """How large the file is, and how much of it is free for what comes next; in octets."""

    file_octets: int
    free_octets: int


def space(connection: Connection) -> Space | None:
    """Return the room in a SQLite store; None for Postgres."""
    if connection.dialect.name != "sqlite":
        return None
    size, pages, free = (
        int(scalar(connection, f"PRAGMA {name}")) for name in ("page_size", "page_count", "freelist_count")
    )
    return Space(size * pages, size * free)


def size_octets(connection: Connection) -> int:
    """Return how large the store is on disk: a SQLite file, or a Postgres database with its indexes."""
    if (found := space(connection)) is not None:
        return found.file_octets
    return int(scalar(connection, "SELECT pg_database_size(current_database())"))


def give_back(connection: Connection, octets: int) -> None:
    """Make a SQLite file smaller by up to so many octets, in a write transaction: what stands at its end moves forward."""
    if connection.dialect.name != "sqlite":
        return
    pages = octets // int(scalar(connection, "PRAGMA page_size"))
    with closing(connection.connection.cursor()) as cursor:
        for _ in range(max(pages, 1)):
            cursor.execute(
                "PRAGMA incremental_vacuum(1)"
            )  # the driver takes one step of it, which is one page
