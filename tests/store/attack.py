"""What somebody can do who may write to the database: change history, and make every hash anew that the store itself has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sqlalchemy import Engine, delete, insert, select

from store import log, seals, verify
from store.chain import GENESIS, link
from store.copying import quiet
from store.database import reading, writing
from store.schema import events
from store.schema import seals as seals_table
from store.seal import Seal
from store.verified import Count, Sealed
from tests.store.build import NOW, unguarded

Row = dict[str, Any]


def sealed(engine: Engine, sign: Callable[[Seal], Seal] = lambda seal: seal) -> Seal:
    """Seal the log as it is, on record."""
    with reading(engine) as connection:
        made = seals.make(connection, NOW, sign, quiet)
    assert made is not None
    with writing(engine) as connection:
        assert seals.put(connection, made)
    return made.seal


def findings(engine: Engine, *kept: Seal, count: Count | None = None) -> list[str]:
    """What verifying the log says, with the seals on record and these that were kept elsewhere."""
    others = [Sealed("kept", seal, kept_elsewhere=True) for seal in kept]
    with reading(engine) as connection:
        last, entries = log.last_position(connection), seals.every(connection)
        found = verify.log(connection, last, count or Count(), entries=entries, others=others)
        return [str(one) for one in found]


def rewrite(engine: Engine, change: Callable[[list[Row]], list[Row]]) -> None:
    """Put another history in place of the log, whose positions, revisions and hashes fit together."""
    with reading(engine) as connection:
        rows = [
            dict(row) for row in connection.execute(select(events).order_by(events.c.position)).mappings()
        ]
    heads: dict[str, tuple[int, bytes]] = {}
    written = change(rows)
    for position, row in enumerate(written, start=1):
        revision, mark = heads.get(row["stream"], (-1, GENESIS))
        row |= {"position": position, "revision": revision + 1}
        facts = [row[name] for name in ("stream", "revision", "name", "version", "at", "data", "digest")]
        row["hash"] = link(mark, *facts)
        heads[row["stream"]] = (row["revision"], row["hash"])
    unguarded(engine)
    with writing(engine) as connection:
        connection.execute(delete(events))
        connection.execute(insert(events), written)


def changed(rows: list[Row]) -> list[Row]:
    """One event says something else."""
    rows[3] = rows[3] | {"data": rows[3]["data"].replace(b":", b": ", 1)}
    return rows


def forget_seals(engine: Engine) -> None:
    """Take all seals off the record."""
    unguarded(engine)
    with writing(engine) as connection:
        connection.execute(delete(seals_table))
