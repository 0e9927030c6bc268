"""Poll every mailbox in its time: one at a time each, several at once, none held up by another's trouble.

When a mailbox is due stands in the agenda, under a lease like any other stream: two gateways on one store never
poll the same mailbox at once, and `mailgate mailbox poll` only moves a time. Trouble is recorded when it begins and
when it ends, and makes the next polls rarer.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Connection

from engine.mailbox_record import record
from engine.means import Means
from engine.poll import MailboxPlan, Poll
from engine.ports import SourceSession, SourceTrouble
from engine.tally import Tally
from store import agenda, mailbox_queries
from store.agenda import Claim, Lease
from store.errors import LeaseLost, StoreError
from store.mailbox_events import PollFailed, PollRecovered, mailbox_stream
from store.mailbox_life import Mailbox

STORE_RETRY_SECONDS = 1.0
LOOK_EVERY_SECONDS = 1.0  # how soon `mailbox poll` is heard
SET_BACK = timedelta(minutes=1)  # by more than this, and the clock was set: no correction by NTP steps so far
JITTER = 0.1  # of the interval, so that mailboxes of one host drift apart
TROUBLE_CAP = timedelta(minutes=30)  # a provider that comes back is noticed this soon
PERMANENT_LEAST = timedelta(minutes=10)  # a wrong password locks accounts when it is tried every minute
SUSPENDED_LEAST = timedelta(hours=1)
BREAKING_AT_ONCE = 3  # sessions in one `--once`, where a message breaks each: a mailbox has one such, if any

logger = logging.getLogger("mailgate.fetch")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pollable:
    """A mailbox, how to reach it, and how often."""

    plan: MailboxPlan
    host: str
    every: timedelta
    open: Callable[[], Awaitable[SourceSession]]


class Fetcher:
    """Polls mailboxes as they fall due. For one event loop."""

    def __init__(
        self,
        means: Means,
        mailboxes: Mapping[str, Pollable],
        *,
        poll: Callable[[MailboxPlan, Lease, Sequence[bytes]], Poll],
        holder: str,
        connections_per_host: int,
    ) -> None:
        self._means = means
        self._mailboxes = mailboxes
        self._poll = poll
        self._holder = holder
        self._hosts: defaultdict[str, asyncio.Semaphore] = defaultdict(
            lambda: asyncio.Semaphore(connections_per_host)
        )
        self._failures: dict[str, int] = {}
        # UIDLs, the one that broke a session last behind: two that do so take turns, so none keeps the other back.
        self._broke: defaultdict[str, list[bytes]] = defaultdict(list)
        self._tasks: dict[str, asyncio.Task[Any]] = {}
        self._leases: dict[str, Lease] = {}  # of the polls under way
        self._stopping = False

    async def run(self) -> None:
        """Poll until cancelled or stopped; every mailbox is polled at once at first."""
        put = False
        looked_at = self._means.now()
        try:
            while not self._stopping:
                try:
                    if looked_at - self._means.now() > SET_BACK:
                        put = False  # or nothing is polled until the old time comes again
                    looked_at = self._means.now()
                    if not put:
                        await self._means.journal.call(self._put_all)
                        put = True
                    await self._start_due()
                except StoreError as error:
                    self._means.outage.say(error)
                await asyncio.sleep(LOOK_EVERY_SECONDS)
        finally:
            await self.stop()

    async def stop(self) -> None:
        """Begin no more polls and end those under way; what they have retrieved is durable or still in the mailbox."""
        if (
            not self._stopping
        ):  # once: a second time would take away what they wait for before they give their lease back
            self._stopping = True
            for task in self._tasks.values():
                task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks.values())

    def leases(self) -> list[Lease]:
        """Return the leases of the mailboxes that are being polled."""
        return list(self._leases.values())

    async def once(self, *, retrieve: bool = True) -> bool:
        """Poll each mailbox once, all together; says whether all went well."""
        return await _all(self._poll_through(name, retrieve=retrieve) for name in self._mailboxes)

    async def remove(self) -> bool:
        """Open a session for each mailbox from which something may be removed now, and remove it."""
        names = [name for name in self._mailboxes if await self._removable(name)]
        return await _all(self.poll_now(name, retrieve=False) for name in names)

    async def poll_now(self, name: str, *, retrieve: bool = True) -> bool:
        """Poll one mailbox, unless somebody else is at it or all is being stopped; says whether it went well."""
        if self._stopping:
            return True
        lease = None if name in self._leases else await self._claimed(name)
        if lease is None:
            logger.info("mailbox %s: is being polled already", name)
            return True
        self._leases[name] = lease
        try:
            well = await self._poll_leased(name, lease, retrieve=retrieve)
        finally:
            del self._leases[name]
        if retrieve and not well and self._broke.get(name) and await self._removable(name):
            # A session that one message breaks never comes to its end, where others are removed.
            await self.poll_now(name, retrieve=False)
        return well

    async def _claimed(self, name: str) -> Lease | None:
        stream, now = mailbox_stream(name), self._means.now()
        claim = Claim(self._holder, now + agenda.LEASE_TERM)
        return await self._means.journal.call(
            lambda c: agenda.claim_stream(c, stream, agenda.POLL, claim, now)
        )

    async def _poll_through(self, name: str, *, retrieve: bool) -> bool:
        """Poll a mailbox, and again where one message broke the session: the next process won't know which."""
        for _ in range(BREAKING_AT_ONCE):
            known = len(self._broke[name])
            if await self.poll_now(name, retrieve=retrieve):
                return True
            if len(self._broke[name]) == known:
                return False
        return False

    def _put_all(self, connection: Connection) -> None:
        for name in self._mailboxes:
            agenda.put(connection, mailbox_stream(name), agenda.POLL, self._means.now())

    async def _start_due(self) -> None:
        now = self._means.now()
        if not await self._means.read(lambda c: agenda.any_due(c, agenda.POLL, now)):
            return
        idle = {mailbox_stream(name): name for name in self._mailboxes if name not in self._tasks}
        due: list[str] = await self._means.read(lambda c: agenda.due(c, agenda.POLL, now))
        for stream in due if not self._stopping else ():
            if name := idle.get(stream):
                self._tasks[name] = asyncio.create_task(self._poll_task(name), name=f"poll {name}")

    async def _poll_task(self, name: str) -> None:
        try:
            await self.poll_now(name)
        except StoreError as error:
            self._means.outage.say(error, f"mailbox {name}")
        finally:
            del self._tasks[name]

    async def _poll_leased(self, name: str, lease: Lease, *, retrieve: bool) -> bool:
        mailbox = self._mailboxes[name]
        pause = self._pause(mailbox)
        try:
            well, pause = await self._polled(mailbox, lease, retrieve)
            return well
        except LeaseLost:
            logger.warning(
                "mailbox %s: this process stood still for too long: another gateway polls it by now", name
            )
            return True
        finally:
            again = self._means.now() + pause * (1 + JITTER * (2 * random.random() - 1))
            await self._give_back(lease, again)

    async def _polled(self, mailbox: Pollable, lease: Lease, retrieve: bool) -> tuple[bool, timedelta]:
        """Poll; says whether it went well, and how long to wait for the next time."""
        name, pause = mailbox.plan.name, self._pause(mailbox)
        try:
            async with self._hosts[mailbox.host]:
                tally = await self._session(mailbox, lease, retrieve)
        except SourceTrouble as trouble:
            return False, await self._went_wrong(mailbox, lease, trouble)
        _log(name, tally)
        if retrieve:
            await self._went_well(mailbox, lease, tally)
            pause = mailbox.every
        standing: Mailbox = await self._means.read(lambda c: mailbox_queries.mailbox(c, name))
        if standing.health == "suspended":
            return False, max(pause, SUSPENDED_LEAST)
        return True, pause

    async def _give_back(self, lease: Lease, again: datetime) -> None:
        """Give the lease back, however long the store is down: one that we keep is renewed for ever, while we run."""
        while True:
            try:
                await asyncio.shield(self._means.journal.call(lambda c: agenda.give_back(c, lease, again)))
            except StoreError as error:
                self._means.outage.say(error, lease.stream)
                if self._stopping:
                    return
                await asyncio.sleep(STORE_RETRY_SECONDS)
            else:
                return

    async def _session(self, mailbox: Pollable, lease: Lease, retrieve: bool) -> Tally:
        name = mailbox.plan.name
        try:
            session = await mailbox.open()
            poll = self._poll(mailbox.plan, lease, tuple(self._broke[name]))
            return await poll.run(session, retrieve=retrieve)
        except (SourceTrouble, StoreError):
            raise
        except Exception as error:  # what nobody foresaw is this mailbox's trouble, and no other's
            logger.exception("mailbox %s: an error in mailgate itself", name)
            text = f"an error in mailgate itself: {type(error).__name__}"  # its words may hold a secret
            raise SourceTrouble("protocol", text) from None

    async def _went_well(self, mailbox: Pollable, lease: Lease, tally: Tally) -> None:
        name = mailbox.plan.name
        self._failures.pop(name, None)
        self._broke.pop(name, None)
        standing: Mailbox = await self._means.read(lambda c: mailbox_queries.mailbox(c, name))
        if standing.health == "failing" or (standing.health == "suspended" and tally.resumed):
            await record(self._means, name, (PollRecovered(mailbox=name),), lease)
            logger.info("mailbox %s: works again", name)

    async def _went_wrong(self, mailbox: Pollable, lease: Lease, trouble: SourceTrouble) -> timedelta:
        """Record trouble that is news, remember which message broke the session; returns how long to wait."""
        name = mailbox.plan.name
        self._failures[name] = self._failures.get(name, 0) + 1
        if trouble.offer is not None and trouble.offer.uidl is not None:
            broke = self._broke[name]
            broke[:] = [uidl for uidl in broke if uidl != trouble.offer.uidl] + [trouble.offer.uidl]
        standing: Mailbox = await self._means.read(lambda c: mailbox_queries.mailbox(c, name))
        if standing.health == "ok" or (standing.health == "failing" and standing.kind != trouble.kind):
            event = PollFailed(
                mailbox=name, kind=trouble.kind, permanent=trouble.permanent, text=trouble.text
            )
            await record(self._means, name, (event,), lease)
        logger.warning("mailbox %s: %s", name, trouble)
        pause = self._pause(mailbox)
        return max(pause, PERMANENT_LEAST) if trouble.permanent else pause

    def _pause(self, mailbox: Pollable) -> timedelta:
        """Return how long to wait after so many failures in a row."""
        failures = self._failures.get(mailbox.plan.name, 0)
        pause: timedelta = mailbox.every * 2 ** min(max(failures - 1, 0), 16)
        return min(pause, max(TROUBLE_CAP, mailbox.every))

    async def _removable(self, name: str) -> bool:
        removal = self._mailboxes[name].plan.removal
        if not removal.ever:
            return False
        present = await self._means.read(lambda c: mailbox_queries.present(c, name, notices=removal.oversize))
        return any(removal.allows(one, self._means.now()) for one in present)


async def _all(polls: Iterable[Awaitable[bool]]) -> bool:
    """Wait for every one of them; says whether all went well. Raises what the first one broke with, but not before."""
    ended = await asyncio.gather(*polls, return_exceptions=True)
    for one in ended:
        if isinstance(one, BaseException):
            raise one
    return all(ended)


def _log(name: str, tally: Tally) -> None:
    if tally.downloaded or tally.removed or tally.oversize:
        logger.info(
            "mailbox %s: %d downloaded (%d octets), %d too large, %d removed",
            name,
            tally.downloaded,
            tally.octets,
            tally.oversize,
            tally.removed,
        )
