"""Whoever sent what waits for a scanner for long is told, once, as of any other delay.

While a scanner is down nothing happens to the messages that wait for it, so nothing else would call for a report. What was told
is on record on the message, in one unit with the report.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime
from functools import partial
from typing import Any, Final

from sqlalchemy import Connection

from engine import intake
from engine.core import dsn
from engine.core.owed import late
from engine.core.policy import Policy
from engine.journal import Journal
from engine.notices import ORIGINAL_OCTETS
from engine.opening import new_id
from engine.outage import Outage
from store import contents, log, scan_outages
from store.errors import Conflict, Damaged, StoreError, UnknownEvent
from store.life import Message
from store.log import Append, Unit

LOOK_EVERY_SECONDS: Final = 60.0
READ: Final = 200  # messages looked at, by one query


class LateSenders:
    """Tells them. `told` is called when a report went into the log. For one event loop; run `run` as a task."""

    def __init__(
        self,
        *,
        journal: Journal,
        read: Callable[[Callable[[Connection], Any]], Awaitable[Any]],
        policy: Policy,
        outage: Outage,
        told: Callable[[], None],
        now: Callable[[], datetime],
    ) -> None:
        self._journal = journal
        self._read = read
        self._policy = policy
        self._outage = outage
        self._told = told
        self._now = now

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while self._policy.scanners:
            try:
                await self.look()
            except StoreError as error:
                self._outage.say(error, "delays")
            await asyncio.sleep(LOOK_EVERY_SECONDS)

    async def look(self) -> int:
        """Tell who is to be told now; returns how many were. Raises StoreError."""
        done, after, before = 0, "", self._now() - self._policy.warn_after
        while True:
            some: list[str] = await self._read(
                partial(scan_outages.untold, before=before, after=after, limit=READ)
            )
            for stream in some:
                done += await self._tell(stream)
            if len(some) < READ:
                break
            after = some[-1]
        if done:
            self._told()
        return done

    async def _tell(self, stream: str) -> bool:
        unit: Unit | None = await self._read(partial(self._unit, stream=stream))
        if unit is None:
            return False
        try:
            await self._journal.append(unit)
        except Conflict:  # it goes on, or another gateway told it
            return False
        return True

    def _unit(self, connection: Connection, stream: str) -> Unit | None:
        """Return the report and what says on the message that it was sent; None where none is owed."""
        try:
            message = log.message(connection, stream)
        except (Damaged, UnknownEvent):  # who works on it says so
            return None
        now = self._now()
        fates = None if message is None else late(message, self._policy, now).get("delay")
        if message is None or not fates:
            return None
        return self._reporting(message, contents.beginning(connection, message, ORIGINAL_OCTETS), fates, now)

    def _reporting(self, message: Message, original: bytes | None, fates: Any, now: datetime) -> Unit:
        written = dsn.write(
            "delay", message, fates, original or b"", policy=self._policy, notice_id=new_id(now), now=now
        )
        opened, reported = intake.notice("delay", message, written, now)
        return Unit((Append(message.id, message, (reported,), now), opened))
