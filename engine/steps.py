"""Steps that go on by themselves, each to an end: whatever breaks one, its message does not stay in our hands.

One that stayed would be renewed for as long as we run, and nobody would work on it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from datetime import timedelta
from typing import Any

from engine.lives import Life, Lives
from engine.means import Means
from engine.settler import STORE_RETRY_SECONDS, Settler
from store.errors import Conflict, Damaged, LeaseLost, StoreError, UnknownEvent

BROKEN = timedelta(
    hours=1
)  # until a message is looked at again at which a step broke: another program may do better

logger = logging.getLogger("mailgate.worker")


class Steps:
    """Begins steps, and ends a life whose step did not. `wake` is called when the agenda has it back."""

    def __init__(self, means: Means, *, lives: Lives, settler: Settler, wake: Callable[[], None]) -> None:
        self._means = means
        self._lives = lives
        self._settler = settler
        self._wake = wake

    def begin(self, life: Life, step: Coroutine[Any, Any, None]) -> None:
        """Let a step go on by itself."""
        self._lives.spawn(self._through(life, step))

    def broke(self, life: Life, error: Exception) -> None:
        """A step broke: give the message back."""
        self._lives.spawn(self._given_up(life, error))

    async def _through(self, life: Life, step: Coroutine[Any, Any, None]) -> None:
        try:
            await step
        except Exception as error:  # noqa: BLE001 - a fault of ours, in one message, must not end the work on the others
            await self._given_up(life, error)

    async def _given_up(self, life: Life, error: Exception) -> None:
        if isinstance(error, StoreError) and not isinstance(error, UnknownEvent | Damaged):
            self._means.outage.say(error, life.message.id)
            await self._again(life, error)
        else:
            logger.error("%s: a step broke: %s", life.message.id, error, exc_info=error)
            await self._put_off(life)

    async def _again(self, life: Life, error: StoreError) -> None:
        """The store refused what had to be read, or on record, first: begin again, from what is on record then."""
        if not isinstance(error, Conflict | LeaseLost):
            await asyncio.sleep(STORE_RETRY_SECONDS)
        await self._settler.give_back(life.lease)
        self._lives.end(life)
        self._wake()

    async def _put_off(self, life: Life) -> None:
        if self._lives.holds(life.lease):  # else it was settled, and is due when its events say
            await self._settler.give_back(life.lease, self._means.now() + BROKEN)
        self._lives.end(life)
