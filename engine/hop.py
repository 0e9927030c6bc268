"""One next hop as the worker sees it: up, resting, or to be probed; what it takes; who waits for it.

When the whole next hop is to blame, it rests, longer each time; then one message probes it while the others
stay where they are. What it was like is derived from the log at start, and kept here while we run.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any, Literal

from engine.core import direct
from engine.core.plan import Wait
from engine.core.policy import HopPolicy, Policy, backoff
from engine.ports import Greeting, NextHop, NextHopTrouble
from store.next_hop_rows import LEAST_LIMIT_OCTETS

GREETING_KEPT = timedelta(hours=1)  # how long EHLO SIZE is believed
GREETING_RETRY = timedelta(minutes=1)  # a next hop that did not answer is not asked at each poll
EVER = timedelta(days=36_500)
ATTEMPT_SECONDS = 1.0  # what an attempt is thought to take at a next hop that was not tried yet
GREETING_SECONDS = 10.0  # who asks has a POP3 session open, which a silent next hop must not hold up

Gate = Literal["open", "probe", "closed"]
_GATES: tuple[Gate, ...] = ("open", "probe", "closed")

logger = logging.getLogger("mailgate.worker")


class Hop:
    """A next hop with its adapter and its standing. For one event loop."""

    def __init__(
        self,
        adapter: NextHop,
        policy: HopPolicy,
        connections: int,
        now: Callable[[], datetime],
        longest: timedelta = EVER,
    ) -> None:
        self.name = adapter.name
        self.adapter = adapter
        self.connections = connections
        self.queue: asyncio.Queue[Any] = asyncio.Queue()
        self.failures = 0
        self.probe_at: datetime | None = None
        self.reply = ""
        self.probing = False
        self.under_way = 0  # attempts
        self.took_seconds = ATTEMPT_SECONDS  # the last attempt
        self.learnt_octets: int | None = None
        self._policy = policy
        self._now = now
        self._longest = longest  # that it ever rests
        self._offered_octets: int | None = None
        self._failed_at: datetime | None = None  # since we run
        self._said_down = False  # in the log, since we run
        self._greeted_at: datetime | None = None
        self._greeting = asyncio.Lock()

    def remember(self, row: dict[str, Any]) -> None:
        """Take over what the log says of it."""
        self.failures = row["failures"]
        self.probe_at = row["probe_at"]
        self.reply = row["reply"] or ""
        self.learnt_octets = row["size_limit_octets"]

    def gate(self, ordered_at: datetime | None = None) -> Gate:
        """Say whether it may be tried: by any message, by one, by none.

        By one that a person wanted to go on then also while it rests, unless it was found down since.
        """
        if self.failures == 0 or self.probe_at is None:
            return "open"
        if self.probing or (self._rests() and not self._news(ordered_at)):
            return "closed"
        return "probe"

    def _rests(self) -> bool:
        """Whether its time is still to come; one that is too far ahead was reckoned by a clock that has been set back since."""
        return self.probe_at is not None and self._now() < self.probe_at <= self._now() + self._longest

    def _news(self, ordered_at: datetime | None) -> bool:
        return ordered_at is not None and (self._failed_at is None or self._failed_at < ordered_at)

    def wait(self) -> Wait:
        """Tell how long a message would wait here: more where it rests, then where nobody is free, then where it is slow."""
        ahead = self.under_way + self.queue.qsize()
        busy = ahead >= self.connections
        return _GATES.index(self.gate()) * 2 + busy, self.took_seconds * (1 + ahead // self.connections)

    def worked(self) -> None:
        """It answered for itself."""
        if self.failures and not direct.is_direct(self.name):
            logger.info("next hop %s is up again", self.name)
        self._said_down = False
        self.failures = 0
        self.probe_at = None

    def failed(self, policy: Policy, reply: str, jitter: float) -> datetime:
        """It as a whole is to blame; returns when it may be tried again. Failures of one rest count once."""
        now = self._failed_at = self._now()
        if self.probe_at is None or not self._rests():
            self.failures += 1
            self.probe_at = now + backoff(policy, self.failures, jitter)
        self.reply = reply
        if not self._said_down and not direct.is_direct(
            self.name
        ):  # of domains any number is down at any time
            logger.error(
                "next hop %s is down, tried again at %s: %s", self.name, _stamp(self.probe_at), reply
            )
        self._said_down = True
        return self.probe_at

    def learn(self, limit_octets: int) -> None:
        """It refused a message for its size; one that every server takes teaches nothing."""
        if limit_octets >= LEAST_LIMIT_OCTETS:
            self.learnt_octets = min(limit_octets, self.learnt_octets or limit_octets)

    async def limit_octets(self, *, anew: bool = False) -> int | None:
        """Return the largest message it takes, as far as anybody said; None where nobody did.

        The lowest of the configuration, EHLO SIZE (asked at most hourly) and what a refusal taught. With `anew` it is asked
        now; raises NextHopTrouble where it can't be.
        """
        async with self._greeting:
            if anew:
                await self._greet_now()
            else:
                await self._greet()
        configured = self._policy.max_size_octets
        # A limit in the configuration is the operator's word: it also undoes what an old refusal taught.
        said = (configured, self._offered_octets, None if configured is not None else self.learnt_octets)
        return min((octets for octets in said if octets is not None), default=None)

    def configured(self, limit_octets: int | None) -> bool:
        """Whether this limit is the configuration's own."""
        return limit_octets == self._policy.max_size_octets

    async def _greet(self) -> None:
        if self._greeted_at is not None and self._now() < self._greeted_at:
            return
        with suppress(NextHopTrouble):  # what it offered before still stands
            await self._greet_now()

    async def _greet_now(self) -> None:
        now = self._now()
        if self.gate() == "closed":
            raise NextHopTrouble(f"it is down: {self.reply}")
        self._greeted_at = now + GREETING_RETRY
        try:
            async with asyncio.timeout(GREETING_SECONDS):
                greeting: Greeting = await self.adapter.greet()
        except TimeoutError:
            raise NextHopTrouble(f"no greeting within {GREETING_SECONDS:g} s") from None
        self._offered_octets = greeting.size_octets
        self._greeted_at = now + GREETING_KEPT


def _stamp(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}"
