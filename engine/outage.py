"""Trouble with the store: said once in the log, however many wait for it and however often they try, and once when it is over.

Reading may well go on while nothing can be written, as on a full disk: so it is by commits that one knows how the store is.
"""

from __future__ import annotations

import logging
import time

from store.errors import Conflict, LeaseLost, StoreError, StoreUnreachable

QUIET_SECONDS = (
    60.0  # without a failure: then the next one is another outage, and nobody knows how the store is
)

logger = logging.getLogger("mailgate.store")
listening = logging.getLogger("mailgate.listen")


class Outage:
    """Shared by all who wait for one store. For one event loop."""

    def __init__(self) -> None:
        self._until = time.monotonic()  # until when a failure is part of the outage that was said
        self._said = False  # and not yet that it is over
        self._failed = ""  # what the last commit failed with
        self._failed_at = time.monotonic()

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
            self._said = True
        if self._said:
            self._until = now + QUIET_SECONDS

    def committed(self, trouble: StoreUnreachable | None) -> None:
        """Take note of how a commit ended that was to change something."""
        now = time.monotonic()
        self._failed, self._failed_at = "" if trouble is None else str(trouble), now
        if self._said and trouble is None:
            logger.warning("the store works again")
            self._said, self._until = False, now + QUIET_SECONDS

    def trouble(self) -> str | None:
        """Return what the last commit failed with; None where it went through, or nobody has tried for a while."""
        recent = time.monotonic() - self._failed_at < QUIET_SECONDS
        return self._failed or None if recent else None


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
