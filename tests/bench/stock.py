"""A large store made quickly: the log in bulk by the rows that append makes, everything derived from it by rebuild.

Not durable while it is being filled, and nothing is checked: only for a store that nobody else has open.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from sqlalchemy import Engine, event, text

from store import log
from store.chain import GENESIS
from store.database import open_store, writing
from store.recorded import event_row
from tests.bench.lives import Life

BATCH_EVENTS = 5_000
CACHE_KIBIOCTETS = 1_000_000

Row = dict[str, Any]


def open_for_filling(url: str) -> Engine:
    """Open a store that forgets to be durable and may use a gigabyte."""
    engine = open_store(url, checkpoints=True)

    @event.listens_for(engine, "connect")
    def hurry(connection: Any, _record: Any) -> None:
        if engine.dialect.name == "sqlite":
            connection.execute("PRAGMA synchronous=OFF")
            connection.execute(f"PRAGMA cache_size=-{CACHE_KIBIOCTETS}")

    return engine


def fill(engine: Engine, batches: Iterator[list[Life]], progress: Callable[[int], None]) -> int:
    """Write the log and the octets of these lives into an empty store; returns how many events there are now."""
    position, rows, octets = 0, [], []
    for lives in batches:
        for row, content in _rows(lives, position):
            position += 1
            rows.append(row)
            if content is not None:
                octets.append({"position": position, "octets": content})
        if len(rows) >= BATCH_EVENTS:
            _write(engine, rows, octets)
            rows, octets = [], []
            progress(position)
    _write(engine, rows, octets)
    return position


def look_over(engine: Engine) -> None:
    """Have Postgres do what it does by itself in time. SQLite has nothing like it; its last close tidies up."""
    if engine.dialect.name == "postgresql":
        with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
            connection.execute(text("VACUUM ANALYZE"))


def _rows(lives: list[Life], position: int) -> Iterator[tuple[Row, bytes | None]]:
    """Yield the events of lives side by side, with the octets that came with each."""
    heads = {life.stream: (0, GENESIS) for life in lives}
    while lives := [life for life in lives if life.steps]:
        for life in lives:
            revision, mark = heads[life.stream]
            for happened in life.go_on():
                position += 1
                row = event_row(life.stream, life.at, happened, position, revision, mark)
                yield row, life.octets if revision == 0 else None
                revision, mark = revision + 1, row["hash"]
            heads[life.stream] = (revision, mark)


def _write(engine: Engine, rows: list[Row], octets: list[Row]) -> None:
    with writing(engine) as connection:
        log._EVENT.many(connection, rows)
        log._CONTENT.many(connection, octets)
