"""The daily report: once a day the postmaster hears how things are, also where all is well.

When the last one was written is in the log, and is asked in the transaction of the next: so it is sent once, however often a
gateway is killed and started and however many there are. One whose time passed meanwhile is sent at the next start. Each
tells of the whole hours since the one before, so that nothing is counted twice and nothing is left out.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Iterator
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from sqlalchemy import Connection

from engine.core.daily_report import Day, Lane, Oldest, daily
from engine.digest import DAY, LOOK_EVERY_SECONDS, last_due
from engine.means import Means
from engine.telling import Teller
from engine.watched import Watched
from store import log, mailbox_queries, queries, space, tallies, told, waiting
from store.errors import StoreError
from store.recipient import ATTENTION, State
from store.selection import Filter
from store.told import Told

COUNTED: Final = timedelta(microseconds=1)
OF_ONES_OWN: Final = frozenset({"held", "outcome-unknown", "quarantined"})  # these wait for no next hop
BY_HAND: Final[tuple[State, ...]] = ("held", "outcome-unknown")  # unless a time, or a retry, lets them go on

logger = logging.getLogger("mailgate.daily")


class Daily:
    """Writes it so long after midnight UTC; never where that is None. For one event loop; run `run` as a task."""

    def __init__(self, means: Means, watched: Watched, *, teller: Teller, at_seconds: int | None) -> None:
        self._means = means
        self._teller = teller
        self._watched = watched
        self._at = None if at_seconds is None else timedelta(seconds=at_seconds)
        self._sent: datetime | None = None  # the last one due that was seen through

    async def run(self) -> None:
        """Send each day's report when its time has come, until cancelled."""
        while self._at is not None:
            try:
                await self.send()
            except StoreError as error:
                self._means.outage.say(error, "daily report")
            await asyncio.sleep(LOOK_EVERY_SECONDS)

    async def send(self) -> bool:
        """Send the report that is due now; says whether one was. Raises StoreError."""
        now = self._means.now()
        due = None if self._at is None else last_due(now, self._at)
        if due is None or due == self._sent:
            return False
        day: Day | None = await self._means.read(partial(self._day, due=due, now=now))
        sent = day is not None and await self._teller.tell(
            "daily",
            "",
            partial(daily, day, self._means.policy),
            lambda last: last is None or last.at < due,
            at=now,
        )
        if sent:
            logger.info("the daily report was written")
        self._sent = due
        return sent

    def _day(self, connection: Connection, due: datetime, now: datetime) -> Day | None:
        """Return what there is to tell; None where it was told, or where there was no store yet when it was due."""
        last = told.last(connection, "daily")
        began = log.first_at(connection)
        if began is None or began >= due or (last is not None and last.at >= due):
            return None
        until = _hour(now)
        since = _hour(until - DAY if last is None else last.at)
        came, went, kept_back = _counts(connection, since, until)
        states = _states(connection)
        room = space.space(connection)
        return Day(
            since=since,
            until=until,
            came=came,
            went=went,
            kept_back=kept_back,
            lanes=tuple(self._lanes(connection)),
            held=states["held"],
            doubtful=states["outcome-unknown"],
            by_hand={state: waiting.left_to_a_person(connection, state) for state in BY_HAND},
            quarantine=states["quarantined"],
            oldest=_oldest(connection),
            mailboxes=[mailbox_queries.mailbox(connection, name) for name in self._watched.mailboxes],
            scanners_down={
                name: one.at for name, one in told.of(connection, "scanner").items() if self._still(name, one)
            },
            scanners=len(self._means.policy.scanners),
            shortage=self._watched.shortage(),
            store_octets=space.size_octets(connection),
            free_octets=None if room is None else room.free_octets,
        )

    def _still(self, scanner: str, one: Told) -> bool:
        return one.trouble and self._means.policy.scanner(scanner) is not None

    def _lanes(self, connection: Connection) -> Iterator[Lane]:
        """Yield what waits by next hop, the domains of direct delivery as one, and the next hops that are down."""
        waiting: Counter[str] = Counter()
        oldest: dict[str, datetime] = {}
        for row in queries.open_by_hop(connection):
            if row["state"] not in OF_ONES_OWN:
                name = row["next_hop"] or ""
                name = "mx" if name.startswith("mx:") else name
                waiting[name] += row["messages"]
                oldest[name] = min(oldest.get(name, row["oldest"]), row["oldest"])
        rows = {row["next_hop"]: row for row in queries.hops(connection)}
        down = {name: row for name, row in rows.items() if row["failures"] and name in self._watched.hops}
        for name in sorted({*waiting, *down}):
            its = down.get(name)
            yield Lane(
                name=name,
                waiting=waiting[name],
                oldest_at=oldest.get(name),
                down_since=its["since"] if its else None,
                said=(its["reply"] or "") if its else "",
            )


def _counts(
    connection: Connection, since: datetime, until: datetime
) -> tuple[dict[str, tuple[int, int]], Counter[str], Counter[str]]:
    came: dict[str, tuple[int, int]] = {}
    went: Counter[str] = Counter()
    kept_back: Counter[str] = Counter()
    for one in tallies.between(connection, since, until - COUNTED):
        if one.kind == "in":
            count, octets = came.get(one.what, (0, 0))
            came[one.what] = (count + one.count, octets + one.octets)
        elif one.kind == "out":
            went[one.what] += one.count
        elif one.kind == "kept":
            kept_back[one.what] += one.count
    return came, went, kept_back


def _states(connection: Connection) -> Counter[str]:
    states: Counter[str] = Counter()
    for row in queries.open_by_hop(connection):
        states[row["state"]] += row["messages"]
    return states


def _oldest(connection: Connection) -> Oldest | None:
    """Return what has waited longest; what is in quarantine does not count."""
    states = [state for state in ATTENTION if state != "quarantined"]
    first = [next(queries.queue(connection, Filter(state=state), limit=1), None) for state in states]
    row = min((row for row in first if row is not None), key=lambda row: row["opened_at"], default=None)
    if row is None:
        return None
    addresses = [one["address"] for one in row["recipients"]]
    return Oldest(
        id=row["id"],
        state=row["state"],
        opened_at=row["opened_at"],
        recipient=", ".join(addresses[:3])
        + (f" and {len(addresses) - 3} more" if len(addresses) > 3 else ""),
    )


def _hour(at: datetime) -> datetime:
    return at.replace(minute=0, second=0, microsecond=0)
