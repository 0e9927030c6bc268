"""When to look at a stream again, and who holds its lease.

A row for each open message (and for each mailbox). `lane` is what is claimed together: messages by the next hop they wait for
(`message.waits_at`), "" for none yet or several, `POLL` for mailboxes; so that one dead next hop blocks no other. Due times are
derived from the log; leases are not history and leave no events. A claim counts the fence up: whoever lost its lease can't
complete.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, NamedTuple

import orjson
from sqlalchemy import (
    BigInteger,
    Connection,
    Text,
    bindparam,
    delete,
    func,
    insert,
    null,
    or_,
    select,
    text,
    update,
)

from store.message import NOW_LANE, Message
from store.schema import agenda, microseconds
from store.statement import Lookup, Statement

if TYPE_CHECKING:
    from store.log import Append, Unit

LEASE_TERM = timedelta(seconds=60)
PUT_OFF = timedelta(hours=1)  # at most, where no event says so: a message whose events can't be read
RENEW_EVERY = timedelta(seconds=20)  # two renewals may fail before a lease runs out

FRESH = ""  # the lane of messages that wait for no next hop yet, or for several
POLL = "poll:"  # the lane of mailboxes; of next hops only a domain has a colon in its name


class Lease(NamedTuple):
    """A time-limited claim on a stream."""

    stream: str
    fence: int


@dataclass(frozen=True, slots=True)
class Claim:
    """Who wants to hold something, and until when."""

    holder: str
    until: datetime


def claim(connection: Connection, lane: str, by: Claim, now: datetime, limit: int) -> list[Lease]:
    """Lease up to `limit` streams of a lane, those due longest first."""
    rows = connection.execute(
        _CLAIM, {"the_lane": lane, "now": now, "size": limit, "by": by.holder, "until": by.until}
    )
    return [Lease(stream, fence) for _, stream, fence in sorted(tuple(row) for row in rows)]


def claim_stream(connection: Connection, stream: str, lane: str, by: Claim, now: datetime) -> Lease | None:
    """Lease one stream whether due or not, adding it to the agenda if it isn't there; None if somebody holds it."""
    put(connection, stream, lane, now, keep_earlier=True)
    row = connection.execute(
        _CLAIM_ONE, {"the_stream": stream, "now": now, "by": by.holder, "until": by.until}
    ).first()
    return Lease(row[0], row[1]) if row else None


def put(
    connection: Connection, stream: str, lane: str, wake_at: datetime, *, keep_earlier: bool = False
) -> None:
    """Have a stream looked at, at `wake_at`; leases stay as they are.

    The caller's transaction holds the append lock, so nobody else adds the row meanwhile.
    """
    if connection.scalar(select(agenda.c.stream).where(agenda.c.stream == stream)) is None:
        connection.execute(insert(agenda).values(stream=stream, lane=lane, wake_at=wake_at, fence=0))
    elif not keep_earlier:
        connection.execute(update(agenda).where(agenda.c.stream == stream).values(lane=lane, wake_at=wake_at))


def give_back(connection: Connection, lease: Lease, wake_at: datetime | None = None) -> None:
    """End a lease without appending; with `wake_at`, set when it is due next."""
    values: dict[str, object] = {"holder": None, "lease_until": None}
    if wake_at is not None:
        values["wake_at"] = wake_at
    mine = (agenda.c.stream == lease.stream) & (agenda.c.fence == lease.fence)
    connection.execute(update(agenda).where(mine).values(values))


def renew(connection: Connection, by: Claim, leases: Sequence[Lease]) -> None:
    """Extend these leases, as far as they are the holder's still.

    By name: what a commit left in a holder's name of which it never heard has to run out, or nobody would work on it.
    """
    if leases:
        held = orjson.dumps([tuple(lease) for lease in leases]).decode()
        values = {"by": by.holder, "until": microseconds(by.until), "held": held}
        connection.execute(_RENEW[connection.dialect.name], values)


