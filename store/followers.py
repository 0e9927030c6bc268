"""How far other programs have been told of the log: a position for each, by name.

The log is the outbox: an event is on record in the transaction that made it true, positions are without gaps and in the order
of commits, so that who is told of what is behind a position misses nothing. A follower is not derived from the log and is left
alone by a rebuild. Its lease has one process tell it at a time; there is no fence, for being told twice does no harm.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, insert, or_, select, update

from store import log
from store.agenda import Claim
from store.schema import events, followers

LEASE_TERM = timedelta(minutes=2)  # a secret from a slow command and a slow answer fit in twice
SPAN = 2_000  # positions looked at by one query, however few of them are wanted


@dataclass(frozen=True, slots=True, kw_only=True)
class Follower:
    """How one stands. `failures` in a row since `since`, the last of which `said` why; next to be tried at `retry_at`."""

    name: str
    position: int
    lag: int  # events behind it
    failures: int
    since: datetime | None
    said: str | None
    retry_at: datetime | None

    def due(self, now: datetime) -> bool:
        """Whether there is something to tell, and it may be tried."""
        return self.lag > 0 and (self.retry_at is None or self.retry_at <= now)


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What a claim finds on record."""

    position: int
    failures: int
    since: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """That it could not be told, how often in a row by now, since when, and when it is tried again."""

    said: str
    failures: int
    since: datetime
    retry_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Wanted events, oldest first, and up to which position they are all."""

    rows: Sequence[Row[Any]]
    reached: int
    last: int  # of the log

    @property
    def whole(self) -> bool:
        """Whether there is nothing behind it."""
        return self.reached >= self.last


def begin(connection: Connection, names: Iterable[str]) -> None:
    """Have these followed from now on; those known go on where they were, and may be tried at once.

    The caller's transaction holds the append lock, so that nothing is appended between two of them.
    """
    last = log.last_position(connection)
    known = set(connection.scalars(select(followers.c.name)))
    for name in names:
        if name in known:
            connection.execute(update(followers).where(followers.c.name == name).values(retry_at=None))
        else:
            connection.execute(insert(followers).values(name=name, position=last, failures=0))


def every(connection: Connection) -> list[Follower]:
    """Return how all of them stand."""
    last = log.last_position(connection)
    rows = connection.execute(select(followers).order_by(followers.c.name))
    return [_follower(row, last) for row in rows]


def one(connection: Connection, name: str) -> Follower | None:
    """Return how one stands, None where it is not followed yet."""
    row = connection.execute(select(followers).where(followers.c.name == name)).first()
    return None if row is None else _follower(row, log.last_position(connection))


def page(connection: Connection, after: int, names: Sequence[str], limit: int) -> Page:
    """Return up to `limit` of the next events behind a position that have one of these names; no names: any."""
    last = log.last_position(connection)
    until = min(last, after + SPAN)
    found = select(events).where(events.c.position > after, events.c.position <= until)
    if names:
        found = found.where(events.c.name.in_(names))
    rows = connection.execute(found.order_by(events.c.position).limit(limit)).all()
    return Page(rows=rows, reached=rows[-1].position if len(rows) == limit else until, last=last)


# -- by who holds it


def claim(connection: Connection, name: str, by: Claim, now: datetime) -> Held | None:
    """Lease one; None where somebody else holds it, or it is not to be tried yet."""
    free = or_(followers.c.holder.is_(None), followers.c.holder == by.holder, followers.c.lease_until <= now)
    due = or_(followers.c.retry_at.is_(None), followers.c.retry_at <= now)
    taken = update(followers).where(followers.c.name == name, free, due)
    taken = taken.values(holder=by.holder, lease_until=by.until)
    found = taken.returning(followers.c.position, followers.c.failures, followers.c.since)
    row = connection.execute(found).first()
    return None if row is None else Held(position=row.position, failures=row.failures, since=row.since)


# These say False where it is no longer held: then nothing was changed.


def move(connection: Connection, name: str, holder: str, position: int, until: datetime) -> bool:
    """Take note that it has been told all up to a position, and hold it for longer."""
    return _held(connection, name, holder, {"position": position, "lease_until": until} | _WELL)


def finish(connection: Connection, name: str, holder: str, position: int) -> bool:
    """Take note that it has been told all up to a position, and end the lease."""
    return _held(connection, name, holder, {"position": position} | _FREE | _WELL)


def fail(connection: Connection, name: str, holder: str, position: int, why: Failure) -> bool:
    """Take note of how far it was told and that it can't be told more now, and end the lease."""
    failed = {"failures": why.failures, "since": why.since, "said": why.said, "retry_at": why.retry_at}
    return _held(connection, name, holder, {"position": position} | _FREE | failed)


def give_back(connection: Connection, name: str, holder: str, position: int) -> bool:
    """Take note of how far it was told, and end the lease; whether it is well is left open."""
    return _held(connection, name, holder, {"position": position} | _FREE)


def holders(connection: Connection) -> list[str]:
    """Return who holds any."""
    found = select(followers.c.holder).where(followers.c.holder.is_not(None)).distinct()
    return [holder for (holder,) in connection.execute(found)]


def take_from(connection: Connection, holder: str) -> None:
    """End all leases of a holder that is gone."""
    connection.execute(update(followers).where(followers.c.holder == holder).values(_FREE))


_FREE: dict[str, Any] = {"holder": None, "lease_until": None}
_WELL: dict[str, Any] = {"failures": 0, "since": None, "said": None, "retry_at": None}


def _held(connection: Connection, name: str, holder: str, values: dict[str, Any]) -> bool:
    mine = (followers.c.name == name) & (followers.c.holder == holder)
    return connection.execute(update(followers).where(mine).values(values)).rowcount == 1


def _follower(row: Row[Any], last: int) -> Follower:
    return Follower(
        name=row.name,
        position=row.position,
        lag=max(0, last - row.position),
        failures=row.failures,
        since=row.since,
        said=row.said,
        retry_at=row.retry_at,
    )
