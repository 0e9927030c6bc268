"""How a scanner is: up, resting, or to be probed. What asks it keeps this, and whoever wants to know reads it."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final, Literal

from engine.core.verdict import ScannerPolicy
from engine.ports import ScannerTrouble

FIRST_REST: Final = timedelta(seconds=2)  # a scanner that is restarted comes back within seconds
LONGEST_REST: Final = timedelta(minutes=1)

Gate = Literal["open", "probe", "closed"]

logger = logging.getLogger("mailgate.scan")


class Resting(ScannerTrouble):
    """It was not asked: it is down."""


class ScannerStanding:
    """One scanner's standing. `told` is called whenever it changes. For one event loop."""

    def __init__(
        self,
        policy: ScannerPolicy,
        *,
        connections: int,
        now: Callable[[], datetime],
        told: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = policy.name
        self.policy = policy
        self.connections = connections
        self.failures = 0
        self.down_since: datetime | None = None
        self.probe_at: datetime | None = None
        self.trouble = ""
        self.broke_at = ""  # the message with which it was last found down
        self.answered = False  # since we run
        self.probing = False
        self.told = told
        self._now = now

    def gate(self) -> Gate:
        """Say whether it may be asked: about any message, about one, about none."""
        if self.failures == 0 or self.probe_at is None:
            return "open"
        if self.probing or self._rests():
            return "closed"
        return "probe"

    def _rests(self) -> bool:
        """Whether its time is still to come; one too far ahead was reckoned by a clock that has been set back since."""
        return self.probe_at is not None and self._now() < self.probe_at <= self._now() + LONGEST_REST

    def resting(self) -> Resting:
        """Return the trouble that it is down."""
        return Resting(f"it is down: {self.trouble}")

    def up(self) -> None:
        """It answered."""
        if self.failures:
            logger.info("scanner %s is up again", self.name)
        elif self.answered:
            return
        self.answered = True
        self.failures = 0
        self.probe_at = self.down_since = None
        self.told()

    def fell(self, trouble: ScannerTrouble, message: str) -> None:
        """The scanner is to blame; failures of one rest count once."""
        now = self._now()
        self.trouble, self.broke_at = trouble.text, message
        if not self._rests():
            self.failures += 1
            self.probe_at = now + min(FIRST_REST * 2 ** min(self.failures - 1, 16), LONGEST_REST)
        if self.down_since is None:
            self.down_since = now
            logger.error("scanner %s is down: %s", self.name, trouble.text)
        self.told()
