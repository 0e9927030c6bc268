"""What the log knows of a scanner's outage: who waits for it and since when, and whether the postmaster was told."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import Connection, func, select

from store.codec import decode
from store.events import Generated, Scanned
from store.message import SCAN_LANE
from store.schema import COMMON_EVENTS, agenda, events, from_microseconds, microseconds

NOTICES_LOOKED_AT = (
    10_000  # newest first: an outage that is further back than so many reports is told of anew
)
LOOKED_BACK = timedelta(days=90)


@dataclass(frozen=True, slots=True)
class Waiters:
    """How many messages wait for a scanner, and the one of them that waits longest; "" for none."""

    count: int
    longest: str


def waiters(connection: Connection, scanner: str) -> Waiters:
    """Return who waits for a scanner."""
    lane = agenda.c.lane == SCAN_LANE + scanner
    # Ids begin with the time at which a message came in.
    count, longest = connection.execute(select(func.count(), func.min(agenda.c.stream)).where(lane)).one()
    return Waiters(count, longest or "")


def outage(connection: Connection, message: str, scanner: str) -> tuple[datetime | None, datetime | None]:
    """Return since when a scanner had no verdict on a message when it last had none, and since when it has none now."""
    last: datetime | None = None
    now: datetime | None = None
    rows = select(events.c.version, events.c.at, events.c.data).where(
        events.c.stream == message, events.c.name == Scanned.NAME
    )
    for version, at, data in connection.execute(rows.order_by(events.c.revision)):
        event = decode(Scanned.NAME, version, bytes(data), None)
        if isinstance(event, Scanned) and event.scanner == scanner and not event.late:
            now = (now or from_microseconds(at)) if event.verdict == "error" else None
            last = now or last
    return last, now


def told_down(connection: Connection, scanners: Collection[str], now: datetime) -> dict[str, Generated]:
    """Return of which of these scanners the postmaster was told that they are down, and not yet that they are up."""
    last: dict[str, Generated] = {}
    rows = (
        select(events.c.version, events.c.data)
        .where(events.c.name == Generated.NAME, events.c.name.not_in(COMMON_EVENTS))
        .where(events.c.at >= microseconds(now - LOOKED_BACK))
        .order_by(events.c.position.desc())
        .limit(NOTICES_LOOKED_AT)
    )
    for version, data in connection.execute(rows):
        if b'"scanner-' not in (octets := bytes(data)):
            continue
        event = decode(Generated.NAME, version, octets, None)
        if isinstance(event, Generated) and event.scanner is not None:
            last.setdefault(event.scanner, event)
            if all(name in last for name in scanners):
                break
    return {name: event for name, event in last.items() if event.kind == "scanner-down"}
