"""How many octets of mail may be in memory at once; who wants more waits.

First come, first served, so that a large message is not starved by small ones. A message larger than the whole
budget is let in alone.
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

    async def take(self, octets: int) -> int:
        """Wait until there is room; returns what to `give_back`."""
        share = min(octets * COPIES if octets > LARGE_OCTETS else octets, self.total_octets)
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

    def _admit(self) -> None:
        while self._waiting and self.used_octets + self._waiting[0][0] <= self.total_octets:
            share, turn = self._waiting.popleft()
            if not turn.done():
                self.used_octets += share
                turn.set_result(None)
