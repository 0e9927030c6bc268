"""Taking responsibility for what a client submits: durable first, then handed to the worker from memory.

Where the store can't keep it, nothing of it stays. A store that went away in the middle of a commit may have it all the
same: so it is asked to keep it once more, under the same id, and says then that it has it already.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

from engine import intake
from engine.budget import OctetBudget
from engine.core.policy import Policy
from engine.journal import Journal
from engine.outage import Refusals
from engine.ports import Holding, NotKept, Octets, Submission
from engine.settler import STORE_RETRY_SECONDS
from engine.shares import Share
from engine.worker import Worker
from store.errors import Conflict, StoreError, StoreFull, StoreUnreachable
from store.life import Message
from store.log import Append, Unit

LOOK_SECONDS = 1.0  # how long what the file system said of its room is believed

logger = logging.getLogger("mailgate.listen")


class FreeSpace:
    """Whether there is room for new mail: the floor is what must stay free where the store is."""

    def __init__(self, folder: Path | None, floor: Callable[[int], int]) -> None:
        self._folder = folder  # None where the store is on a server: its room is not ours to see
        self._floor = floor
        self._looked_at: float | None = None
        self._enough = True

    def enough(self) -> bool:
        """Look, at most once a second; a change is said in the log."""
        now = time.monotonic()
        if self._looked_at is None or now - self._looked_at >= LOOK_SECONDS:
            self._looked_at = now
            shortage = shortage_of(self._folder, self._floor)
            if (shortage is None) != self._enough:
                self._enough = shortage is None
                if shortage is None:
                    logger.info("there is room again: new mail is taken")
                else:
                    logger.error("new mail is refused: %s", shortage)
        return self._enough


def shortage_of(folder: Path | None, floor: Callable[[int], int]) -> str | None:
    """Say how little is free in a folder, None where it is enough. `floor` says it for a file system's size, in octets."""
    if folder is None:
        return None
    try:
        usage = shutil.disk_usage(folder)
    except OSError:
        return None  # not for us to see: writing will tell
    wanted = floor(usage.total)
    if usage.free >= wanted:
        return None
    return f"{usage.free // 10**6} MB are free in {folder}, less than the {wanted // 10**6} MB of listen.free_space"


class Acceptance:
    """The listener's way in. `worker` None where another process works. For one event loop."""

    def __init__(
        self,
        *,
        journal: Journal,
        worker: Worker | None,
        budget: OctetBudget,
        policy: Policy,
        space: FreeSpace,
        now: Callable[[], datetime],
    ) -> None:
        self._journal = journal
        self._worker = worker
        self._budget = budget
        self._policy = policy
        self._space = space
        self._now = now
        self._refusals = Refusals()
        self._tasks: set[asyncio.Task[str]] = set()

    def has_room(self) -> bool:
        """Whether new mail is taken."""
        return self._space.enough()

    def holding(self) -> Holding:
        """What the next message will take of the budget."""
        return Share(self._budget)

    async def take(self, submission: Submission, octets: Octets, holding: Holding) -> str:
        """Make a message durable and give it to the worker; returns its id. Raises NotKept.

        Goes on to its end where the caller is cancelled: what is on its way to the store can't be called back.
        """
        if not self._space.enough():
            holding.release()
            raise NotKept("below the floor of free space", full=True)
        task = asyncio.create_task(self._take(submission, octets, holding))
        self._tasks.add(task)
        if self._worker is not None:
            self._worker.precedence.note(len(self._tasks))
        task.add_done_callback(self._done)
        return await asyncio.shield(task)

    def _done(self, task: asyncio.Task[str]) -> None:
        self._tasks.discard(task)
        if task.cancelled():
            return
        error = task.exception()  # said to the client, if it is still there
        if error is None:
            self._refusals.taken()
        elif isinstance(error, NotKept):
            self._refusals.refused(error)

    async def _take(self, submission: Submission, octets: Octets, holding: Holding) -> str:
        try:
            await holding.settle(len(octets))
            append = await intake.submitted(submission, octets, self._policy, self._now())
            message = append.after
            assert isinstance(message, Message)
            claimed = self._worker is not None and self._worker.lives.room(message.lane)
            try:
                await self._durable(
                    Unit((append,), claim=self._worker.claim() if claimed and self._worker else None)
                )
            except BaseException:
                if claimed and self._worker is not None:
                    self._worker.lives.leave(message.lane)
                raise
            self._hand_on(append, message, octets, holding, claimed=claimed)
            return append.stream
        finally:
            holding.release()

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

    def _hand_on(
        self, append: Append, message: Message, octets: Octets, holding: Holding, *, claimed: bool
    ) -> None:
        """Give a message to the worker, now that it can't be lost; what it holds of the budget goes with it."""
        append.octets = None
        if self._worker is None:
            return
        if claimed and message.due_at is not None:
            self._worker.take(message, octets, holding.pass_on())
            return
        if claimed:
            self._worker.lives.leave(message.lane)
        self._worker.wake()