def keep(connection: Connection, by: Claim, now: datetime, holds: Callable[[Lease], bool]) -> None:
    """Extend what ran out in a holder's name and is in its hands: in the transaction in which it claims, and before."""
    rows = connection.execute(_RAN_OUT, {"by": by.holder, "now": now})
    renew(connection, by, [lease for lease in (Lease(*row) for row in rows) if holds(lease)])


def holders(connection: Connection) -> list[str]:
    """Return who holds anything."""
    found = select(agenda.c.holder).where(agenda.c.holder.is_not(None)).distinct()
    return [holder for (holder,) in connection.execute(found)]


def take_from(connection: Connection, holder: str) -> int:
    """End all leases of a holder that is gone; returns how many."""
    freed = update(agenda).where(agenda.c.holder == holder).values(holder=None, lease_until=None)
    return connection.execute(freed).rowcount


def lanes(connection: Connection) -> list[str]:
    """Return the lanes in use, by walking the index, not the table."""
    return list(connection.scalars(_LANES))


def due_lanes(connection: Connection, now: datetime) -> list[str]:
    """Return the lanes that have a free stream that is due."""
    return list(connection.scalars(_DUE_LANES, {"now": microseconds(now)}))


def lanes_of(connection: Connection, streams: Sequence[str]) -> dict[str, str]:
    """Return the lanes of those of these streams that are in the agenda."""
    return dict(_LANES_OF.rows(connection, list(streams)))


def waiting(connection: Connection, place: str) -> int:
    """Return how many streams wait for a next hop or a scanner."""
    found = select(func.count()).select_from(agenda).where(agenda.c.lane.in_((place, NOW_LANE + place)))
    return connection.scalar(found) or 0


def any_due(connection: Connection, lane: str, now: datetime) -> bool:
    """Whether a lane has a free stream that is due."""
    row = connection.execute(_due, {"the_lane": lane, "now": now, "size": 1}).first()
    return row is not None


def due(connection: Connection, lane: str, now: datetime, limit: int = 1_000) -> list[str]:
    """Return the free streams of a lane that are due, those due longest first."""
    return list(connection.scalars(_due, {"the_lane": lane, "now": now, "size": limit}))


def fences(connection: Connection, leases: Sequence[Lease]) -> dict[str, int]:
    """Return the fences of these streams as they are now."""
    return dict(_FENCES.rows(connection, [lease.stream for lease in leases]))


def first_fence(message: Message) -> int:
    """Return the fence of a stream that has just come to the agenda: above any it may have had before."""
    return microseconds(message.changed_at)


def settle(connection: Connection, units: Iterable[Unit]) -> None:
    """Bring the agenda in step with appended units: due times, leases given back, leases taken from the start."""
    rows = _Rows()
    for unit in units:
        lease = unit.lease
        for append in unit.appends:
            if isinstance(append.after, Message):
                # Only its own holder ends a lease: others may append to a message that is just being handed over.
                ends = lease is not None and lease.stream == append.stream and not unit.keep
                rows.add(append, append.after, not ends, unit.claim)
    rows.write(connection)


Row = dict[str, object]


class _Rows:
    """What a batch does to the agenda, gathered by statement."""

    def __init__(self) -> None:
        self.new: dict[str, Row] = {}
        self.moved: dict[str, Row] = {}
        self.closed: dict[str, Row] = {}

    def add(self, append: Append, after: Message, held: bool, claimed: Claim | None) -> None:
        stream, due = append.stream, after.due_at
        listed = isinstance(append.before, Message) and append.before.due_at is not None
        if due is None:
            self.new.pop(stream, None)
            self.moved.pop(stream, None)
            self.closed[stream] = {"the_stream": stream}
        elif listed:
            self.moved[stream] = {
                "the_stream": stream,
                "the_lane": after.lane,
                "due": microseconds(due),
                "held": held,
            }
        else:
            self.new[stream] = {
                "stream": stream,
                "lane": after.lane,
                "wake_at": microseconds(due),
                "holder": claimed.holder if claimed else None,
                "lease_until": microseconds(claimed.until) if claimed else None,
                "fence": first_fence(after),
            }

    def write(self, connection: Connection) -> None:
        # First: what settled in this batch may be due again in it.
        _CLOSE.many(connection, list(self.closed.values()))
        _PUT.many(connection, list(self.new.values()))
        _MOVE.many(connection, [row for row in self.moved.values() if row["held"]])
        _MOVE_AND_FREE.many(connection, [row for row in self.moved.values() if not row["held"]])


