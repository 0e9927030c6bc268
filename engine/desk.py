"""Where the process that listens asks for memory and hands over messages: what it says becomes deeds, and those answers.

Owns the shares of the messages that are still coming in. What was handed over whole is kept, whether or not anybody is
left to hear of it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, assert_never

from engine.acceptance import Acceptance
from engine.adapters.listener_words import (
    Granted,
    Handed,
    Kept,
    Ready,
    Refused,
    Rejected,
    ToListener,
    Unable,
    Waiver,
    Wish,
    from_listener,
)
from engine.budget import OctetBudget
from engine.opening import Rejection
from engine.ports import NotKept, Octets
from engine.shares import Share
from engine.wire.frames import FrameFault
from store.errors import StoreError

logger = logging.getLogger("mailgate.listen")


class Desk:
    """What one process that listens asks for and hands over, and our answers. For one event loop."""

    def __init__(
        self, acceptance: Acceptance, budget: OctetBudget, answer: Callable[[ToListener], None]
    ) -> None:
        self.ready: asyncio.Future[Ready | Unable | None] = (
            asyncio.get_running_loop().create_future()
        )  # None: lost
        self._acceptance = acceptance
        self._budget = budget
        self._answer = answer
        self._shares: dict[int, Share] = {}  # of messages that are still coming in, by their number
        self._wishes: dict[int, asyncio.Task[None]] = {}
        self._keeping: set[asyncio.Task[None]] = set()

    def hear(self, head: bytes, body: Octets) -> None:
        """Take one frame. Raises FrameFault, DecodeError."""
        word = from_listener(head)
        match word:
            case Handed():
                if len(body) != word.opening.submitted.size_octets:
                    raise FrameFault("a message of another size than was said")
                self._check_idle(word.number)
                self._wishes.pop(word.number, None)
                share = self._shares.pop(word.number, None) or Share(self._budget)
                self._begin(self._keep(word, body, share))
            case Wish():
                self._check_idle(word.number)
                share = self._shares.setdefault(word.number, Share(self._budget))
                self._wishes[word.number] = self._begin(self._grant(word, share))
            case Waiver():
                self._forget(word.number)
            case Rejected():
                self._begin(self._note(word.rejection))
            case Ready() | Unable():
                if not self.ready.done():
                    self.ready.set_result(word)
            case _:
                assert_never(word)

    def lost(self) -> None:
        """Nothing more comes: what is not whole by now is forgotten."""
        if not self.ready.done():
            self.ready.set_result(None)
        for number in tuple(self._shares):
            self._forget(number)

    async def cleared(self) -> None:
        """Wait until what came whole is kept, or refused."""
        if self._keeping:
            await asyncio.wait(self._keeping)

    def _begin(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.get_running_loop().create_task(work)
        self._keeping.add(task)
        task.add_done_callback(self._keeping.discard)
        return task

    def _check_idle(self, number: int) -> None:
        wish = self._wishes.get(number)
        if wish is not None and not wish.done():
            raise FrameFault("a message that waits for memory has more to say")

    async def _keep(self, handed: Handed, octets: Octets, share: Share) -> None:
        number = handed.number
        try:
            await self._acceptance.keep(handed.opening, octets, share)
        except NotKept as trouble:
            self._answer(Refused(number, str(trouble), trouble.full))
        except Exception as error:  # a fault of ours must end this message alone
            logger.exception("a message could not be kept")
            self._answer(Refused(number, f"an error in mailgate itself: {error}", full=False))
        else:
            self._answer(Kept(number))

    async def _note(self, rejection: Rejection) -> None:
        try:
            await self._acceptance.note(rejection)
        except StoreError as error:  # the client has its answer, and the mail; only the record lacks it
            logger.warning("a message refused for its size is not on record: %s", error)

    async def _grant(self, wish: Wish, share: Share) -> None:
        await share.reach(wish.octets)
        self._answer(Granted(wish.number, share.octets))

    def _forget(self, number: int) -> None:
        """A message does not come after all: what it has of the budget is free, what it waits for goes to others."""
        wish, share = self._wishes.pop(number, None), self._shares.pop(number, None)
        if share is None:
            return
        if wish is not None and not wish.done():
            wish.cancel()
            wish.add_done_callback(lambda _: share.release())  # not before the budget has forgotten it
        else:
            share.release()
