"""The rows of next hops: what an event makes of one, and all of them anew from the log.

Whether a next hop is up is decided by the order of all its events, whatever their streams. Nearly all of them say "it works"
of a next hop that works, and change nothing; so `refolded` reads failures and refusals, and what was delivered only while a next
hop is down.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from datetime import datetime

from sqlalchemy import Connection, delete, insert, update

from store import pages
from store.codec import decode_at
from store.events import Deferred, Delivered, Event, RejectedOversize, Relayed
from store.message import DOMAIN_HOP
from store.read_tables import next_hops
from store.rows import Row, storable
from store.schema import from_microseconds, microseconds
from store.statement import Lookup

Change = Callable[[Row], Row]

# RFC 5321 section 4.5.3.1.7: every server takes as much. A refusal of a smaller message says nothing of others.
LEAST_LIMIT_OCTETS = 64 * 1024


def change(event: Event, at: datetime, position: int) -> tuple[str, Change] | None:
    """Return which next hop's row an event has a say in and what it makes of it; None for no row."""
    match event:
        case Delivered() | Relayed():
            if isinstance(event, Delivered) and event.report is not None:
                return None  # tells nothing of the next hop as it is now
            return event.next_hop, lambda row: _up(row, at)
        case Deferred() if event.scope == "next-hop" and event.tried:
            return event.next_hop, lambda row: _down(row, event, at, position)
        case RejectedOversize() if (
            event.next_hop is not None
            and event.tried
            and (event.numbers or event.mailbox is None or event.uidl is None)
            and event.limit_octets >= LEAST_LIMIT_OCTETS
        ):
            limit = event.limit_octets
            return event.next_hop, lambda row: _limited(row, limit)
        case _:
            return None


def write(connection: Connection, name: str, changes: Iterable[Change]) -> None:
    """Change a next hop's row."""
    found = _FIND.rows(connection, [name])
    before: Row = dict(zip(next_hops.c.keys(), found[0], strict=True)) if found else _new(name)
    after = before
    for its in changes:
        after = its(after)
    if _is_idle(after):
        if found:
            connection.execute(delete(next_hops).where(next_hops.c.name == name))
    elif not found:
        connection.execute(insert(next_hops), _with_times(after))
    elif after != before:
        connection.execute(update(next_hops).where(next_hops.c.name == name).values(_with_times(after)))


def refolded(connection: Connection) -> dict[str, Row]:
    """Return the rows by name, from the log; but not of those that only ever worked."""
    found: dict[str, Row] = {}
    down: set[str] = set()
    after = 0
    while page := _page(connection, after, (*_TROUBLE, *_WORKS) if down else _TROUBLE):
        attentive = bool(down)
        for after, name, version, at, data, personal in page:  # the last one is where to go on
            its = change(decode_at(after, name, version, data, personal), from_microseconds(at), after)
            if its is not None:
                _apply(found, down, *its)
            if down and not attentive:
                break  # what was delivered from here on counts
    return found


def insert_rows(connection: Connection, rows: dict[str, Row], working: Collection[str]) -> None:
    """Write the rows that `refolded` returned, and those of next hops that only ever worked."""
    every = [*rows.values(), *(_new(name) for name in sorted(working) if name not in rows)]
    if wanted := [_with_times(row) for row in every if not _is_idle(row)]:
        connection.execute(insert(next_hops), wanted)


_WORKS = (Delivered.NAME, Relayed.NAME)
_TROUBLE = (Deferred.NAME, RejectedOversize.NAME)


def _page(connection: Connection, after: int, names: tuple[str, ...]) -> list[pages.Row]:
    marks = ", ".join(["{0}"] * len(names))
    sql = (
        "SELECT position, name, version, at, data, personal FROM events"  # noqa: S608  # marks alone
        f" WHERE position > {{0}} AND name IN ({marks}) ORDER BY position LIMIT {{0}}"
    )
    return pages.query(connection, sql, (after, *names, pages.PAGE_ROWS))


def _apply(found: dict[str, Row], down: set[str], name: str, its: Change) -> None:
    row = its(found.get(name) or _new(name))
    (down.add if row["failures"] else down.discard)(name)
    if _is_idle(row):
        found.pop(name, None)
    else:
        found[name] = row


def _is_idle(row: Row) -> bool:
    """Whether it is of a domain that works: of the many there are only those in trouble are worth a row."""
    return row["name"].startswith(DOMAIN_HOP) and row == _new(row["name"])


def _up(row: Row, at: datetime) -> Row:
    """Return a next hop's row after it took a message; of a domain that works nothing is kept, so not since when."""
    if row["failures"] == 0:
        return row
    since = None if row["name"].startswith(DOMAIN_HOP) else microseconds(at)
    return row | {"failures": 0, "since": since, "probe_at": None, "reply": None, "reply_position": None}


def _down(row: Row, event: Deferred, at: datetime, position: int) -> Row:
    """Return a next hop's row after it as a whole was to blame, as the event at this position tells."""
    probe_at = microseconds(event.retry_at)
    if row["failures"] and row["probe_at"] == probe_at:
        return row  # another message of the same failure
    since = row["since"] if row["failures"] else microseconds(at)
    return row | {
        "failures": row["failures"] + 1,
        "since": since,
        "probe_at": probe_at,
        "reply": None if event.reply is None else storable(event.reply),
        "reply_position": position,
    }


def _limited(row: Row, limit_octets: int) -> Row:
    """Return a next hop's row after it refused a message for its size."""
    known = row["size_limit_octets"]
    return row | {"size_limit_octets": limit_octets if known is None else min(known, limit_octets)}


def _new(name: str) -> Row:
    """Return the row of a next hop of which nothing is known yet."""
    return {
        "name": name,
        "failures": 0,
        "since": None,
        "probe_at": None,
        "reply": None,
        "reply_position": None,
        "size_limit_octets": None,
    }


_COLUMNS = ", ".join(f"h.{name}" for name in next_hops.c.keys())  # noqa: SIM118 - a column collection is no dict
_FIND = Lookup(
    sqlite=f"SELECT {_COLUMNS} FROM json_each(:wanted) w JOIN next_hops h ON h.name = w.value",  # noqa: S608
    postgres=f"SELECT {_COLUMNS} FROM jsonb_array_elements_text(%(wanted)s::jsonb) w"  # noqa: S608
    " JOIN next_hops h ON h.name = w",
)


def _with_times(row: Row) -> Row:
    """Rows come from the driver with microseconds, and go to SQLAlchemy as times."""
    return {
        k: from_microseconds(v) if k in ("since", "probe_at") and v is not None else v for k, v in row.items()
    }