_free = or_(agenda.c.lease_until.is_(None), agenda.c.lease_until <= bindparam("now"))
_due = (
    select(agenda.c.stream)
    .where(agenda.c.lane == bindparam("the_lane"), agenda.c.wake_at <= bindparam("now"), _free)
    .order_by(agenda.c.wake_at)
    .limit(bindparam("size"))
)
# Both databases read this as it stands. Each step finds the next lane in the index, however many streams the last one has.
_WALK = (
    "WITH RECURSIVE walk(lane) AS (SELECT (SELECT min(lane) FROM agenda) UNION ALL"
    " SELECT (SELECT min(a.lane) FROM agenda a WHERE a.lane > walk.lane) FROM walk WHERE walk.lane IS NOT NULL)"
    " SELECT lane FROM walk WHERE lane IS NOT NULL"
)
_LANES = text(_WALK)
_DUE_LANES = text(
    f"{_WALK} AND EXISTS (SELECT 1 FROM agenda d WHERE d.lane = walk.lane AND d.wake_at <= :now"  # noqa: S608
    " AND (d.lease_until IS NULL OR d.lease_until <= :now))"
)
_locked = _due.with_for_update(skip_locked=True)  # Postgres; SQLite has one writer anyway
_taken = {
    "holder": bindparam("by"),
    "lease_until": bindparam("until"),
    "fence": agenda.c.fence + 1,
}
_CLAIM = (
    update(agenda)
    .where(agenda.c.stream.in_(_locked))
    .values(_taken)
    .returning(agenda.c.wake_at, agenda.c.stream, agenda.c.fence)
)
_CLAIM_ONE = (
    update(agenda)
    .where(agenda.c.stream == bindparam("the_stream"), _free)
    .values(_taken)
    .returning(agenda.c.stream, agenda.c.fence)
)
_RENEW = {
    "sqlite": text(
        "UPDATE agenda SET lease_until = :until WHERE holder = :by AND (stream, fence) IN"
        " (SELECT json_extract(value, '$[0]'), json_extract(value, '$[1]') FROM json_each(:held))"
    ),
    "postgresql": text(
        "UPDATE agenda SET lease_until = :until WHERE holder = :by AND (stream, fence) IN"
        " (SELECT w->>0, CAST(w->>1 AS bigint) FROM jsonb_array_elements(CAST(:held AS jsonb)) w)"
    ),
}
_RAN_OUT = select(agenda.c.stream, agenda.c.fence).where(
    agenda.c.holder == bindparam("by"), agenda.c.lease_until <= bindparam("now")
)
_LANES_OF = Lookup(
    sqlite="SELECT a.stream, a.lane FROM json_each(:wanted) w JOIN agenda a ON a.stream = w.value",
    postgres="SELECT a.stream, a.lane FROM jsonb_array_elements_text(%(wanted)s::jsonb) w"
    " JOIN agenda a ON a.stream = w",
)
_FENCES = Lookup(
    sqlite="SELECT a.stream, a.fence FROM json_each(:wanted) w JOIN agenda a ON a.stream = w.value",
    postgres="SELECT a.stream, a.fence FROM jsonb_array_elements_text(%(wanted)s::jsonb) w"
    " JOIN agenda a ON a.stream = w",
)
_PUT = Statement(insert(agenda))
_moved = update(agenda).where(agenda.c.stream == bindparam("the_stream", type_=Text))
_MOVE = Statement(_moved.values(lane=bindparam("the_lane"), wake_at=bindparam("due", type_=BigInteger)))
_MOVE_AND_FREE = Statement(
    _moved.values(
        lane=bindparam("the_lane"),
        wake_at=bindparam("due", type_=BigInteger),
        holder=null(),
        lease_until=null(),
    )
)
_CLOSE = Statement(delete(agenda).where(agenda.c.stream == bindparam("the_stream", type_=Text)))
