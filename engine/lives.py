"""The messages in our hands: how many there may be, and what memory each may take.

Half of the memory is left to what is being fetched, and each next hop has its share of the lives: a slow one fills
no more, and delays neither the mailboxes nor another. The domains of direct delivery have one share together, of which
each may take a part of what the others leave: however many of them are slow, there is room for one more.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from engine.budget import OctetBudget
from engine.core import direct
from engine.hops import Hops
from engine.ports import Octets
from store.agenda import Lease
from store.events import MessageEvent
from store.life import Message, evolve

LIVES_LIMIT = 4_096  # messages worked on at once; each is some kilobytes without its octets
DOMAIN_PARTS = 8  # of what one domain takes of the share for direct delivery, and what is left of it

logger = logging.getLogger("mailgate.worker")


@dataclass(slots=True)
class Life:
    """A message in our hands."""

    message: Message
    lease: Lease
    octets: Octets | None = None
    share: int = 0  # of the budget
    domain: str = ""  # the next hop that it was given to, where that is one of direct delivery
    unbound: bool = False  # it came from nobody's lane: it waits for several next hops, or for none yet
    pending: tuple[MessageEvent, ...] = ()  # verdicts, to go on record with whatever comes next
    seen: Message | None = None  # the message with these, where there are any

    @property
    def known(self) -> Message:
        """The message with all we know of it, on record or not."""
        return self.seen or self.message

    def learn(self, events: Sequence[MessageEvent], at: datetime) -> None:
        """Take note of verdicts; they go on record with the next event, before anything is handed over."""
        seen = self.known
        for event in events:
            seen = evolve(seen, seen.id, event, at)
        self.pending, self.seen = (*self.pending, *events), seen

    def moved(self, message: Message) -> None:
        """All that was pending is on record now, and this is the message."""
        self.message, self.pending, self.seen = message, (), None


class Lives:
    """Messages from their claim to their end here, and the steps under way with them. For one event loop."""

    def __init__(self, hops: Hops, budget: OctetBudget) -> None:
        self._hops = hops
        self._budget = budget
        self._lives: dict[str, Life] = {}
        self._coming: Counter[str] = (
            Counter()
        )  # by next hop: on their way through the journal or the scanners
        self._given: Counter[str] = Counter()  # by next hop, of direct delivery only
        self._unbound = 0
        self._scanned = 0  # of those that come: in our hands already, and with the scanners
        self._direct = 0  # given or coming, in all of direct delivery
        self._tasks: set[asyncio.Task[None]] = set()
        self.draining = False  # then there is no room for more
        self.begun = 0  # how many there have been

    @property
    def busy(self) -> bool:
        """Whether anything is in our hands or under way."""
        return bool(self._lives or self._tasks)

    @property
    def left(self) -> int:
        """How many more there may be."""
        return LIVES_LIMIT - len(self._lives)

    @property
    def left_to_scan(self) -> int:
        """How many more may be taken up for a scanner: half of the lives are left to what waits for none."""
        return LIVES_LIMIT // 2 - self._scanned

    def share(self) -> int:
        """How many lives may wait for one next hop; one share is left for what has none yet."""
        return LIVES_LIMIT // (1 + self._hops.shares)

    def places(self, next_hop: str) -> int:
        """How many more lives may wait for a next hop, "" for several or none yet; not more than 0 for none."""
        if direct.is_direct(next_hop):
            own = self._given[next_hop] + self._coming[next_hop]
            left = self.share() - self._direct
            return max((left + own) // DOMAIN_PARTS - own, 0 if own else 1)
        hop = self._hops.get(next_hop)
        waiting = 0 if hop is None else hop.queue.qsize()
        if not next_hop:
            waiting = self._unbound
        return self.share() - waiting - self._coming[next_hop]

    def room(self, next_hop: str) -> bool:
        """Whether a message that comes in for a next hop may stay in memory; its place is kept until `leave`.

        Half of the budget is left to what is being fetched: fetching never waits for a slow next hop. And each next
        hop has its share of the lives: a slow one fills no more.
        """
        if self.draining or len(self._lives) + self._coming.total() - self._scanned >= LIVES_LIMIT:
            return False
        hop = self._hops.get(next_hop)
        if hop is None and not self._hops.knows(next_hop):
            return False
        if (hop is not None and hop.gate() != "open") or self.places(next_hop) <= 0:
            return False
        if self._budget.used_octets > self._budget.total_octets // 2:
            return False
        self.come(next_hop)
        return True

    def come(self, next_hop: str) -> None:
        """A message is on its way to a next hop, until `leave`: it keeps a place there."""
        self._coming[next_hop] += 1
        self._direct += direct.is_direct(next_hop)

    def scan(self, next_hop: str) -> None:
        """A message in our hands goes to the scanners, until `scanned`: it keeps a place at its next hop."""
        self.come(next_hop)
        self._scanned += 1

    def scanned(self, next_hop: str) -> None:
        """A message is back from the scanners."""
        self.leave(next_hop)
        self._scanned -= 1

    def leave(self, next_hop: str) -> None:
        """A message for which there was room is in our hands now, or does not come after all."""
        _count_down(self._coming, next_hop)
        self._direct -= direct.is_direct(next_hop)

    def leases(self) -> list[Lease]:
        """Return the leases of all that is in our hands."""
        return [life.lease for life in self._lives.values()]

    def holds(self, lease: Lease) -> bool:
        """Whether a message is in our hands by this very lease; any thread may ask."""
        life = self._lives.get(lease.stream)
        return life is not None and life.lease == lease

    def begin(self, life: Life) -> None:
        """Take a message into our hands."""
        self._lives[life.message.id] = life
        life.unbound = not life.message.lane
        self._unbound += life.unbound
        self.begun += 1

    def give(self, life: Life, domain: str) -> None:
        """A message waits for a next hop of direct delivery, until its end here."""
        self._given[domain] += 1
        self._direct += 1
        life.domain = domain

    def end(self, life: Life) -> None:
        """Let go of a message's octets and of the message."""
        if self._lives.get(life.message.id) is life:
            del self._lives[life.message.id]
        if life.share:
            self._budget.give_back(life.share)
            life.share = 0
        self._unbound -= life.unbound
        life.unbound = False
        if life.domain:
            _count_down(self._given, life.domain)
            self._direct -= 1
            life.domain = ""
        life.octets = None

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Let a step go on by itself; a fault in it is logged."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("a step broke: %s", error, exc_info=error)


def _count_down(counts: Counter[str], name: str) -> None:
    """Count one less, and keep no nothings: there may be any number of names."""
    counts[name] -= 1
    if not counts[name]:
        del counts[name]
