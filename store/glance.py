"""What somebody who watches asks every second: what came by, what waits where, who is in trouble.

Each answer is bounded work, whatever the store holds: of what is too much to count there are so many, and more.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, Text, bindparam, exists, func, select, text

from store import mailbox_queries, queries
from store.agenda import POLL
from store.mailbox_events import MAILBOX_PREFIX
from store.message import DOMAIN_HOP, place_of
from store.pages import query
from store.read_tables import mailboxes, messages
from store.recipient import State
from store.rows import DIRECTLY, mailbox_of
from store.schema import agenda, events, microseconds

COUNTED = 5_000  # messages counted at one place; ten milliseconds of work
PRESENT = 10_000  # messages counted in one mailbox
LANES = 1_000  # next hops looked at: direct delivery may have one for each domain there is
KEPT: tuple[State, ...] = ("outcome-unknown", "held", "quarantined")  # what a person decides about, mostly

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Waits:
    """How many messages wait at one place; `more`: than were counted, and then the oldest may be older."""

    name: str
    count: int
    more: bool
    oldest_at: datetime
    due_at: datetime | None  # None: a person decides
    first: str  # the id of one of them, that is due first


def passed(connection: Connection, after: int, until: int, since: datetime) -> list[tuple[str, int, int]]:
    """Return how many events there were of each name in each second since 1970, behind one position up to another.

    Those before `since` are left out.
    """
    sql = (
        "SELECT name, at / 1000000 AS second, count(*) FROM events"
        " WHERE position > {0} AND position <= {0} AND at >= {0} GROUP BY name, at / 1000000"
    )
    return [
        (name, second, count)
        for name, second, count in query(connection, sql, (after, until, microseconds(since)))
    ]


def newest(connection: Connection, after: int, limit: int) -> list[Row[Any]]:
    """Return the newest events behind a position, up to so many, the newest first."""
    found = select(events).where(events.c.position > after)
    return list(connection.execute(found.order_by(events.c.position.desc()).limit(limit)).all())


def in_flight(connection: Connection, now: datetime) -> tuple[int, int]:
    """Return how many messages are being worked on, and their octets."""
    held = (
        select(messages.c.size_octets)
        .join_from(agenda, messages, messages.c.id == agenda.c.stream)
        .where(agenda.c.holder.is_not(None), agenda.c.lease_until > now)
        .limit(COUNTED)
        .subquery()
    )
    count, octets = connection.execute(
        select(func.count(), func.coalesce(func.sum(held.c.size_octets), 0))
    ).one()
    return int(count), int(octets)


def waiting(connection: Connection) -> Iterator[Waits]:
    """Yield what waits for each next hop or scanner ("" for not tried yet), as the agenda has it.

    The domains of direct delivery count as one.
    """
    lanes: dict[str, list[str]] = {}
    for lane in connection.scalars(_LANES, {"most": LANES + 1}):
        if lane != POLL:
            lanes.setdefault(_place(lane), []).append(lane)
    for name in sorted(lanes, key=lambda name: (name == DIRECTLY, name)):
        yield from _waits(connection, name, lanes[name])


def _place(lane: str) -> str:
    place = place_of(lane)
    return DIRECTLY if place.startswith(DOMAIN_HOP) else place


def _waits(connection: Connection, name: str, lanes: Sequence[str]) -> Iterator[Waits]:
    # Held messages are in the agenda while a time will let them go on; they are counted with those that wait for a person.
    rows = _first_of(connection, lanes, COUNTED)
    going = [row for row in rows if row.state not in ("held", "quarantined")]
    if going:
        yield Waits(
            name=name,
            count=len(going),
            more=len(rows) == COUNTED,
            oldest_at=min(row.opened_at for row in going),
            due_at=min(row.wake_at for row in going),
            first=going[0].id,
        )


def kept(connection: Connection) -> Iterator[Waits]:
    """Yield what waits for a person, by state."""
    for state in KEPT:
        found = select(messages.c.id, messages.c.opened_at).where(messages.c.state == state)
        if state == "outcome-unknown":  # unless it is tried again
            found = found.where(~exists().where(agenda.c.stream == messages.c.id))
        rows = connection.execute(found.order_by(messages.c.position).limit(COUNTED)).all()
        if rows:
            yield Waits(
                name=state,
                count=len(rows),
                more=len(rows) == COUNTED,
                oldest_at=rows[0].opened_at,
                due_at=None,
                first=rows[0].id,
            )


def of_place(connection: Connection, name: str, limit: int) -> list[Json]:
    """Return the rows of what waits for a next hop or scanner, named as by `waiting`, due first; up to so many."""
    every = connection.scalars(_LANES, {"most": LANES})
    lanes = [lane for lane in every if _place(lane) == name] or [name]
    found = _first_of(connection, lanes, limit)
    ids = [row.id for row in found if row.state not in ("held", "quarantined")]
    rows = connection.execute(select(messages).where(messages.c.id.in_(ids))).all()
    by_id = {row["id"]: row for row in queries.with_recipients(connection, rows)}
    return [by_id[one] for one in ids if one in by_id]


def _first_of(connection: Connection, lanes: Sequence[str], most: int) -> Sequence[Any]:
    if len(lanes) == 1:
        return connection.execute(_IN_ONE, {"lane": lanes[0], "most": most}).all()
    return connection.execute(_IN_MANY, {"lanes": list(lanes), "most": most}).all()


def mailbox_rows(connection: Connection) -> list[Json]:
    """Return each mailbox's standing, as `mailbox_queries.mailbox_rows`; what is present is counted up to PRESENT."""
    rows = connection.execute(select(mailboxes).order_by(mailboxes.c.name)).mappings().all()
    gone = "gone IS 0" if connection.dialect.name == "sqlite" else "gone IS FALSE"  # as the index has it
    counts: dict[str, int] = dict(query(connection, _PRESENT.replace("gone", gone), (PRESENT,)))
    return [mailbox_queries.standing_of(mailbox_of(row)) | {"present": counts[row["name"]]} for row in rows]


