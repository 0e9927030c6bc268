"""What a poll has retrieved, on its way into the store, and from there to the worker.

It goes there under the poll's lease: who lost it, because the process was stopped for too long, adds nothing to what another
gateway has fetched meanwhile. What cancels a poll calls nothing back of what is on its way.
"""

from __future__ import annotations

import asyncio
from typing import Any

from engine.journal import Journal
from engine.shares import Shares
from engine.worker import Worker
from store.agenda import Lease
from store.life import Message
from store.log import Append, Unit


class Arriving:
    """The commits of one poll. `worker` None where another process works. For one event loop."""

    def __init__(self, journal: Journal, lease: Lease, *, worker: Worker | None, shares: Shares) -> None:
        self._journal = journal
        self._lease = lease
        self._worker = worker
        self._shares = shares
        self._commits: list[asyncio.Future[Any]] = []

    def add(self, append: Append, share: int) -> asyncio.Future[None]:
        """Have a message written, with its share of the budget; returns what is done when the store has answered."""
        lane = append.after.lane if isinstance(append.after, Message) else ""
        claim = self._worker.claim() if self._worker is not None and self._worker.lives.room(lane) else None
        durable = self._journal.append(Unit((append,), lease=self._lease, keep=True, claim=claim))
        self._commits.append(durable)
        durable.add_done_callback(lambda done: self._durable(done, append, share, claimed=claim is not None))
        return durable

    async def answered(self) -> None:
        """Wait until the store has answered for everything, whatever it says."""
        if self._commits:
            await asyncio.wait(self._commits)  # which cancels none of them where we are cancelled

    async def durable(self) -> None:
        """Wait until everything is durable. Raises the first failure, but not before all are answered."""
        await self.answered()
        for commit in self._commits:
            commit.result()

    def _durable(self, done: asyncio.Future[None], append: Append, share: int, *, claimed: bool) -> None:
        """Hand a message to the worker, now that it can't be lost; what it takes of the budget goes with it."""
        octets, message = append.octets, append.after
        failed = done.cancelled() or done.exception() is not None
        if not done.cancelled():  # else it is on its way still: what is written are the octets it has by then
            append.octets = None
        if (
            self._worker
            and claimed
            and not failed
            and isinstance(message, Message)
            and message.due_at
            and octets is not None
        ):
            self._worker.take(message, octets, share)
            return
        self._shares.pay_back(share)
        if self._worker is not None:
            if claimed and isinstance(message, Message):
                self._worker.lives.leave(message.lane)
            self._worker.wake()
