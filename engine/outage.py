"""A store that is down, in the log: said once, however many wait for it and however often they try."""

from __future__ import annotations

import logging
import time

from store.errors import Conflict, LeaseLost, StoreError, StoreUnreachable

QUIET_SECONDS = 60.0  # without a failure: then the next one is another outage

logger = logging.getLogger("mailgate.store")


class Outage:
    """Shared by all who wait for one store. For one event loop."""

    def __init__(self) -> None:
        self._until = time.monotonic()  # until when a failure is part of the outage that was said

    def say(self, error: StoreError, whose: str = "") -> None:
        """Log what the store refused: trouble with one stream each time, that it is down once."""
        if not isinstance(error, StoreUnreachable):
            moved = isinstance(error, Conflict | LeaseLost)  # a person holds it, for one: no trouble
            level = logging.WARNING if moved else logging.ERROR
            logger.log(level, "%s%s", f"{whose}: " if whose else "", error)
            return
        now = time.monotonic()
        if now >= self._until:
            logger.error("%s; waiting for it", error)
        self._until = now + QUIET_SECONDS
