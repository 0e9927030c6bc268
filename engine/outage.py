"""Trouble with the store, in the log: said once, however many wait for it and however often they try."""

from __future__ import annotations

import logging
import time

from store.errors import Conflict, LeaseLost, StoreError, StoreUnreachable

QUIET_SECONDS = 60.0  # without a failure: then the next one is another outage

logger = logging.getLogger("mailgate.store")
listening = logging.getLogger("mailgate.listen")


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


class Refusals:
    """Mail that clients are told to bring later: said when it begins and, with their number, when it is over.

    Where it comes and goes, that is said once a minute at most.
    """

    def __init__(self) -> None:
        self._count = 0  # not told of yet
        self._said = False
        self._quiet_until = time.monotonic()

    def refused(self, why: Exception) -> None:
        """A message was refused for now."""
        self._count += 1
        if not self._said and time.monotonic() >= self._quiet_until:
            listening.error("new mail is refused for now: %s", why)
            self._said = True

    def taken(self) -> None:
        """A message was taken."""
        if not self._count or not (self._said or time.monotonic() >= self._quiet_until):
            return
        listening.warning("new mail is taken again; %d refused for now meanwhile", self._count)
        self._count, self._said = 0, False
        self._quiet_until = time.monotonic() + QUIET_SECONDS
