"""One webhook at work: what is in the log behind its cursor is sent, and the cursor moves when that was taken.

Beside the mail and never in its way: it only reads what is on record, and asks of the journal no more than a row now and then.
Every event is taken at least once, and those of a message in their order; with one request at a time all are in the order of
the log. What can't be sent is tried again until it is taken, however long that is: who is told of events may rely on having
been told of all.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final
from zlib import crc32

from sqlalchemy import Row

from engine.adapters.webhook_sender import WebhookSender, WebhookTrouble
from engine.core import webhook
from engine.core.cursor import Cursor
from engine.means import Means
from engine.secrets import SecretError
from engine.settings import WebhookSettings
from store import followers
from store.agenda import Claim
from store.errors import StoreError
from store.followers import LEASE_TERM, Failure, Follower, Held, Page
from store.recorded import listed

LOOK_EVERY_SECONDS: Final = 0.5
PAGE_EVENTS: Final = 100
MOVE_EVERY_SECONDS: Final = 1.0  # while there is more to send: a crash repeats what was sent since, no more

SECRET_SECONDS: Final = 60.0  # one that comes from a command is not asked for with every event

logger = logging.getLogger("mailgate.webhook")


class Webhook:
    """Tells one receiver. For one event loop; run `run` as a task, after `followers.begin`."""

    def __init__(self, means: Means, settings: WebhookSettings, *, holder: str) -> None:
        self._means = means
        self.name = settings.name
        self._settings = settings
        self._sender = WebhookSender(settings)
        self._holder = holder
        self._cursor = Cursor()
        self._failures = 0
        self._moved_at = 0.0
        self._secret: tuple[str, float] | None = None  # and when it was read
        self._troubled = False  # the log says so

    async def run(self) -> None:
        """Send what comes, until cancelled."""
        while True:
            try:
                await self.send()
            except StoreError as error:
                self._means.outage.say(error, f"webhook {self.name}")
            except Exception:  # whatever is wrong here, the mail goes on
                logger.exception("webhook %s", self.name)
            await asyncio.sleep(LOOK_EVERY_SECONDS)

    async def send(self) -> None:
        """Send what there is, to the end of the log or to the first that is not taken. Raises StoreError."""
        standing: Follower | None = await self._means.read(partial(followers.one, name=self.name))
        now = self._means.now()
        if standing is None or not standing.due(now):
            return
        claim = partial(followers.claim, name=self.name, by=self._claim(now), now=now)
        held = await self._means.journal.call(claim)
        if held is not None:
            await self._work_off(held)

    async def close(self) -> None:
        """Close what is open."""
        await self._sender.close()

    async def _work_off(self, held: Held) -> None:
        self._cursor.begin(held.position)
        self._failures = held.failures
        self._moved_at = time.monotonic()
        try:
            await self._send_all(await self._revealed())
        except _Refused as refused:
            await self._refused(refused, held)
        except SecretError as trouble:
            await self._refused(_Refused(str(trouble)), held)
        except _LeaseLost:
            pass  # whoever has it now goes on
        except asyncio.CancelledError:
            # It may be over already, and only the news of it was cut off.
            with suppress(StoreError, _LeaseLost):
                await self._call(followers.give_back)
            raise

    async def _revealed(self) -> str:
        """The secret, as it was a moment ago. Raises SecretError."""
        if self._secret is None or time.monotonic() - self._secret[1] >= SECRET_SECONDS:
            self._secret = (await self._settings.secret.reveal(), time.monotonic())
        return self._secret[0]

    async def _send_all(self, secret: str) -> None:
        while True:
            look = partial(followers.page, names=self._settings.events, limit=PAGE_EVENTS)
            page: Page = await self._means.read(partial(look, after=self._cursor.position))
            self._cursor.look([row.position for row in page.rows], page.reached)
            await self._send_page(page.rows, secret)
            if page.whole:
                self._well()
                await self._call(followers.finish)
                return
            await self._move_in_time()

    async def _send_page(self, rows: Sequence[Row[Any]], secret: str) -> None:
        """Send a page, what is of one message one after the other. Raises the first trouble, when all have ended."""
        lanes: dict[int, list[Row[Any]]] = {}
        for row in rows:
            if self._cursor.waits(row.position):
                number = crc32(row.stream.encode()) % self._settings.connections
                lanes.setdefault(number, []).append(row)
        troubles: list[Exception] = []
        async with asyncio.TaskGroup() as group:
            for lane in lanes.values():
                group.create_task(self._send_lane(lane, secret, troubles))
        if troubles:
            raise troubles[0]

    async def _send_lane(self, rows: Sequence[Row[Any]], secret: str, troubles: list[Exception]) -> None:
        """Send one after the other, as long as there is no trouble anywhere: what is on its way is not cut off."""
        for row in rows:
            if troubles:
                return
            try:
                await self._send_one(row, secret)
                await self._move_in_time()
            except (_Refused, _LeaseLost, StoreError) as trouble:
                troubles.append(trouble)

    async def _send_one(self, row: Row[Any], secret: str) -> None:
        octets = webhook.body(listed(row))
        event_id = bytes(row.hash).hex()
        headers = webhook.headers(row.name, event_id, self.name, secret, self._means.now(), octets)
        try:
            answer = await self._sender.post(headers, octets)
        except WebhookTrouble as trouble:
            raise _Refused(str(trouble)) from None
        if not answer.taken:
            raise _Refused(f"{self._settings.url.where} answered {answer.said}", answer.retry_after)
        before = self._cursor.position
        self._cursor.took(row.position)
        if self._cursor.position > before:  # what is taken beside one that is not taken ends no trouble
            self._well()

    def _well(self) -> None:
        self._failures = 0
        if self._troubled:
            self._troubled = False
            logger.warning("webhook %s: events are taken again", self.name)

    async def _refused(self, refused: _Refused, held: Held) -> None:
        """Put on record that it failed, and when it is tried again."""
        self._secret = None  # it may have been changed, and the receiver knows
        now = self._means.now()
        since = held.since if self._failures and held.since else now
        self._failures += 1
        wait = webhook.wait(self._failures, refused.retry_after)
        why = Failure(said=str(refused), failures=self._failures, since=since, retry_at=now + wait)
        if not self._troubled:
            self._troubled = True
            logger.error("webhook %s: %s; tried again until it is taken", self.name, refused)
        with suppress(_LeaseLost):
            await self._call(partial(followers.fail, why=why))

    async def _move_in_time(self) -> None:
        """Put on record how far it is, where that was not done for a while. Raises _LeaseLost."""
        if time.monotonic() - self._moved_at >= MOVE_EVERY_SECONDS:
            self._moved_at = time.monotonic()
            await self._call(partial(followers.move, until=self._claim(self._means.now()).until))

    async def _call(self, change: Callable[..., bool]) -> None:
        """Change what is on record of how far it is. Raises _LeaseLost."""
        position = self._cursor.position
        done = partial(change, name=self.name, holder=self._holder, position=position)
        if not await self._means.journal.call(done):
            raise _LeaseLost

    def _claim(self, now: datetime) -> Claim:
        return Claim(self._holder, now + LEASE_TERM)


class _Refused(Exception):
    """An event was not taken; why, and when the receiver wishes to be asked again."""

    def __init__(self, text: str, retry_after: timedelta | None = None) -> None:
        super().__init__(text)
        self.retry_after = retry_after


class _LeaseLost(Exception):
    """Somebody else sends now."""
