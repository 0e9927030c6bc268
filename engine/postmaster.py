"""All that the postmaster is told of the gateway itself: scanners, mailboxes, next hops, disk and store; and each day.

And what senders are told whom it keeps waiting.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection

from engine.core.policy import Policy
from engine.daily import Daily
from engine.journal import Journal
from engine.late_senders import LateSenders
from engine.outage import Outage
from engine.scanner_standing import ScannerStanding
from engine.scanner_watch import ScannerWatch
from engine.settings import Settings
from engine.telling import Teller
from engine.trouble_watch import TroubleWatch
from engine.wiring import shortage


class Postmaster:
    """Looks after all of it. `file` is the store, where it is one. For one event loop."""

    def __init__(
        self,
        settings: Settings,
        *,
        posts: Mapping[str, ScannerStanding],
        journal: Journal,
        told: Callable[[], None],
        read: Callable[[Callable[[Connection], Any]], Awaitable[Any]],
        policy: Policy,
        outage: Outage,
        file: Path | None,
        now: Callable[[], datetime],
    ) -> None:
        teller = Teller(journal, told, now)
        mailboxes = tuple(mailbox.name for mailbox in settings.mailboxes)
        hops, short = tuple(settings.next_hops), shortage(settings, file)
        self._scanners = ScannerWatch(posts, teller=teller, read=read, policy=policy, outage=outage, now=now)
        self._trouble = TroubleWatch(
            teller=teller,
            read=read,
            mailboxes=mailboxes,
            hops=hops,
            shortage=short,
            policy=policy,
            outage=outage,
            now=now,
        )
        self._late = LateSenders(journal=journal, read=read, policy=policy, outage=outage, told=told, now=now)
        self._daily = Daily(
            teller=teller,
            read=read,
            mailboxes=mailboxes,
            hops=hops,
            shortage=short,
            policy=policy,
            at_seconds=settings.gateway.daily_report_at,
            outage=outage,
            now=now,
        )

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
