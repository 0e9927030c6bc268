"""What this process holds is kept: renewed well before it runs out, messages and mailboxes alike.

Only what is in its hands. A commit of which the answer was lost may have left a lease in our name that nobody here knows of:
it runs out, and the stream is claimed like any other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable

from engine.means import Means
from engine.settler import STORE_RETRY_SECONDS
from store import agenda
from store.agenda import Claim, Lease
from store.errors import StoreError


class Leases:
    """Keeps what `held` says is in our hands. For one event loop; run `keep` as a task."""

    def __init__(self, means: Means, *, holder: str, held: Callable[[], Iterable[Lease]]) -> None:
        self._means = means
        self._holder = holder
        self._held = held

    async def keep(self) -> None:
        """Renew all of it in time, until cancelled."""
        while True:
            await asyncio.sleep(agenda.RENEW_EVERY.total_seconds())
            while not await self._renewed():
                await asyncio.sleep(STORE_RETRY_SECONDS)  # others see it as free once it has run out

    async def renew(self) -> None:
        """Renew all of it now. Raises StoreError."""
        held = list(self._held())
        until = self._means.now() + agenda.LEASE_TERM
        await self._means.journal.call(lambda c: agenda.renew(c, Claim(self._holder, until), held))

    async def _renewed(self) -> bool:
        try:
            await self.renew()
        except StoreError as error:
            self._means.outage.say(error, "leases")
            return False
        return True
