"""The tables that hold the log and what serves it.

`events` is the log and the only truth. `contents` holds octets, `seals` what stood for the whole log at some times,
`followers` how far other programs have been told of it. The due times in `agenda` are derived from the log, and so are the
read tables (`read_tables`).

Times are microseconds since 1970 UTC in a BIGINT on both databases: SQLite forgets zones. Positions are given out
by the appender under the append lock, without gaps; so a reader that follows `position > checkpoint` misses nothing,
and a hole in the log shows.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Dialect,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)
from sqlalchemy.types import TypeDecorator

# Partial indexes are named here for SQLite only: SQLAlchemy would import its whole Postgres dialect (55 ms at each start) to
# check the other keyword. The migrations make them on both.

# Events that nearly every message has: finding them by name needs no index, and an index would double the cost of appending.
COMMON_EVENTS = ("attempted", "delivered", "downloaded", "relayed", "removed-from-source", "scanned")

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND = timedelta(microseconds=1)
HOUR = timedelta(hours=1)

# A plain BIGINT would not be SQLite's rowid.
Position = BigInteger().with_variant(Integer, "sqlite")


def microseconds(at: datetime) -> int:
    """Return a time as it is stored; it must be aware."""
    return (at - EPOCH) // MICROSECOND


def hour(at: datetime) -> int:
    """Return the hour a time is in, counted from 1970 UTC."""
    return (at - EPOCH) // HOUR


def from_microseconds(value: int) -> datetime:
    """Return a stored time, in UTC."""
    return EPOCH + timedelta(0, 0, value)  # by name it takes half as long again


class Utc(TypeDecorator[datetime]):
    """An aware time, stored as microseconds since 1970 UTC."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> Any:
        return None if value is None else microseconds(value)

    def process_result_value(self, value: Any, dialect: Dialect) -> datetime | None:
        return None if value is None else from_microseconds(value)


metadata = MetaData()

events = Table(
    "events",
    metadata,
    Column("position", Position, primary_key=True, autoincrement=False),
    Column("stream", Text, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("name", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("data", LargeBinary, nullable=False),
    Column("personal", LargeBinary),
    Column("salt", LargeBinary),
    Column("digest", LargeBinary),
    Column("hash", LargeBinary, nullable=False),
    UniqueConstraint("stream", "revision", name="events_stream"),
)
_rare = events.c.name.not_in(COMMON_EVENTS)
Index("events_rare_name", events.c.name, events.c.position, sqlite_where=_rare)

contents = Table(
    "contents",
    metadata,
    Column(
        "position", Position, primary_key=True, autoincrement=False
    ),  # of the event that opened the message
    Column("octets", LargeBinary, nullable=False),
)

# Not derived: a seal that was made anew from a log that was rewritten would hide just that.
seals = Table(
    "seals",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),  # from 1, without gaps
    Column("position", Position, nullable=False),  # it covers the events up to this one
    Column("root", LargeBinary, nullable=False),
    Column(
        "blocks", LargeBinary, nullable=False
    ),  # roots of the blocks that became whole since the seal before
    Column("at", Utc, nullable=False),
    Column("public_key", LargeBinary),
    Column("signature", LargeBinary),
)

# Not derived either: how far each program that is told of events has been told (`followers`).
followers = Table(
    "followers",
    metadata,
    Column("name", Text, primary_key=True),
    Column("position", Position, nullable=False),  # of the last event it has taken
    Column("failures", Integer, nullable=False),  # in a row; 0 is well
    Column("since", Utc),  # of the first of them
    Column("said", Text),  # the last of them
    Column("retry_at", Utc),
    Column("holder", Text),
    Column("lease_until", Utc),
)

agenda = Table(
    "agenda",
    metadata,
    Column("stream", Text, primary_key=True),
    Column("lane", Text, nullable=False),
    Column("wake_at", Utc, nullable=False),
    Column("holder", Text),
    Column("lease_until", Utc),
    Column("fence", BigInteger, nullable=False, default=0),
)
Index("agenda_due", agenda.c.lane, agenda.c.wake_at)
_held = agenda.c.holder.is_not(None)
Index("agenda_holder", agenda.c.holder, sqlite_where=_held)
