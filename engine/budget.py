"""How many octets of mail may be in memory at once; who wants more waits.

What counts is what has arrived, never what a server claims: a small first portion is taken before a message is asked
for, and when its reply outgrows what was granted, nothing is read until more is. Three kinds wait:

- *small*: no share yet, and no more wanted than SMALL_OCTETS. First come, first served. They may use what is free
  while nobody else waits, and half of the budget always: large mail never holds up small mail.
- *large*: who wants a large share and has none, or a small one; be it a reply that grows or a message that is read back
  from the store. First come, first served, in the other half: neither is starved by the other.
- *growing*: who has a large share already. They go before the large, for only their end makes room.

Messages that are collected side by side can use up their half and then all wait for more, none coming to its end. So
who grows is granted more as soon as all the *others* together are within the half, and within the budget; and where
no share is large, somebody may have one as soon as all others are within the budget. Thereby the budget is overdrawn,
but never by more than the share that was granted last: without it all was within bounds, and since then others only
gave back. That is what makes it bounded, and what makes it end:

- At no time is more used than the budget and one message. A message larger than the whole budget gets through in this
  way, and no other large one begins beside it.
- Who waits for nothing comes to an end, by itself or by its time-outs. Who waits while something is overdrawn may go
  on if it has the share that was granted last, for that is at least what is overdrawn; so that one never waits, it
  ends, and then nothing is overdrawn. While nothing is overdrawn, any that grows may go on, else the first large one
  if no share is large, else whoever has the large shares waits for nothing. And small ones wait only for those.

Copies are another matter. A database driver holds a large message twice more while it writes it, but the journal
writes one at a time: whatever comes together, that is two copies of one message, beside the budget. Messages that are
read back are read side by side, so that there the copies count, see `while_read`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from dataclasses import dataclass

from engine.ports import FIRST_OCTETS

RECORD_OCTETS = 4 << 10  # what a message costs beside its octets: facts, events, its place in every queue
SMALL_OCTETS = FIRST_OCTETS + RECORD_OCTETS
LARGE_OCTETS = 1 << 20
COPIES = 3  # of a large message while a database driver reads it; small ones come and go too fast


def while_read(octets: int) -> int:
    """Return how much a message takes while it is read back from the store."""
    return octets * COPIES if octets > LARGE_OCTETS else octets


@dataclass(slots=True, eq=False)
class _Turn:
    """Somebody waits to have `octets` in all instead of `share`."""

    octets: int
    share: int
    granted: asyncio.Future[None]


class OctetBudget:
    """A budget of octets, shared by all that holds mail in memory. For one event loop."""

    def __init__(self, total_octets: int) -> None:
        self.total_octets = total_octets
        self.used_octets = 0
        self._large_octets = 0  # of the used ones, in large shares
        self._half_octets = total_octets // 2
        self._small_octets = min(SMALL_OCTETS, total_octets // 8)  # a larger share is a large one
        self._waiting = 0
        self._growing: deque[_Turn] = deque()
        self._large: deque[_Turn] = deque()
        self._small: deque[_Turn] = deque()

    async def take(self, octets: int) -> int:
        """Wait until there is room; returns what to `give_back`."""
        used_octets = self.used_octets + octets
        if not self._waiting and used_octets <= self.total_octets and octets <= self._small_octets:
            self.used_octets = used_octets  # nearly always: small mail, and room for it
            return octets
        return await self._turn(octets, 0)

    async def grow(self, share: int, octets: int) -> int:
        """Wait until there is room for so many octets in all, in place of a share; returns the new share.

        Given up, the share stays as it was.
        """
        return share if octets <= share else await self._turn(octets, share)

    def settle(self, share: int, octets: int) -> int:
        """Make a share what is here by now, without waiting; returns the new share."""
        self._change(share, octets)
        if octets < share and self._waiting:
            self._admit()
        return octets

    def give_back(self, share: int) -> None:
        """Give back what was taken."""
        self.used_octets -= share
        if share > self._small_octets:
            self._large_octets -= share
        if self._waiting:
            self._admit()

    @property
    def overdrawn(self) -> bool:
        """Whether more is used than there is."""
        return self.used_octets > self.total_octets

    async def _turn(self, octets: int, share: int) -> int:
        turn = _Turn(octets, share, asyncio.get_running_loop().create_future())
        queue = self._queue(turn)
        queue.append(turn)
        self._waiting += 1
        self._admit()
        try:
            await turn.granted
        except asyncio.CancelledError:
            if turn.granted.done() and not turn.granted.cancelled():
                self.settle(octets, share)
            else:
                with suppress(ValueError):  # it was our turn in the same moment: already out of the queue
                    queue.remove(turn)
                    self._waiting -= 1
                self._admit()
            raise
        return octets

    def _queue(self, turn: _Turn) -> deque[_Turn]:
        if turn.share > self._small_octets:
            return self._growing
        return self._large if turn.share or turn.octets > self._small_octets else self._small

    def _admit(self) -> None:
        """Let go on who may. Who grows isn't kept back by another that can't: it may be the one to end first."""
        for turn in tuple(self._growing):
            if self._may_grow(turn):
                self._growing.remove(turn)
                self._grant(turn)
        while self._large and not self._growing and self._may_be_large(self._large[0]):
            self._grant(self._large.popleft())
        if self._large and not self._large_octets:
            self._admit_first_large()
        while self._small and self._may_be_small(self._small[0]):
            self._grant(self._small.popleft())

    def _may_grow(self, turn: _Turn) -> bool:
        return (
            self._large_octets - turn.share <= self._half_octets
            and self.used_octets - turn.share <= self.total_octets
        )

    def _may_be_large(self, turn: _Turn) -> bool:
        return (
            self._large_octets + turn.octets <= self._half_octets
            and self.used_octets + turn.octets - turn.share <= self.total_octets
        )

    def _admit_first_large(self) -> None:
        """No share is large: one may become so in any case, for the small ones may wait for nothing else."""
        for turn in self._large:
            if self.used_octets - turn.share <= self.total_octets:
                self._large.remove(turn)
                self._grant(turn)
                return

    def _may_be_small(self, turn: _Turn) -> bool:
        more_octets = turn.octets - turn.share
        if self.used_octets - self._large_octets + more_octets <= self._half_octets:
            return True
        return not self._growing and not self._large and self.used_octets + more_octets <= self.total_octets

    def _grant(self, turn: _Turn) -> None:
        self._waiting -= 1
        if not turn.granted.done():  # else it has been given up meanwhile
            self._change(turn.share, turn.octets)
            turn.granted.set_result(None)

    def _change(self, share: int, octets: int) -> None:
        self.used_octets += octets - share
        if share > self._small_octets:
            self._large_octets -= share
        if octets > self._small_octets:
            self._large_octets += octets