def polls(connection: Connection) -> dict[str, Json]:
    """Return the place in the agenda of each mailbox that has one, by its name."""
    rows = connection.execute(select(agenda).where(agenda.c.lane == POLL)).mappings()
    return {row["stream"].removeprefix(MAILBOX_PREFIX): dict(row) for row in rows}


# As `agenda.lanes`, no further than so many.
_LANES = text(
    "WITH RECURSIVE walk(lane) AS (SELECT (SELECT min(lane) FROM agenda) UNION ALL"
    " SELECT (SELECT min(a.lane) FROM agenda a WHERE a.lane > walk.lane) FROM walk WHERE walk.lane IS NOT NULL)"
    " SELECT lane FROM walk WHERE lane IS NOT NULL LIMIT :most"
)
_first = select(agenda.c.stream, agenda.c.wake_at).limit(bindparam("most"))
_in_one = _first.where(agenda.c.lane == bindparam("lane", type_=Text)).order_by(agenda.c.wake_at).subquery()
# Not in order: for that all of them would be read.
_in_many = _first.where(agenda.c.lane.in_(bindparam("lanes", expanding=True))).subquery()
_IN_ONE, _IN_MANY = (
    select(messages.c.id, messages.c.state, messages.c.opened_at, first.c.wake_at)
    .join_from(first, messages, messages.c.id == first.c.stream)
    .order_by(first.c.wake_at)
    for first in (_in_one, _in_many)
)
_PRESENT = (
    "SELECT m.name, (SELECT count(*) FROM"
    " (SELECT 1 AS one FROM uidls u WHERE u.mailbox = m.name AND u.gone LIMIT {0}) AS seen)"
    " FROM mailboxes m"
)
