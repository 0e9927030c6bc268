"""One scanner as the worker sees it: up, resting, or to be probed; and how many may ask it at once.

When the scanner as a whole is to blame it rests, longer each time; then one message probes it while the others
wait. Which message broke it, if one did, is told apart from that by asking first whether it is well.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from typing import Final, Literal, TypeVar

from engine.core.verdict import ScannerPolicy
from engine.ports import Answered, Mail, Scanner, ScannerTrouble

FIRST_REST: Final = timedelta(seconds=2)  # a scanner that is restarted comes back within seconds
LONGEST_REST: Final = timedelta(minutes=1)
BROKEN_IN_A_ROW: Final = (
    3  # messages at which it broke, and none between that it could scan: then it is the scanner
)

T = TypeVar("T")

Gate = Literal["open", "probe", "closed"]


class ScannerPost:
    """A scanner with its standing. `timeout_seconds` is for one question, waiting for a place aside. For one event loop."""

    def __init__(
        self,
        adapter: Scanner,
        policy: ScannerPolicy,
        *,
        connections: int,
        timeout_seconds: float,
        now: Callable[[], datetime],
    ) -> None:
        self.name = adapter.name
        self.policy = policy
        self.adapter = adapter
        self.places = asyncio.Semaphore(connections)
        self.failures = 0
        self.down_since: datetime | None = None
        self.probe_at: datetime | None = None
        self.trouble = ""
        self.probing = False
        self._broken = 0
        self._timeout_seconds = timeout_seconds
        self._now = now

    def gate(self) -> Gate:
        """Say whether it may be asked: about any message, about one, about none."""
        if self.failures == 0 or self.probe_at is None:
            return "open"
        if self.probing or self._now() < self.probe_at:
            return "closed"
        return "probe"

    async def ask(self, mail: Mail, *, suspect: bool) -> Answered:
        """Ask about one message. Raises ScannerTrouble, with the blame where it belongs.

        `suspect` says that it broke at this message before: then it must be well right before it gets it again.
        """
        probing = self.gate() == "probe"
        self.probing = self.probing or probing
        try:
            if suspect:
                await self._within(self.adapter.ping(), "scanner")
            answered = await self._within(self.adapter.scan(mail), "message")
        except ScannerTrouble as trouble:
            self._failed(trouble)
            raise
        finally:
            if probing:
                self.probing = False
        self._worked()
        return answered

    async def _within(self, asking: Awaitable[T], blame: Literal["scanner", "message"]) -> T:
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await asking
        except TimeoutError:
            raise ScannerTrouble(f"no answer within {self._timeout_seconds:g} s", blame) from None

    def _worked(self) -> None:
        self.failures = self._broken = 0
        self.probe_at = self.down_since = None

    def _failed(self, trouble: ScannerTrouble) -> None:
        """Take note of trouble; failures of one rest count once."""
        if trouble.blame == "message":
            self._broken += 1
            if self._broken < BROKEN_IN_A_ROW:
                return
        now = self._now()
        if self.probe_at is None or now >= self.probe_at:
            self.failures += 1
            self.probe_at = now + min(FIRST_REST * 2 ** min(self.failures - 1, 16), LONGEST_REST)
            self.down_since = self.down_since or now
        self.trouble = trouble.text
