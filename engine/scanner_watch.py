"""The postmaster hears once when a scanner is down, after a minute, and once when it is up again.

What was told is looked up in the log, so that a restart in the middle tells nobody twice.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

from sqlalchemy import Connection

from engine import intake
from engine.core import scanner_report
from engine.core.policy import Policy
from engine.core.scanner_report import Standing
from engine.journal import Journal
from engine.opening import new_id
from engine.outage import Outage
from engine.scanner_standing import ScannerStanding
from store import scan_outages
from store.errors import StoreError
from store.events import Generated, ReportKind
from store.log import Append, Unit

LOOK_EVERY_SECONDS: Final = 5.0
PATIENCE: Final = timedelta(minutes=1)  # a reload of signatures takes less, and tells nobody


class ScannerWatch:
    """Looks after all scanners. For one event loop; run `run` as a task. `told` is called when a notice went into the log."""

    def __init__(
        self,
        posts: Mapping[str, ScannerStanding],
        *,
        journal: Journal,
        read: Callable[[Callable[[Connection], Any]], Awaitable[Any]],
        policy: Policy,
        outage: Outage,
        told: Callable[[], None],
        now: Callable[[], datetime],
    ) -> None:
        self._posts = posts
        self._journal = journal
        self._read = read
        self._policy = policy
        self._outage = outage
        self._told = told
        self._now = now
        self._down: set[str] | None = None  # of which it was told; None: not looked up yet

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while self._posts:
            try:
                await self.look()
            except StoreError as error:
                self._outage.say(error, "scanners")
            await asyncio.sleep(LOOK_EVERY_SECONDS)

    async def look(self) -> bool:
        """Tell what is to be told now; says whether there was anything. Raises StoreError."""
        if self._down is None:
            self._down = set(await self._known()) if self._posts else set()
        news = False
        for post in self._posts.values():
            if post.failures and post.name not in self._down:
                news = await self._fell(post) or news
            elif not post.failures and post.answered and post.name in self._down:
                news = await self._rose(post) or news
        return news

    async def _fell(self, post: ScannerStanding) -> bool:
        waiters = await self._read(partial(scan_outages.waiters, scanner=post.name))
        about = waiters.longest or post.broke_at
        since = await self._since(post, about)
        if self._now() - since < PATIENCE:
            return False
        if post.name in await self._known():  # another process of this gateway was quicker
            self._down = (self._down or set()) | {post.name}
            return False
        standing = Standing(scanner=post.policy, since=since, said=post.trouble, waiting=waiters.count)
        await self._tell("scanner-down", about, standing)
        self._down = (self._down or set()) | {post.name}
        return True

    async def _rose(self, post: ScannerStanding) -> bool:
        known = (await self._known()).get(post.name)
        self._down = (self._down or set()) - {post.name}
        if known is None:
            return False
        waiters = await self._read(partial(scan_outages.waiters, scanner=post.name))
        since, _ = await self._read(partial(scan_outages.outage, message=known.about, scanner=post.name))
        standing = Standing(
            scanner=post.policy, since=since or self._now(), said=post.trouble, waiting=waiters.count
        )
        await self._tell("scanner-up", known.about, standing)
        return True

    async def _since(self, post: ScannerStanding, about: str) -> datetime:
        """Since when it is down: we may have been started later than that."""
        known = post.down_since or self._now()
        _, still = await self._read(partial(scan_outages.outage, message=about, scanner=post.name))
        return known if still is None else min(known, still)

    async def _known(self) -> dict[str, Generated]:
        names = tuple(self._posts)
        found: dict[str, Generated] = await self._read(
            partial(scan_outages.told_down, scanners=names, now=self._now())
        )
        return found

    async def _tell(self, kind: ReportKind, about: str, standing: Standing) -> None:
        now = self._now()
        write = scanner_report.down if kind == "scanner-down" else scanner_report.up
        written = write(standing, self._policy, new_id(now), now)
        opened: Append = intake.generated(kind, about, written, now, standing.scanner.name)
        await self._journal.append(Unit((opened,)))
        self._told()
