"""Who comes first when there is work for both: taking new mail, or handing it on.

A client waits for each answer, a message that is kept waits for nobody: so a burst is taken at the speed of the store, and
handed on behind it. Only a burst: mail that keeps coming shares the work evenly with what goes out.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

CLIENTS: Final = 3  # that wait for their message to be kept: fewer leave time enough for both
QUIET_SECONDS: Final = 0.05  # without so many, and the burst is over
BURST_SECONDS: Final = 2.0  # at most, and so the longest that a message waits for other messages to come in


class Precedence:
    """Lets arrivals go before attempts for the length of a burst; `freed` is called at its end. For one event loop."""

    def __init__(self, freed: Callable[[], None]) -> None:
        self._freed = freed
        self._loop = asyncio.get_running_loop()
        self._free = asyncio.Event()
        self._free.set()
        self._begun_at = 0.0
        self._pressed_at = 0.0  # when so many were last seen waiting
        self._timer: asyncio.TimerHandle | None = None  # while they press, be it in a burst or beyond
        self._ended = False

    def note(self, waiting: int) -> None:
        """Take note of how many clients wait for their message to be kept."""
        if waiting < CLIENTS or self._ended:
            return
        self._pressed_at = self._loop.time()
        if self._timer is None:
            self._begun_at = self._pressed_at
            self._free.clear()
            self._look_later()

    @property
    def free(self) -> bool:
        """Whether mail may be handed on now."""
        return self._free.is_set()

    async def turn(self) -> None:
        """Wait until mail may be handed on."""
        if not self._free.is_set():
            await self._free.wait()

    def end(self) -> None:
        """From now on nothing goes first."""
        self._ended = True
        self._let()

    def _look_later(self) -> None:
        self._timer = self._loop.call_later(QUIET_SECONDS / 2, self._look)

    def _look(self) -> None:
        """Look now and then, not at each message, whether the burst is over."""
        now = self._loop.time()
        if now - self._pressed_at >= QUIET_SECONDS:
            self._timer = None
            self._let()
            return
        if now - self._begun_at >= BURST_SECONDS:
            self._let()  # and there is no other burst as long as this goes on
        self._look_later()

    def _let(self) -> None:
        if not self._free.is_set():
            self._free.set()
            self._freed()
