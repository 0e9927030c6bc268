"""What is due and may be tried, claimed from the agenda lane by lane, so that a dead or slow next hop delays nobody else."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial

from sqlalchemy import Connection

from engine.core import direct
from engine.hops import Hops
from engine.lives import Life, Lives
from engine.means import Means
from engine.scanning import Scanning
from engine.settler import Settler
from store import agenda, log
from store.agenda import Claim, Lease
from store.errors import Damaged, StoreError, UnknownEvent
from store.life import Message
from store.message import SCAN_LANE, place_of

CLAIM_SIZE = 200  # at once from one lane: a few commits' worth
DOMAINS_AT_ONCE = 100  # lanes of direct delivery: the next look takes others
UNREADABLE = agenda.PUT_OFF  # until a message is looked at again whose events this program can't read
LONG_WAIT = timedelta(
    days=1
)  # at most, behind a next hop that rests: then the message is looked at, and given up in its time

logger = logging.getLogger("mailgate.worker")


class Due:
    """The way from the agenda into our hands. Not to be used by two tasks at once: each would see the same due."""

    def __init__(
        self,
        means: Means,
        *,
        hops: Hops,
        lives: Lives,
        settler: Settler,
        scanning: Scanning,
        claim: Callable[[], Claim],
        long_wait: timedelta,
    ) -> None:
        self._means = means
        self._hops = hops
        self._lives = lives
        self._settler = settler
        self._scanning = scanning
        self._claim = claim
        self._long_wait = long_wait

    async def claimed(self) -> list[Life]:
        """Claim what is due and may be tried, as far as there is room. Raises StoreError; nothing is kept then."""
        now = self._means.now()
        lanes = [lane for lane in await self._means.read(agenda.lanes) if lane != agenda.POLL]
        apart = [lane for lane in lanes if not direct.is_direct(place_of(lane))]
        wanted = [(lane, *self._capacity(lane, now)) for lane in apart]
        due = await self._means.read(
            lambda c: [w for w in wanted if w[1] > 0 and agenda.any_due(c, w[0], w[2])]
        )
        if len(wanted) < len(lanes):
            due += await self._directly(now)
        if not due:
            return []
        claim = self._claim()

        def take(connection: Connection) -> list[Lease]:
            # After an outage, or a step of the clock, what is just being handed over would look free to ourselves.
            agenda.keep(connection, claim, now, self._lives.holds)
            return [
                x for lane, size, until in due for x in agenda.claim(connection, lane, claim, until, size)
            ]

        leases: list[Lease] = await self._means.journal.call(take)
        try:
            messages = await self._messages([lease.stream for lease in leases])
        except StoreError:
            for lease in leases:
                self._lives.spawn(self._settler.give_back(lease))
            raise
        for lease in leases:
            if lease.stream not in messages:
                self._lives.spawn(self._settler.give_back(lease, now + UNREADABLE))
        return [Life(messages[lease.stream], lease) for lease in leases if lease.stream in messages]

    async def _directly(self, now: datetime) -> list[tuple[str, int, datetime]]:
        """Return from which lanes of direct delivery to claim, how many, due until when; there may be thousands."""
        lanes = [
            lane
            for lane in await self._means.read(lambda c: agenda.due_lanes(c, now))
            if direct.is_direct(place_of(lane))
        ]
        random.shuffle(lanes)  # while there is less room than mail, none comes first each time
        wanted = [(lane, *self._capacity(lane, now)) for lane in lanes]
        if any(until < now for _, _, until in wanted):  # behind domains that rest
            long = set(await self._means.read(lambda c: agenda.due_lanes(c, now - self._long_wait)))
            wanted = [w for w in wanted if w[2] == now or w[0] in long]
        found: list[tuple[str, int, datetime]] = []
        left = self._lives.left
        for lane, size, until in (w for w in wanted if w[1] > 0):
            if left <= 0 or len(found) == DOMAINS_AT_ONCE:
                break
            found.append((lane, min(size, left), until))
            left -= size
        return found

    async def _messages(self, streams: list[str]) -> dict[str, Message]:
        """Fold these messages; one that can't be read is left out, and keeps no other back."""
        with suppress(UnknownEvent, Damaged):
            found: dict[str, Message] = await self._means.read(lambda c: log.messages(c, streams))
            return found
        readable: dict[str, Message] = {}
        for stream in streams:
            try:
                readable |= await self._means.read(partial(log.messages, streams=[stream]))
            except (UnknownEvent, Damaged) as error:
                logger.error("%s: %s", stream, error)
        return readable

    def _capacity(self, lane: str, now: datetime) -> tuple[int, datetime]:
        """How many of a lane may be claimed, and due until when.

        Of a next hop that rests only what waits for long: its sender has to be told, or it may have to be given up; and what
        a person wants tried now.
        """
        room = min(CLAIM_SIZE, self._lives.left)
        if lane.startswith(SCAN_LANE):
            gate = self._scanning.gate(lane.removeprefix(SCAN_LANE))
            return min(room, {"open": self._lives.left_to_scan, "probe": 1, "closed": 0}[gate]), now
        place = place_of(lane)
        hop = self._hops.get(place)
        if hop is None:
            shared = not place or direct.is_direct(place)  # else a next hop that is no longer configured
            return min(room, self._lives.places(place)) if shared else room, now
        match hop.gate():
            case "open":
                return min(room, self._lives.places(place)), now
            case "probe":
                return min(room, 1), now
            case "closed" if lane != place:
                return 0 if hop.probing else room, now
            case "closed":
                return room, now - self._long_wait
