"""How much of what happened in an hour: a few rows an hour, so that statistics cost what the hours asked for hold.

Kinds: `in` (name: the mailbox, "" for what came from none; what: the direction), `out` (name: the next hop; what: the event),
`scan` and `rescan` (name: the scanner; what: the verdict), `kept` (name: the scanner; what: the reason). Durations are counted in
buckets, four to each doubling, so that quantiles are known to an eighth. Derived from the log like every read table.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection, func, select, text

from store.events import (
    Deferred,
    Delivered,
    Discarded,
    Downloaded,
    Event,
    Failed,
    Generated,
    Imported,
    Quarantined,
    RejectedOversize,
    Relayed,
    Scanned,
    Submitted,
)
from store.life import DOMAIN_HOP, Message
from store.read_tables import tallies
from store.schema import hour
from store.statement import Statement

NO_BUCKET = -1  # of what takes no time
_NOTHING = (0, 0)
_COLUMNS = ("hour", "kind", "name", "what", "bucket", "count", "octets")
MILLISECOND = timedelta(milliseconds=1)
# As much as a message is counted for. A mailbox may list any size, and sums must stay within 63 bits.
MOST_OCTETS = 1 << 40


# What is counted together: hour, kind, name, what, bucket. No class, for speed.
Key = tuple[int, str, str, str, int]


class Tallies:
    """What a batch of events adds to the counts."""

    def __init__(self) -> None:
        self.counts: dict[Key, tuple[int, int]] = {}  # how often, and octets

    def add(self, message: Message, event: Event, at: datetime) -> None:
        """Count an event on a message, of which only what never changes is looked at."""
        counted = _KEYS.get(type(event))
        if counted is not None and (key := counted(message, event, at)) is not None:
            count, octets = self.counts.get(key, _NOTHING)
            self.counts[key] = count + 1, octets + min(message.size_octets, MOST_OCTETS)

    def rows(self) -> list[dict[str, Any]]:
        """Return what to add to the table's rows."""
        return [
            dict(zip(_COLUMNS, (*key, count, octets), strict=True))
            for key, (count, octets) in sorted(self.counts.items())
        ]

    def write(self, connection: Connection) -> None:
        """Add it all to the table."""
        ADD.many(connection, self.rows())


@dataclass(frozen=True, slots=True, kw_only=True)
class Tally:
    """One kind of thing in a span of time. `spread` is how many took how long, by bucket."""

    kind: str
    name: str
    what: str
    count: int
    octets: int
    spread: dict[int, int]

    def quantile_ms(self, share: float) -> int | None:
        """Return how long it took at most, in `share` of the cases; None where nothing is known to have taken time."""
        left = share * sum(self.spread.values())
        for bucket, count in sorted(self.spread.items()):
            left -= count
            if left <= 0:
                return middle_ms(bucket)
        return None


def between(connection: Connection, since: datetime, until: datetime) -> Iterator[Tally]:
    """Yield what happened in the hours from that of `since` to that of `until`, that one included."""
    asked = (tallies.c.kind, tallies.c.name, tallies.c.what, tallies.c.bucket)
    rows = connection.execute(
        select(*asked, func.sum(tallies.c.count), func.sum(tallies.c.octets))
        .where(tallies.c.hour >= hour(since), tallies.c.hour <= hour(until))
        .group_by(*asked)
        .order_by(*asked)
    )
    found: dict[tuple[str, str, str], tuple[int, int, dict[int, int]]] = {}
    for kind, name, what, bucket, count, octets in rows:
        before, size, spread = found.get((kind, name, what), (0, 0, {}))
        if bucket != NO_BUCKET:
            spread[bucket] = int(count)
        found[kind, name, what] = (before + int(count), size + int(octets), spread)
    for (kind, name, what), (count, octets, spread) in found.items():
        yield Tally(kind=kind, name=name, what=what, count=count, octets=octets, spread=spread)


def bucket_of(milliseconds: int) -> int:
    """Return the bucket of a duration: 0 for none at all, else four for each doubling."""
    if milliseconds <= 0:
        return 0
    power = milliseconds.bit_length() - 1
    quarter = (milliseconds >> (power - 2) if power >= 2 else milliseconds << (2 - power)) & 3
    return 1 + 4 * power + quarter


def middle_ms(bucket: int) -> int:
    """Return the duration in the middle of a bucket."""
    if bucket <= 0:
        return 0
    power, quarter = divmod(bucket - 1, 4)
    return ((9 + 2 * quarter) << power) >> 3


def _came_in(message: Message, event: Event, at: datetime) -> Key:
    return hour(at), "in", message.mailbox or "", message.direction, NO_BUCKET


def _taken(message: Message, event: Delivered | Relayed, at: datetime) -> Key | None:
    if isinstance(event, Delivered) and event.report is not None:
        return None  # it was counted when it was relayed
    bucket = bucket_of((at - message.opened_at) // MILLISECOND)
    return hour(at), "out", _hop(event.next_hop), event.NAME, bucket


def _not_taken(_message: Message, event: RejectedOversize | Failed | Deferred, at: datetime) -> Key | None:
    if isinstance(event, Deferred) and not event.tried:
        return None
    return hour(at), "out", _hop(event.next_hop), event.NAME, NO_BUCKET


def _discarded(_message: Message, event: Discarded, at: datetime) -> Key:
    return hour(at), "out", "", event.NAME, NO_BUCKET


def _scanned(_message: Message, event: Scanned, at: datetime) -> Key:
    bucket = NO_BUCKET if event.verdict == "error" else bucket_of(event.duration_ms)
    return hour(at), "rescan" if event.late else "scan", event.scanner, event.verdict, bucket


def _quarantined(_message: Message, event: Quarantined, at: datetime) -> Key:
    return hour(at), "kept", event.scanner or "", event.reason, NO_BUCKET


# What is counted. By class, as in `life`.
_KEYS: Mapping[type[Event], Callable[[Message, Any, datetime], Key | None]] = {
    Deferred: _not_taken,
    Delivered: _taken,
    Discarded: _discarded,
    Downloaded: _came_in,
    Failed: _not_taken,
    Generated: _came_in,
    Imported: _came_in,
    Quarantined: _quarantined,
    RejectedOversize: _not_taken,
    Relayed: _taken,
    Scanned: _scanned,
    Submitted: _came_in,
}


def _hop(name: str | None) -> str:
    """The domains of direct delivery count as one: there may be any number of them."""
    return "mx" if name is not None and name.startswith(DOMAIN_HOP) else name or ""


ADD = Statement(
    text(
        "INSERT INTO tallies (hour, kind, name, what, bucket, count, octets)"
        " VALUES (:hour, :kind, :name, :what, :bucket, :count, :octets)"
        " ON CONFLICT (hour, kind, name, what, bucket) DO UPDATE SET"
        " count = tallies.count + excluded.count, octets = tallies.octets + excluded.octets"
    )
)
