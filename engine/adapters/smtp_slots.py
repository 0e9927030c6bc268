"""How many connections to one server there may be at once: fewer for a while, where it refuses one more beside others.

A server may allow a client fewer connections than the configuration does, and say so only when it is asked for one more. A
slot whose connection was refused so is held back, then given back by itself: the next one to take it asks again. So one
connection in so many seconds is asked for in vain for each slot too many, and never all slots are held back.
"""

from __future__ import annotations

import asyncio

HELD_BACK_SECONDS = 60.0


class Slots:
    """A number of slots to be taken and given back, some of them held back at times. For one event loop."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._free = asyncio.Semaphore(most)
        self._taken = 0
        self._held_back: list[asyncio.TimerHandle] = []  # the oldest first

    async def take(self) -> None:
        """Wait for a slot; whoever waits longest gets it."""
        await self._free.acquire()
        self._taken += 1

    def give(self) -> None:
        """Give a slot back."""
        self._taken -= 1
        self._free.release()

    def wanted(self) -> bool:
        """Whether somebody waits for one, or would have to."""
        return self._free.locked()

    def beside_others(self, idle: int) -> bool:
        """Whether whoever has a slot may do without: another one has one, or may take one and use what is idle."""
        return self._taken > 1 or (idle > 0 and len(self._held_back) + 1 < self._most)

    def hold_back(self) -> None:
        """Give a slot back, but not yet."""
        self._taken -= 1
        loop = asyncio.get_running_loop()
        self._held_back.append(loop.call_later(HELD_BACK_SECONDS, self._release_oldest))

    def release_all(self) -> None:
        """Hold nothing back any more: it was not their number."""
        while self._held_back:
            self._held_back[0].cancel()
            self._release_oldest()

    def _release_oldest(self) -> None:
        del self._held_back[0]
        self._free.release()
