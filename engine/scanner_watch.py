"""The postmaster hears once when a scanner is down, after a minute, and once when it is up again.

What was told is looked up in the log, so that a restart in the middle tells nobody twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Final

from engine.core import scanner_report
from engine.core.scanner_report import Standing
from engine.means import Means
from engine.scanner_standing import ScannerStanding
from engine.telling import Teller, begins, ends
from store import scan_outages, told
from store.errors import StoreError
from store.told import Told

LOOK_EVERY_SECONDS: Final = 5.0
PATIENCE: Final = timedelta(minutes=1)  # a reload of signatures takes less, and tells nobody


class ScannerWatch:
    """Looks after all scanners. For one event loop; run `run` as a task."""

    def __init__(self, means: Means, posts: Mapping[str, ScannerStanding], *, teller: Teller) -> None:
        self._means = means
        self._posts = posts
        self._teller = teller
        self._well: set[str] = set()  # scanners that were so when we last looked

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while self._posts:
            try:
                await self.look()
            except StoreError as error:
                self._means.outage.say(error, "scanners")
            await asyncio.sleep(LOOK_EVERY_SECONDS)

    async def look(self) -> bool:
        """Tell what is to be told now; says whether there was anything. Raises StoreError."""
        if not self._posts:
            return False
        news = False
        known: dict[str, Told] = await self._means.read(partial(told.of, what="scanner"))
        for post in self._posts.values():
            before = known.get(post.name)
            if post.failures:
                self._well.discard(post.name)
                news = (begins(before) and await self._fell(post)) or news
            elif post.answered and post.name not in self._well:
                # Of one that stays well here it is another gateway that tells: each may have a scanner of its own.
                if before is not None and before.trouble:
                    news = await self._rose(post, before) or news
                self._well.add(post.name)
        return news

    async def _fell(self, post: ScannerStanding) -> bool:
        waiters = await self._means.read(partial(scan_outages.waiters, scanner=post.name))
        about = waiters.longest or post.broke_at
        since = await self._since(post, about)
        if self._means.now() - since < PATIENCE:
            return False
        standing = Standing(scanner=post.policy, since=since, said=post.trouble, waiting=waiters.count)
        write = partial(scanner_report.down, standing, self._means.policy)
        return await self._teller.tell("scanner-down", post.name, write, begins, about)

    async def _rose(self, post: ScannerStanding, before: Told) -> bool:
        waiters = await self._means.read(partial(scan_outages.waiters, scanner=post.name))
        since, _ = await self._means.read(
            partial(scan_outages.outage, message=before.about, scanner=post.name)
        )
        standing = Standing(
            scanner=post.policy, since=since or before.at, said=post.trouble, waiting=waiters.count
        )
        write = partial(scanner_report.up, standing, self._means.policy)
        return await self._teller.tell("scanner-up", post.name, write, ends, before.about)

    async def _since(self, post: ScannerStanding, about: str) -> datetime:
        """Since when it is down: we may have been started later than that."""
        known = post.down_since or self._means.now()
        _, still = await self._means.read(partial(scan_outages.outage, message=about, scanner=post.name))
        return known if still is None else min(known, still)
