"""Settle what became of a message: append it, with the notices it calls for, until the store takes it.

What we know must not be lost: a store that is down is waited for, and a positive answer goes on record even where
the message is no longer ours.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar

from engine import notices
from engine.core.owed import untold
from engine.means import Means
from store import agenda, contents, log
from store.agenda import Lease
from store.errors import Conflict, LeaseLost, StoreError, StoreUnreachable
from store.events import Delivered, Failed, MessageEvent, Quarantined, RejectedOversize, Relayed
from store.life import Message
from store.log import Append, Unit

T = TypeVar("T")

STORE_RETRY_SECONDS = 1.0
QUIET = timedelta(minutes=1)

logger = logging.getLogger("mailgate.worker")


class Settler:
    """Appends what a step came to. `told` is called when a notice went into the log with it."""

    def __init__(self, means: Means, *, told: Callable[[], None]) -> None:
        self._means = means
        self._told = told
        self._kept = _Kept()

    async def settle(
        self, lease: Lease, before: Message, events: tuple[MessageEvent, ...], *, keep: bool = False
    ) -> Message | None:
        """Append events, with the notices they call for; returns the message after, None where it isn't ours.

        While the store is down this waits. Gives the lease back, unless `keep`.
        """
        while True:
            appends = await self._appends(before, events)
            unit = Unit(appends, lease=lease, keep=keep)
            try:
                await self.surely(before.id, partial(self._means.journal.append, unit))
            except (Conflict, LeaseLost) as error:
                moved = await self._message(before.id)
                if isinstance(error, Conflict) and moved is not None and _still_news(before, moved, events):
                    before = moved  # something else happened to it, such as its removal from the mailbox
                    continue
                await self._insist(before.id, events, error)
                await self.give_back(lease)
                return None
            if len(appends) > 1:
                self._told()
            self._kept.say(before.id, events, self._means.now())
            return appends[0].after if isinstance(appends[0].after, Message) else None

    async def give_back(self, lease: Lease, wake_at: datetime | None = None) -> None:
        """Give a lease back, however long it takes: one that we keep is renewed for ever, and nobody works on it."""
        await self.surely(
            lease.stream, lambda: self._means.journal.call(lambda c: agenda.give_back(c, lease, wake_at))
        )

    async def surely(self, stream: str, call: Callable[[], Awaitable[T]]) -> T:
        """Do it, and again while the store can't. Raises Conflict and LeaseLost: these are answers."""
        said = False
        while True:
            try:
                return await call()
            except (Conflict, LeaseLost):
                raise
            except StoreError as error:
                if not said or isinstance(error, StoreUnreachable):
                    self._means.outage.say(error, stream)
                said = True
                await asyncio.sleep(STORE_RETRY_SECONDS)

    async def _insist(self, stream: str, events: tuple[MessageEvent, ...], error: StoreError) -> None:
        """The stream moved on without us. A positive answer is a fact all the same: append it where it is news,
        with the report that it calls for.
        """
        logger.warning("%s", error)
        for event in events:
            while isinstance(event, Delivered | Relayed):
                message = await self._message(stream)
                open_numbers = {r.number for r in message.recipients if r.open} if message else set()
                if not open_numbers.intersection(event.numbers):
                    break
                assert message is not None  # it has open recipients
                appends = await self._appends(message, (event,))
                with suppress(Conflict):
                    await self.surely(stream, partial(self._means.journal.append, Unit(appends)))
                    if len(appends) > 1:
                        self._told()
                    break

    async def _message(self, stream: str) -> Message | None:
        found: Message | None = await self.surely(
            stream, lambda: self._means.read(lambda c: log.message(c, stream))
        )
        return found

    async def _appends(self, before: Message, events: tuple[MessageEvent, ...]) -> tuple[Append, ...]:
        now = self._means.now()
        append = Append(before.id, before, events, now)
        after = append.after
        assert isinstance(after, Message)
        original: bytes | None = None
        if notices.quotes(after, events, self._means.policy, now):
            original = await self.surely(
                after.id,
                lambda: self._means.read(lambda c: contents.beginning(c, after, notices.ORIGINAL_OCTETS)),
            )
        told = notices.called_for(after, events, self._means.policy, now, original)
        if not told:
            _say_untold(after, events)
        return notices.together(append, told)


class _Kept:
    """Says in the log what goes into quarantine: one line a minute at most, for a wave of spam must not bury the rest."""

    def __init__(self) -> None:
        self._said_at: datetime | None = None
        self._unsaid = 0

    def say(self, stream: str, events: tuple[MessageEvent, ...], now: datetime) -> None:
        """Tell of a message that was kept back, or count it."""
        kept = next((event for event in events if isinstance(event, Quarantined)), None)
        if kept is None:
            return
        if self._said_at is not None and self._said_at <= now < self._said_at + QUIET:
            self._unsaid += 1
            return
        by = f", says {kept.scanner}" if kept.scanner else ""
        more = f" ({self._unsaid} more since the last of these lines)" if self._unsaid else ""
        logger.info("%s: goes into quarantine: %s%s%s", stream, kept.reason, by, more)
        self._said_at, self._unsaid = now, 0


def _say_untold(after: Message, events: tuple[MessageEvent, ...]) -> None:
    """Nothing is dropped silently: of what failed and nobody is told, the log tells."""
    if after.direction != "internal" and any(isinstance(one, Failed | RejectedOversize) for one in events):
        logger.warning("%s: failed, and nobody is told: %s", after.id, untold(after))
    elif after.about and any(isinstance(one, Failed) for one in events):
        logger.warning("%s: failed: it was to tell of %s, and nobody else is told", after.id, after.about)


def _still_news(before: Message, moved: Message, events: tuple[MessageEvent, ...]) -> bool:
    """Whether nobody touched the recipients these events are about."""
    numbers = {number for event in events for number in getattr(event, "numbers", ())}
    return all(
        old == new
        for old, new in zip(before.recipients, moved.recipients, strict=False)  # there may be more now
        if old.number in numbers or not numbers
    )
