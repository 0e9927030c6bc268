"""An append that must stand before a step goes on.

A mailbox may let go of a message while it is on its way to its next hop. That changes nothing for the step: the append is
done again behind it, and neither a verdict nor an attempt is lost.
"""

from __future__ import annotations

import asyncio
from functools import partial

from msgspec.structs import replace

from engine.means import Means
from store import log
from store.agenda import Lease
from store.errors import Conflict
from store.life import Message
from store.log import Append, Unit


class OnRecord:
    """An append on its way to the log, under a lease that is kept."""

    def __init__(self, means: Means, append: Append, lease: Lease) -> None:
        self._means = means
        self._append = append
        self._lease = lease
        self._waiter = self._submitted()

    async def stands(self) -> Append:
        """Wait until it is durable, and return it as it stands. Raises StoreError."""
        while True:
            await self.over()
            try:
                self._waiter.result()
            except Conflict:
                moved: Message | None = await self._means.read(
                    partial(log.message, stream=self._append.stream)
                )
                if not _only_removed(self._append.before, moved):
                    raise
                self._append = Append(self._append.stream, moved, self._append.events, self._append.at)
                self._waiter = self._submitted()
            else:
                return self._append

    async def over(self) -> None:
        """Wait until the store has answered, whatever it says."""
        if not self._waiter.done():
            await asyncio.wait([self._waiter])

    def _submitted(self) -> asyncio.Future[None]:
        return self._means.journal.append(Unit((self._append,), lease=self._lease, keep=True))


def _only_removed(before: object, moved: Message | None) -> bool:
    """Whether all that happened to a message meanwhile is that it left its mailbox."""
    if moved is None or not isinstance(before, Message):
        return False
    return moved == replace(
        before, revision=moved.revision, changed_at=moved.changed_at, removed=moved.removed
    )
