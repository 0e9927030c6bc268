"""The gateway put together: what it consists of, in which order that begins and ends. Holds no rule of its own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, Engine

from engine import clock
from engine.budget import OctetBudget
from engine.digest import Digest
from engine.fetch import Fetcher
from engine.journal import Journal
from engine.leases import Leases
from engine.means import Means
from engine.monitoring import monitoring
from engine.outage import Outage
from engine.poll import MailboxPlan, Poll
from engine.postmaster import Postmaster
from engine.purging import ROUND_MESSAGES, Purger
from engine.scanners import asking_of
from engine.scanning import Scanning
from engine.settings import Listen, Settings
from engine.settler import STORE_RETRY_SECONDS
from engine.webhooks import Webhooks
from engine.wiring import configured_of, hops_of, listener_brief, outlook_of, policy_of, pollable
from engine.worker import Worker
from store import mailbox_queries, queries
from store.agenda import Lease
from store.database import reachable, reading, sqlite_file
from store.errors import StoreError

if TYPE_CHECKING:
    from engine.listening import Listening

DRAIN_SECONDS = (
    30.0  # what is being handed over may end; a longer wait invites SIGKILL from the service manager
)

LISTEN_DRAIN_SECONDS = 10.0  # what is being sent to us may end; who is cut off comes again

logger = logging.getLogger("mailgate")


@dataclass(frozen=True, slots=True)
class Roles:
    """Which parts of the gateway run here."""

    fetch: bool = True
    work: bool = True
    listen: bool = True  # where there is a [listen]; never in a single round


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """What one run came to: how many messages are open in the store, and whether every poll went well.

    `withheld` counts what the mailboxes list and do not give: that is open, too.
    """

    open: int
    withheld: int
    polled_well: bool


class Gateway:
    """A gateway on an open store. Make it with `gateway`."""

    def __init__(self, settings: Settings, engine: Engine, holder: str, only: frozenset[str] | None) -> None:
        self._engine = engine
        policy = policy_of(settings)
        self._budget = OctetBudget(settings.store.in_flight)
        self._outage = Outage()
        self._hops = hops_of(settings, policy, clock.now)
        self._monitoring = monitoring(
            settings.metrics,
            read=self._read,
            budget=self._budget,
            configured=configured_of(settings),
            outlook=outlook_of(settings, sqlite_file(engine), self._outage.trouble),
        )
        watch = self._monitoring.watch if self._monitoring else None
        self._journal = Journal(engine, watch, self._outage.committed)
        asking = asking_of(settings.scanners, policy.scanners, clock.now, logger.getEffectiveLevel())
        self._scanning = Scanning(asking, policy, clock.now)
        means = Means(
            journal=self._journal, read=self.read, policy=policy, outage=self._outage, now=clock.now
        )
        self.worker = Worker(
            means,
            hops=self._hops,
            hosts={mailbox.name: mailbox.host for mailbox in settings.mailboxes},
            budget=self._budget,
            scanning=self._scanning,
            holder=holder,
        )
        told, posts = self.worker.wake, self._scanning.posts
        self._postmaster = Postmaster(means, settings, posts=posts, told=told, file=sqlite_file(engine))
        self.fetcher = Fetcher(
            means,
            {m.name: pollable(m) for m in settings.mailboxes if only is None or m.name in only},
            poll=partial(self._poll, means),
            holder=holder,
            connections_per_host=settings.gateway.connections_per_host,
        )
        self._leases = Leases(
            means, holder=holder, held=lambda: [*self.worker.lives.leases(), *self.fetcher.leases()]
        )
        self.purger = Purger(means)
        self.digest = Digest(means, at_seconds=settings.quarantine.digest_at, told=told)
        self.webhooks = Webhooks(means, settings.webhooks, holder=holder)
        self._works = True
        self._settings = settings
        self._policy = policy
        self._listener: Listening | None = None

    async def read(self, function: Callable[[Connection], Any]) -> Any:
        """Run a function with a reading connection, off the event loop."""
        return await asyncio.to_thread(self._read, function)

    async def run(self, roles: Roles, stop: asyncio.Event) -> None:
        """Run until `stop` is set, then drain. Who runs waits for a store that goes away, and never ends for it."""
        self._works = roles.work
        running = asyncio.create_task(self._run(roles), name="gateway")
        stopping = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait([running, stopping], return_when=asyncio.FIRST_COMPLETED)
            if running.done():
                running.result()  # it never ends by itself unless it is broken: say so
        finally:
            await self._end([running, stopping], drain=roles.work)

    async def _run(self, roles: Roles) -> None:
        if roles.work:
            self._scanning.begin()
        await self._remember()
        if roles.listen and self._settings.listen is not None:
            self._listener = self._listening(self._settings.listen)
            await self._listener.start()
        if self._monitoring is not None:
            self._monitoring.start()
        self._say_what_runs()
        async with asyncio.TaskGroup() as group:
            if self._monitoring is not None:
                group.create_task(self._monitoring.beat(), name="monitoring")
            group.create_task(self._leases.keep(), name="leases")
            if roles.work:
                group.create_task(self.worker.run(), name="worker")
                self._postmaster.start(group)
                group.create_task(self.purger.run(), name="retention")
                group.create_task(self.digest.run(), name="digest")
                group.create_task(self.webhooks.run(), name="webhooks")
            if roles.fetch:
                group.create_task(self.fetcher.run(), name="fetcher")
            if self._listener is not None:
                group.create_task(self._listener.run(), name="listener")

    def _say_what_runs(self) -> None:
        its = self._settings
        parts = (
            ("mailbox", "es", its.mailboxes),
            ("next hop", "s", its.next_hops),
            ("scanner", "s", its.scanners),
        )
        mailboxes, hops, scanners = (
            f"{len(them)} {one}{'' if len(them) == 1 else more}" for one, more, them in parts
        )
        logger.info("running with %s, %s and %s", mailboxes, hops, scanners)

    def _listening(self, listen: Listen) -> Listening:
        from engine.acceptance import Acceptance
        from engine.listening import Listening  # with what a gateway without [listen] doesn't need

        acceptance = Acceptance(journal=self._journal, worker=self.worker if self._works else None)
        brief = listener_brief(listen, self._settings, self._policy, sqlite_file(self._engine))
        return Listening(brief, acceptance, self._budget)

    async def _remember(self) -> None:
        """Take over what the store says of next hops and webhooks, however long it is down by now."""
        while True:
            try:
                await self._take_over()
            except StoreError as error:
                self._outage.say(error)
                await asyncio.sleep(STORE_RETRY_SECONDS)
            else:
                return

    async def _take_over(self) -> None:
        await self.read(self._hops.remember)
        if self._works:
            await self.webhooks.begin()

    async def run_once(self, roles: Roles) -> Round:
        """Poll once, work until nothing is due, remove what may go."""
        self._works = roles.work
        if roles.work:
            self._scanning.begin()
        await self._take_over()
        tasks = [asyncio.create_task(self.worker.run(), name="worker")] if roles.work else []
        tasks.append(asyncio.create_task(self._leases.keep(), name="leases"))
        well = True
        try:
            if roles.fetch:
                well = await self.fetcher.once()
            if roles.work:
                await self.digest.send()
                await self._until_settled(tasks[0])
                if await self._postmaster.look(polled=roles.fetch):
                    await self._until_settled(tasks[0])
            if roles.fetch:
                well = await self.fetcher.remove() and well
            if roles.work:
                await self.purger.purge(ROUND_MESSAGES, rest=0)
                await self.webhooks.send()
            return Round(
                open=await self.read(queries.open_count),
                withheld=await self.read(self._withheld),
                polled_well=well,
            )
        finally:
            await self._end(tasks, drain=False)

    def _withheld(self, connection: Connection) -> int:
        names = {mailbox.name for mailbox in self._settings.mailboxes}
        return sum(one.number for one in mailbox_queries.withholding(connection) if one.mailbox in names)

    async def _until_settled(self, working: asyncio.Task[None]) -> None:
        settled = asyncio.create_task(self.worker.settled())
        await asyncio.wait([settled, working], return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            settled.cancel()
            working.result()
        await settled

    async def _end(self, tasks: list[asyncio.Task[Any]], *, drain: bool) -> None:
        if self._listener is not None:
            await self._listener.stop(LISTEN_DRAIN_SECONDS)
        await self.fetcher.stop()
        if drain:
            await self.worker.drain(DRAIN_SECONDS)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._monitoring is not None:
            await self._monitoring.close()
        await self._hops.close()
        await self._scanning.close()
        await self.webhooks.close()
        await self._journal.close()

    def _poll(self, means: Means, plan: MailboxPlan, lease: Lease, last: Sequence[bytes]) -> Poll:
        worker = self.worker if self._works else None
        return Poll(means, plan, lease, worker=worker, budget=self._budget, hops=self._hops, last=last)

    def _read(self, function: Callable[[Connection], Any]) -> Any:
        with reachable(self._engine), reading(self._engine) as connection:
            return function(connection)
