"""What the log knows of a scanner's outage: who waits for it and since when."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection, exists, func, select

from store.agenda import lanes
from store.codec import decode
from store.events import Reported, Scanned
from store.message import SCAN_LANE
from store.read_tables import happenings, messages
from store.schema import agenda, events, from_microseconds


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


def untold(connection: Connection, before: datetime, after: str, limit: int) -> list[str]:
    """Return up to `limit` messages that go out, came in before a time, wait for a scanner, and were never reported on.

    From behind the id `after`, in the order of their ids.
    """
    waiting = [lane for lane in lanes(connection) if lane.startswith(SCAN_LANE)]
    if not waiting:
        return []
    told = exists().where(happenings.c.name == Reported.NAME, happenings.c.message == messages.c.position)
    found = (
        select(agenda.c.stream)
        .join(messages, messages.c.id == agenda.c.stream)
        .where(agenda.c.lane.in_(waiting), agenda.c.stream > after)
        .where(messages.c.direction == "outbound", messages.c.opened_at <= before, ~told)
        .order_by(agenda.c.stream)
        .limit(limit)
    )
    return list(connection.scalars(found))
