"""Take what was deleted off the database's own files, where it stands until its room is used again.

SQLite keeps it in free pages, in the gaps of pages, and in the write-ahead log; Postgres in dead rows, and its planner in
statistics. Both are made to write everything anew that is still there, so nobody else may work on the store meanwhile. What the
database's server or the file system keep besides (archived logs, snapshots, blocks of the disk) is out of reach.
"""

from __future__ import annotations

from contextlib import closing

from sqlalchemy import Connection, Engine

from store.erasing import ITS_ROWS

# Those that erasing changes.
TABLES = ("events", "contents", "next_hops", *(place.table.name for place in ITS_ROWS))


def scrub(engine: Engine) -> bool:
    """Write the store's files anew without what was deleted. False where somebody else still read what was there.

    On SQLite for an engine that checkpoints. No gateway may be running.
    """
    with engine.connect() as connection:
        return _sqlite(connection) if engine.dialect.name == "sqlite" else _postgres(connection)


def _sqlite(connection: Connection) -> bool:
    # Beside SQLAlchemy, which would begin a transaction.
    with closing(connection.connection.cursor()) as cursor:
        cursor.execute(_WORDS)
        for (name,) in cursor.fetchall():
            cursor.execute(f"INSERT INTO {name} ({name}) VALUES ('optimize')")  # noqa: S608  # names from this program
        cursor.execute("VACUUM")
        cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        row = cursor.fetchone()
    return row is not None and row[0] == 0  # else it was busy


# An index of words keeps those of what was deleted, until its parts are made one.
_WORDS = "SELECT name FROM sqlite_master WHERE sql LIKE 'CREATE VIRTUAL TABLE % USING fts5%'"


def _postgres(connection: Connection) -> bool:
    alone = connection.execution_options(isolation_level="AUTOCOMMIT")
    for table in TABLES:
        alone.exec_driver_sql(f"VACUUM (FULL, ANALYZE) {table}")
    for table, blank in _BLANK.items():
        if alone.exec_driver_sql(f"SELECT 1 FROM {table} LIMIT 1").first() is None:  # noqa: S608  # names from this program
            alone.exec_driver_sql(_ANALYZE_EMPTY.format(table=table, blank=blank))
    alone.exec_driver_sql("VACUUM (FULL) pg_statistic")  # its own dead rows: the database's owner may
    return True


# ANALYZE leaves the statistics of an empty table as they were. Those of TABLES that may be empty, with a row for them.
_BLANK = {
    "contents": "(position, octets) VALUES (0, '')",
    "next_hops": "(name, failures) VALUES ('', 0)",
    "subjects": "(position, folded) VALUES (0, '')",
}
_ANALYZE_EMPTY = "BEGIN; INSERT INTO {table} {blank}; ANALYZE {table}; DELETE FROM {table}; COMMIT"
