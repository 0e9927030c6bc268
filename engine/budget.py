"""How many octets of mail may be in memory at once; who wants more waits.

First come, first served, so that a large message is not starved by small ones. A message larger than the whole
budget is let in alone. What comes in by SMTP grows as it comes (`Holding`): its size is not known before.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress

LARGE_OCTETS = 1 << 20
COPIES = 3  # of a large message while a database driver has it in hand; small ones come and go too fast


class OctetBudget:
    """A budget of octets, shared by all that holds mail in memory. For one event loop."""

    def __init__(self, total_octets: int) -> None:
        self.total_octets = total_octets
        self.used_octets = 0
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()
        self._growing: deque[tuple[Holding, int, asyncio.Future[None]]] = deque()
        self._beyond: Holding | None = None  # who may go over the budget, so that somebody comes to an end

    async def take(self, octets: int) -> int:
        """Wait until there is room; returns what to `give_back`."""
        share = min(cost(octets), self.total_octets)
        if not self._waiting and self.used_octets + share <= self.total_octets:
            self.used_octets += share
            return share
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append((share, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give_back(share)
            else:
                with suppress(
                    ValueError
                ):  # given up in the same moment as it was our turn: already out of the queue
                    self._waiting.remove((share, turn))
                self._admit()
            raise
        return share

    def give_back(self, share: int) -> None:
        """Give back what was taken."""
        self.used_octets -= share
        self._admit()

    async def grow(self, holding: Holding, octets: int) -> None:
        """Wait until so many more fit: before all who hold nothing yet, and over the budget where nobody else is over it."""
        if not self._let_grow(holding, octets):
            turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._growing.append((holding, octets, turn))
            await turn

    def leave(self, holding: Holding) -> None:
        """A holding has come to its end, or is given back as a whole."""
        self._growing = deque(waiting for waiting in self._growing if waiting[0] is not holding)
        if self._beyond is holding:
            self._beyond = None
        self._admit()

    def _let_grow(self, holding: Holding, octets: int) -> bool:
        if self.used_octets + octets > self.total_octets:
            if self._beyond not in (None, holding):
                return False
            self._beyond = holding
        self.used_octets += octets
        holding.octets += octets
        return True

    def _admit(self) -> None:
        while self._growing:
            holding, octets, turn = self._growing[0]
            if not turn.done() and not self._let_grow(holding, octets):
                break
            self._growing.popleft()
            if not turn.done():
                turn.set_result(None)
        while self._waiting and self.used_octets + self._waiting[0][0] <= self.total_octets:
            share, turn = self._waiting.popleft()
            if not turn.done():
                self.used_octets += share
                turn.set_result(None)


class Holding:
    """What one message takes of the budget while it comes in and nobody knows how large it will be.

    Whoever waits to grow holds something that others wait for; so that not all wait for each other, one at a time goes
    over the budget.
    """

    __slots__ = ("_budget", "octets")

    def __init__(self, budget: OctetBudget) -> None:
        self.octets = 0
        self._budget = budget

    async def reach(self, octets: int) -> None:
        """Wait until it may hold so many."""
        if octets > self.octets:
            await self._budget.grow(self, octets - self.octets)

    def pass_on(self) -> int:
        """Return what to give back later: from now on that is somebody else's duty."""
        octets, self.octets = self.octets, 0
        self._budget.leave(self)
        return octets

    def release(self) -> None:
        """Give everything back. May be called again."""
        octets, self.octets = self.octets, 0
        self._budget.used_octets -= octets
        self._budget.leave(self)


def cost(octets: int) -> int:
    """What a message of so many octets takes of the budget until it is gone."""
    return octets * COPIES if octets > LARGE_OCTETS else octets
