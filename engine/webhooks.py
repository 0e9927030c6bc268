"""All webhooks of a gateway: begun together, sent side by side, so that none waits for another."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from engine.means import Means
from engine.settings import WebhookSettings
from store import followers
from store.errors import StoreError

if TYPE_CHECKING:
    from engine.webhook import Webhook


class Webhooks:
    """Any number of them, none included. For one event loop; `begin` before anything happens, then run `run` as a task."""

    def __init__(self, means: Means, settings: Sequence[WebhookSettings], *, holder: str) -> None:
        self._means = means
        self._all: list[Webhook] = []
        if settings:
            from engine.webhook import Webhook  # and with it what a gateway without webhooks doesn't need

            self._all = [Webhook(means, one, holder=holder) for one in settings]

    async def begin(self) -> None:
        """Have all that happens from now on sent. Raises StoreError."""
        if self._all:
            names = [one.name for one in self._all]
            await self._means.journal.call(partial(followers.begin, names=names))

    async def run(self) -> None:
        """Send what comes, until cancelled."""
        await asyncio.gather(*(one.run() for one in self._all))

    async def send(self) -> None:
        """Send what there is now, each to the end of the log or to the first event that is not taken."""
        for outcome in await asyncio.gather(*(one.send() for one in self._all), return_exceptions=True):
            if isinstance(outcome, StoreError):
                self._means.outage.say(outcome, "webhooks")
            elif isinstance(outcome, BaseException):
                raise outcome

    async def close(self) -> None:
        """Close what is open."""
        for one in self._all:
            await one.close()
