"""Whoever sent what waits for a scanner for long is told, once, as of any other delay.

While a scanner is down nothing happens to the messages that wait for it, so nothing else would call for a report. What was told
is on record on the message, in one unit with the report.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any, Final

from sqlalchemy import Connection

from engine import intake
from engine.core import dsn
from engine.core.owed import late
from engine.means import Means
from engine.notices import ORIGINAL_OCTETS
from engine.opening import new_id
from store import contents, log, scan_outages
from store.errors import Conflict, Damaged, StoreError, UnknownEvent
from store.life import Message
from store.log import Append, Unit

LOOK_EVERY_SECONDS: Final = 60.0
READ: Final = 200  # messages looked at, by one query


class LateSenders:
    """Tells them. `told` is called when a report went into the log. For one event loop; run `run` as a task."""

    def __init__(self, means: Means, *, told: Callable[[], None]) -> None:
        self._means = means
        self._told = told

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while self._means.policy.scanners:
            try:
                await self.look()
            except StoreError as error:
                self._means.outage.say(error, "delays")
            await asyncio.sleep(LOOK_EVERY_SECONDS)

    async def look(self) -> int:
        """Tell who is to be told now; returns how many were. Raises StoreError."""
        done, after, before = 0, "", self._means.now() - self._means.policy.warn_after
        while True:
            some: list[str] = await self._means.read(
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
        unit: Unit | None = await self._means.read(partial(self._unit, stream=stream))
        if unit is None:
            return False
        try:
            await self._means.journal.append(unit)
        except Conflict:  # it goes on, or another gateway told it
            return False
        return True

    def _unit(self, connection: Connection, stream: str) -> Unit | None:
        """Return the report and what says on the message that it was sent; None where none is owed."""
        try:
            message = log.message(connection, stream)
        except (Damaged, UnknownEvent):  # who works on it says so
            return None
        now = self._means.now()
        fates = None if message is None else late(message, self._means.policy, now).get("delay")
        if message is None or not fates:
            return None
        return self._reporting(message, contents.beginning(connection, message, ORIGINAL_OCTETS), fates, now)

    def _reporting(self, message: Message, original: bytes | None, fates: Any, now: datetime) -> Unit:
        written = dsn.write(
            "delay",
            message,
            fates,
            original or b"",
            policy=self._means.policy,
            notice_id=new_id(now),
            now=now,
        )
        opened, reported = intake.notice("delay", message, written, now)
        return Unit((Append(message.id, message, (reported,), now), opened))
