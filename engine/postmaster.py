"""All that the postmaster is told of the gateway itself: scanners, mailboxes, next hops, disk and store; and each day.

And what senders are told whom it keeps waiting.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from pathlib import Path

from engine.daily import Daily
from engine.late_senders import LateSenders
from engine.means import Means
from engine.scanner_standing import ScannerStanding
from engine.scanner_watch import ScannerWatch
from engine.settings import Settings
from engine.telling import Teller
from engine.trouble_watch import TroubleWatch
from engine.wiring import watched_of


class Postmaster:
    """Looks after all of it. `file` is the store, where it is one. For one event loop."""

    def __init__(
        self,
        means: Means,
        settings: Settings,
        *,
        posts: Mapping[str, ScannerStanding],
        told: Callable[[], None],
        file: Path | None,
    ) -> None:
        teller = Teller(means, told)
        watched = watched_of(settings, file)
        self._scanners = ScannerWatch(means, posts, teller=teller)
        self._trouble = TroubleWatch(means, watched, teller=teller)
        self._late = LateSenders(means, told=told)
        self._daily = Daily(means, watched, teller=teller, at_seconds=settings.gateway.daily_report_at)

    def start(self, group: asyncio.TaskGroup) -> None:
        """Look after it until cancelled."""
        group.create_task(self._scanners.run(), name="scanners")
        group.create_task(self._trouble.run(), name="trouble")
        group.create_task(self._daily.run(), name="daily report")
        group.create_task(self._late.run(), name="delays")

    async def look(self, *, polled: bool) -> bool:
        """Tell what is to be told after a single round; `polled`: of mailboxes, too. Says whether there was anything."""
        return any(
            [
                await self._scanners.look(),
                await self._trouble.look(settled=polled),
                await self._daily.send(),
                await self._late.look(),
            ]
        )
