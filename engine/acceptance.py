"""Taking responsibility for what a client submitted: durable first, then handed to the worker from memory.

Where the store can't keep it, nothing of it stays. A store that went away in the middle of a commit may have it all the
same: so it is asked to keep it once more, under the same id, and says then that it has it already.
"""

from __future__ import annotations

import asyncio

from engine import intake
from engine.journal import Journal
from engine.opening import Opening, Rejection
from engine.outage import Refusals
from engine.ports import NotKept, Octets
from engine.settler import STORE_RETRY_SECONDS
from engine.shares import Share
from engine.worker import Worker
from store.errors import Conflict, StoreError, StoreFull, StoreUnreachable
from store.life import Message
from store.log import Append, Unit


class Acceptance:
    """The way in for what was submitted. `worker` None where another process works. For one event loop."""

    def __init__(self, *, journal: Journal, worker: Worker | None) -> None:
        self._journal = journal
        self._worker = worker
        self._waiting = 0  # clients, for an answer
        self._refusals = Refusals()

    async def keep(self, opening: Opening, octets: Octets, share: Share) -> None:
        """Make a message durable and give it to the worker. Raises NotKept. The share is given back in any case.

        To be let come to its end: what is on its way to the store can't be called back.
        """
        self._waiting += 1
        if self._worker is not None:
            self._worker.precedence.note(self._waiting)
        try:
            await share.settle(len(octets))
            append = intake.submitted(opening, octets)
            await self._claimed(append, octets, share)
            self._refusals.taken()
        except NotKept as trouble:
            self._refusals.refused(trouble)
            raise
        finally:
            self._waiting -= 1
            share.release()

    async def note(self, rejection: Rejection) -> None:
        """Put a message on record that was refused for its size. Raises StoreError."""
        await self._journal.append(Unit((intake.rejected(rejection),)))

    async def _claimed(self, append: Append, octets: Octets, share: Share) -> None:
        worker, message = self._worker, append.after
        assert isinstance(message, Message)
        if worker is None or not worker.lives.room(message.lane):
            await self._durable(Unit((append,)))
            append.octets = None
            if worker is not None:
                worker.wake()
            return
        try:
            await self._durable(Unit((append,), claim=worker.claim()))
        except BaseException:
            worker.lives.leave(message.lane)
            raise
        append.octets = None  # it can't be lost now; what it holds of the budget goes with it
        if message.due_at is not None:
            worker.take(message, octets, share.pass_on())
        else:
            worker.lives.leave(message.lane)
            worker.wake()

    async def _durable(self, unit: Unit) -> None:
        try:
            await self._journal.append(unit)
        except StoreFull as error:
            raise NotKept(str(error), full=True) from error
        except StoreUnreachable:
            await self._once_more(unit)
        except StoreError as error:
            raise NotKept(str(error), full=False) from error

    async def _once_more(self, unit: Unit) -> None:
        """Nobody knows whether it was committed. Its id is ours alone: a conflict means that it was."""
        await asyncio.sleep(STORE_RETRY_SECONDS)
        try:
            await self._journal.append(unit)
        except Conflict:
            return
        except StoreError as error:
            raise NotKept(str(error), full=isinstance(error, StoreFull)) from error
