"""The daily digest: each recipient of ours hears once of the spam that is held for them.

What was listed is on record on each message, in one unit with the digest that lists it. So nothing is listed twice and nothing
forgotten, whenever a gateway is stopped: a digest whose time passed meanwhile is sent at the next start.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Final

from sqlalchemy import Connection

from engine import intake
from engine.core import envelope, kept_back
from engine.means import Means
from engine.opening import new_id
from store import log, queries
from store.errors import Conflict, Damaged, StoreError, UnknownEvent
from store.events import Reported
from store.life import Message
from store.log import Append, Unit
from store.recipient import Recipient

LOOK_EVERY_SECONDS: Final = 60.0
LISTED: Final = 200  # messages in one digest: who has more held gets several
READ: Final = 500  # messages looked at, by one query
SPAM: Final = frozenset({"spam", "refused-as-spam"})
DAY: Final = timedelta(days=1)

logger = logging.getLogger("mailgate.digest")


class Digest:
    """Tells recipients of held spam once a day, so long after midnight UTC; never where that is None.

    `told` is called when a digest went into the log. For one event loop; run `run` as a task.
    """

    def __init__(self, means: Means, *, at_seconds: int | None, told: Callable[[], None]) -> None:
        self._means = means
        self._at = None if at_seconds is None else timedelta(seconds=at_seconds)
        self._told = told
        self._sent: datetime | None = None  # the last one due that was seen through

    async def run(self) -> None:
        """Send each day's digest when its time has come, until cancelled."""
        while self._at is not None:
            try:
                await self.send()
            except StoreError as error:
                self._means.outage.say(error, "digest")
            await asyncio.sleep(LOOK_EVERY_SECONDS)

    async def send(self) -> int:
        """Send what is due now; returns how many messages were listed. Raises StoreError."""
        due = None if self._at is None else last_due(self._means.now(), self._at)
        if due is None or due == self._sent:
            return 0
        listed = 0
        held: dict[str, list[str]] = await self._means.read(partial(self._held, due=due))
        for key, streams in held.items():
            for start in range(0, len(streams), LISTED):
                listed += await self._tell(key, streams[start : start + LISTED], due)
        if listed:
            logger.info("digest: %d recipients told of held spam", len(held))
            self._told()
        self._sent = due
        return listed

    async def _tell(self, key: str, streams: Sequence[str], due: datetime) -> int:
        """Send one digest; returns how many messages are in it."""
        while True:
            found: list[Message] = await self._means.read(lambda c: list(_readable(c, streams)))
            messages = [m for m in found if any(_key(r) == key for r in self._unlisted(m, due))]
            if not messages:
                return 0
            try:
                await self._means.journal.append(self._unit(key, messages, due))
            except Conflict:  # one of them was released meanwhile, or another gateway was faster
                continue
            return len(messages)

    def _unit(self, key: str, messages: Sequence[Message], due: datetime) -> Unit:
        """Return the digest, and what says on each message that it is in there."""
        now = self._means.now()
        its = {m.id: [r for r in self._unlisted(m, due) if _key(r) == key] for m in messages}
        written = kept_back.digest(
            messages,
            recipient=its[messages[0].id][0].address,
            hostname=self._means.policy.hostname,
            postmaster=self._means.policy.postmaster,
            notice_id=new_id(now),
            now=now,
        )
        opened, _ = intake.notice("digest", messages[0], written, now)
        told = (
            Append(message.id, message, (_reported(opened.stream, its[message.id]),), now)
            for message in messages
        )
        return Unit((opened, *told))

    def _held(self, connection: Connection, due: datetime) -> dict[str, list[str]]:
        """Return the messages that are to be listed, by recipient, oldest first."""
        held: dict[str, list[str]] = {}
        after: int | None = 0
        while after is not None:
            rows = queries.quarantined(connection, due, after, READ)
            for message in _readable(connection, [name for _, name, _, why in rows if why in SPAM]):
                for key in dict.fromkeys(map(_key, self._unlisted(message, due))):
                    held.setdefault(key, []).append(message.id)
            after = rows[-1][0] if len(rows) == READ else None
        return held

    def _unlisted(self, message: Message, due: datetime) -> Iterable[Recipient]:
        """Return for whom a message is held, who are to hear of it and did not yet."""
        if message.quarantined_at is None or message.quarantined_at >= due:
            return []
        waiting = [r for r in message.recipients if r.state == "quarantined" and not r.listed and r.address]
        return [
            r for r in waiting if any(envelope.matches(own, r.address) for own in self._means.policy.domains)
        ]


def last_due(now: datetime, at: timedelta) -> datetime:
    """Return when the last digest was due."""
    today = now.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0) + at
    return today if today <= now else today - DAY


def _reported(digest: str, its: Iterable[Recipient]) -> Reported:
    return Reported(kind="digest", report=digest, numbers=tuple(r.number for r in its))


def _key(recipient: Recipient) -> str:
    return recipient.address.lower()


def _readable(connection: Connection, streams: Sequence[str]) -> Iterator[Message]:
    """Yield these messages in their order, without those that can't be read: the others are listed all the same."""
    try:
        found = log.messages(connection, streams) if streams else {}
    except (Damaged, UnknownEvent):
        found = {}
        for stream in streams:
            try:
                found |= log.messages(connection, [stream])
            except (Damaged, UnknownEvent) as error:
                logger.error("%s: %s", stream, error)
    yield from (found[stream] for stream in streams if stream in found)
