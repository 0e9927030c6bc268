"""What `mailgate top` shows, read in one transaction: how the store is at one moment.

Reading costs the same whatever the store holds. The log is gone through once: what is behind the last position seen,
and no further back than so many positions.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine

from cli import context, mailbox, times
from cli.flow import SPAN, Flow
from cli.show import Entry, entry_of
from cli.waits import last_reply
from store import glance, log, queries
from store.database import reading
from store.errors import StoreError
from store.glance import Waits
from store.message import SCAN_LANE
from store.schema import EPOCH, from_microseconds

if TYPE_CHECKING:
    from engine.settings import Settings

LOOK_BACK = 50_000  # positions gone through to begin with: less than half a second
PASSED = 20_000  # positions gone through at a time; what is more is reckoned from them
GAP_SECONDS = 4.0  # nobody looked for so long: what came meanwhile did not come just now
SHOWN_EVENTS = 100
HOPS = 500  # whose standing is read: direct delivery may have any number of them in trouble

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Happening:
    """An event as stored; `entry` is None, and `trouble` says why, where this program can't read it."""

    position: int
    stream: str
    name: str
    at: datetime
    entry: Entry | None
    trouble: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The store at one moment."""

    at: datetime
    gateway: bool | None  # whether one runs; None where it can't be said
    position: int
    in_flight: int
    in_flight_octets: int
    waiting: Sequence[Waits]
    kept: Sequence[Waits]
    said: dict[str, str]  # by scanner that is waited for: what was said last
    hops: dict[str, Json]
    mailboxes: Sequence[Json]
    events: Sequence[Happening]  # the newest first

    @property
    def second(self) -> int:
        """Its time, in whole seconds since 1970."""
        return int(self.at.timestamp())


@dataclass(slots=True)
class Watch:
    """Somebody who looks again and again, and remembers how far the log was."""

    engine: Engine
    settings: Settings
    flow: Flow = field(default_factory=lambda: Flow((), 0, 0))
    _seen: int = 0
    _looked_at: datetime | None = None
    _events: list[Happening] = field(default_factory=list)

    def look(self) -> Snapshot:
        """Return how the store is now. Raises StoreFailure, or what the database raises, where it can't be read."""
        require_file(self.settings)
        current = times.now()
        gateway = context.gateway_runs(self.engine)
        with reading(self.engine) as connection:
            last = log.last_position(connection)
            self._follow(connection, last, current)
            found = self._standing(connection, gateway, last, current)
        self._seen, self._looked_at = last, current
        return found

    def _standing(
        self, connection: Connection, gateway: bool | None, last: int, current: datetime
    ) -> Snapshot:
        count, octets = glance.in_flight(connection, current)
        waiting = list(glance.waiting(connection))
        scans = [one for one in waiting if one.name.startswith(SCAN_LANE)]
        rows = glance.mailbox_rows(connection)
        return Snapshot(
            at=current,
            gateway=gateway,
            position=last,
            in_flight=count,
            in_flight_octets=octets,
            waiting=waiting,
            kept=list(glance.kept(connection)),
            said={one.name: _said(connection, one) for one in scans},
            hops={hop["next_hop"]: hop for hop in queries.hops(connection, HOPS)},
            mailboxes=mailbox.standings(self.settings, rows, glance.polls(connection), current),
            events=tuple(self._events),
        )

    def _follow(self, connection: Connection, last: int, current: datetime) -> None:
        """Take in what is new in the log; of a log that is another one, or was not looked at for a while, begin anew."""
        since = current - timedelta(seconds=SPAN)
        if last < self._seen:
            self._events, self._seen = [], 0
        rows = glance.newest(connection, self._seen, SHOWN_EVENTS)
        self._events = [*map(_happening, rows), *self._events][:SHOWN_EVENTS]
        second, idle = int(current.timestamp()), self._idle(current)
        if idle or not self._seen:
            first = max(last - LOOK_BACK, 0)
            counts = glance.passed(connection, first, last, since)
            known_from = int(since.timestamp())
            if first:  # as far as it was gone back
                begun = queries.log_rows(connection, after=first, limit=1)
                known_from = max(known_from, begun[0].at // 1_000_000 + 1)
            self.flow = Flow(counts, known_from, second)
            return
        first = max(self._seen, last - PASSED)
        scale = (last - self._seen) / (last - first) if last > first else 1.0
        came: Counter[str] = Counter()
        for name, _, count in glance.passed(connection, first, last, EPOCH):
            came[name] += count
        self.flow.came(((name, count * scale) for name, count in came.items()), second)

    def _idle(self, current: datetime) -> bool:
        return self._looked_at is None or (current - self._looked_at).total_seconds() > GAP_SECONDS


def require_file(settings: Settings) -> None:
    """See that an SQLite store is still there: to open it would make it anew. Raises StoreFailure."""
    file = context.sqlite_file(settings)
    if file is not None and not file.exists():
        raise context.StoreFailure(f"there is no store at {file} any more")


def _said(connection: Connection, waits: Waits) -> str:
    row = queries.one(connection, waits.first)
    return "" if row is None else last_reply(row)


def _happening(row: Any) -> Happening:
    try:
        entry = entry_of(row)
    except StoreError as error:
        return Happening(row.position, row.stream, row.name, from_microseconds(row.at), None, str(error))
    return Happening(row.position, row.stream, row.name, entry.at, entry)
