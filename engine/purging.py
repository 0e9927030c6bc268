"""Retention at work: what was in quarantine for too long is discarded, old octets are dropped, space is given back.

Beside the mail that moves, and never in its way: in small batches among the journal's other work, with pauses as long as
they took many times over.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Iterator, Sequence
from functools import partial
from typing import Final, TypeVar

from sqlalchemy import Connection

from engine.core.retention import outdated
from engine.means import Means
from store import contents, log, queries, space
from store.errors import Damaged, StoreError, UnknownEvent
from store.events import ContentsPurged, MessageEvent
from store.log import Append, Unit

EVERY_SECONDS: Final = 600.0
FIRST_AFTER_SECONDS: Final = 30.0  # who just started has mail to catch up with
LOOKED_AT: Final = 500  # messages, by one query
BATCH_MESSAGES: Final = 50
BATCH_OCTETS: Final = 1 << 20  # dropped, or moved, in one transaction: some milliseconds
REST: Final = 9  # times as long as the batch before took: a tenth of the time at most
SPARE: Final = 10  # a tenth of the file stays free for the mail to come, which else had to make it grow again
ROUND_MESSAGES: Final = 2_000  # in a single round; what is left waits for the next one

T = TypeVar("T")

logger = logging.getLogger("mailgate.retention")


class Purger:
    """Works off what is outdated. For one event loop; run `run` as a task."""

    def __init__(self, means: Means) -> None:
        self._means = means

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        await asyncio.sleep(FIRST_AFTER_SECONDS)
        while True:
            try:
                await self.purge()
            except StoreError as error:
                self._means.outage.say(error, "retention")
            await asyncio.sleep(EVERY_SECONDS)

    async def purge(self, most: int | None = None, *, rest: int = REST) -> int:
        """Purge what is outdated now, up to `most` messages; returns how many there were. Raises StoreError."""
        done = 0
        for outdated_now in (self._in_quarantine, self._closed):
            after: int | None = 0
            while after is not None and (most is None or done < most):
                found, after = await self._means.read(partial(outdated_now, after=after))
                for batch in _batches(found if most is None else found[: most - done]):
                    purged = self._means.journal.append_by(partial(self._batch, streams=batch))
                    done += await _rested(purged, rest)
        if done:
            logger.info("retention: %d messages purged", done)
        await self._give_back(rest)
        return done

    # -- which

    def _in_quarantine(self, connection: Connection, after: int) -> tuple[list[tuple[str, int]], int | None]:
        before = self._means.now() - self._means.policy.retention.quarantined
        found = queries.quarantined(connection, before, after, LOOKED_AT, with_exempt=False)
        return [(name, size) for _, name, size, _ in found], found[-1][0] if len(found) == LOOKED_AT else None

    def _closed(self, connection: Connection, after: int) -> tuple[list[tuple[str, int]], int | None]:
        return contents.closed(
            connection, self._means.now() - self._means.policy.retention.contents, after, LOOKED_AT
        )

    # -- a batch, in the writer's transaction: nobody else can append meanwhile

    def _batch(self, connection: Connection, streams: Sequence[str]) -> tuple[int, Sequence[Unit]]:
        units = [Unit((append,)) for stream in streams if (append := self._outdated(connection, stream))]
        refusals = log.append(connection, units)
        assert not any(refusals)  # they were read in this very transaction
        appends = [append for unit in units for append in unit.appends]
        dropped = [a.stream for a in appends if any(isinstance(e, ContentsPurged) for e in a.events)]
        contents.drop(connection, dropped)
        return len(appends), units

    def _outdated(self, connection: Connection, stream: str) -> Append | None:
        now = self._means.now()
        try:
            message = log.message(connection, stream)
        except (Damaged, UnknownEvent) as error:  # of this message; the others go on
            logger.error("%s: %s", stream, error)
            return None
        events: tuple[MessageEvent, ...] = (
            () if message is None else outdated(message, self._means.policy, now)
        )
        return Append(stream, message, events, now) if events else None

    # -- room

    async def _give_back(self, rest: int) -> None:
        while (now := await self._means.read(space.space)) is not None:
            beyond = now.free_octets - now.file_octets // SPARE
            if beyond < BATCH_OCTETS:
                return
            await _rested(self._means.journal.call(partial(space.give_back, octets=BATCH_OCTETS)), rest)
            after = await self._means.read(space.space)
            if after is None or after.free_octets >= now.free_octets:
                return  # a reader holds on to it, or the file was made without this


async def _rested(written: Awaitable[T], rest: int) -> T:
    """Return what was written when it is, after a pause so many times as long as it took."""
    began = time.monotonic()
    result = await written
    await asyncio.sleep((time.monotonic() - began) * rest)
    return result


def _batches(found: Sequence[tuple[str, int]]) -> Iterator[list[str]]:
    """Cut what was found into batches of so many messages and octets; a larger message goes alone."""
    batch: list[str] = []
    octets = 0
    for stream, size in found:
        if batch and (len(batch) == BATCH_MESSAGES or octets + size > BATCH_OCTETS):
            yield batch
            batch, octets = [], 0
        batch.append(stream)
        octets += size
    if batch:
        yield batch
