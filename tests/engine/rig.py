"""A gateway taken apart: the engine's loops on a real store, between a real mailbox and a real home server on loopback.

    async with Rig(database_url) as rig:
        rig.put(mail(1))
        await rig.poll()
        await rig.settled()
        assert rig.home.ledger

Time stands still until a test moves it. Nothing is polled and nothing is probed by itself. At the end the store must add up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from types import TracebackType
from typing import Any, Self

from sqlalchemy import Connection, Engine

from engine.adapters.pop3_source import MailboxAccess, open_session
from engine.adapters.smtp_next_hop import NextHopAccess, NextHopTimeouts, SmtpNextHop
from engine.asking import Here
from engine.budget import OctetBudget
from engine.core.listing import Removal
from engine.core.policy import HopPolicy, Policy
from engine.core.routing import MailboxRule, RouteRule
from engine.fetch import Fetcher, Pollable
from engine.hop import Hop
from engine.hops import Hops
from engine.journal import Journal
from engine.leases import Leases
from engine.means import Means
from engine.outage import Outage
from engine.poll import MailboxPlan, Poll
from engine.ports import Outcome, SourceSession, Transaction
from engine.scanning import Scanning
from engine.worker import Worker
from store import agenda, conserve, log, queries
from store.agenda import Lease
from store.conserve import Count
from store.database import open_store, reachable, reading, writing
from store.errors import StoreUnreachable
from store.events import Event
from store.life import Message
from store.log import Unit
from store.mailbox_events import MAILBOX_PREFIX
from store.mailbox_life import Mailbox
from store.recorded import Recorded
from tests import schema
from tests.engine.scripted import ScriptedScanner
from tests.peers.pop3d import Pop3Peer
from tests.peers.smtpd import HomePeer

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
PATIENCE_SECONDS = 30.0  # only ends a hung test
INFO = "info@example.com"
POSTMASTER = "postmaster@example.com"
PASSWORD = "open sesame"
BUDGET_OCTETS = 64 << 20


class Clock:
    """Time that a test moves."""

    def __init__(self) -> None:
        self.at = NOON

    def __call__(self) -> datetime:
        return self.at

    def later(self, **span: float) -> None:
        self.at += timedelta(**span)


def mail(number: int, size_octets: int = 0, *, header: str = "") -> bytes:
    """A message with all that is delicate: dots at line starts, eight bits, an empty line at the end."""
    head = (
        f"Return-Path: <sender{number}@elsewhere.example>\r\n{header}From: Sender {number} <sender{number}"
        f"@elsewhere.example>\r\nSubject: number {number}\r\nMessage-ID: <{number}@elsewhere.example>\r\n\r\n"
        f".{number}\r\n..\r\n\u00fcbung\r\n"
    ).encode()
    return head + b"x" * max(0, size_octets - len(head) - 4) + b"\r\n\r\n"


class _CountingJournal(Journal):
    """Counts the units, and those that the store refused, so that a test can wait for it."""

    def __init__(
        self,
        engine: Engine,
        refused: Callable[[], None],
        ended: Callable[[StoreUnreachable | None], None],
    ) -> None:
        super().__init__(engine, ended=ended)
        self._refused = refused
        self.submitted = 0

    def append(self, unit: Unit) -> asyncio.Future[None]:
        self.submitted += 1
        future = super().append(unit)
        future.add_done_callback(
            lambda done: None if done.cancelled() or done.exception() is None else self._refused()
        )
        return future


class Rig:
    """The parts, and what a test asks of them. Options are kept over `restart` unless given anew.

    `homes`: the next hops, by name; `routes` None sends all there is to "home". `mailboxes` maps a user of
    `provider` to what is to be changed in its MailboxPlan. `policy` changes the Policy. `scanners` scan everything.
    """

    def __init__(
        self,
        url: str,
        *,
        provider: Pop3Peer | None = None,
        homes: Mapping[str, HomePeer] | None = None,
        mailboxes: Mapping[str, Mapping[str, Any]] | None = None,
        policy: Mapping[str, Any] | None = None,
        on_unknown: Any = "retry",
        max_size_octets: int | None = None,
        connections: int = 2,
        connections_per_host: int = 2,
        budget_octets: int = BUDGET_OCTETS,
        works: bool = True,
        adds_up: bool = True,
        scanners: Sequence[ScriptedScanner] = (),
        delivers_meanwhile: bool = False,
    ) -> None:
        self.clock = Clock()
        self.delivers_meanwhile = (
            delivers_meanwhile  # while a test polls; for polls that wait for room in memory
        )
        self.provider = provider or Pop3Peer()
        self.homes = dict(homes or {"home": HomePeer()})
        self.boxes = {name: dict(changes) for name, changes in (mailboxes or {"info": {}}).items()}
        self.policy_changes = dict(policy or {})
        self.on_unknown = on_unknown
        self.max_size_octets = max_size_octets
        self.connections = connections
        self.connections_per_host = connections_per_host
        self.budget_octets = budget_octets
        self.works = works
        self.adds_up = adds_up
        self.scanners = scanners
        self.url = url
        self.engine = open_store(url, checkpoints=True)
        self.pop3_port = 0
        self.smtp_ports: dict[str, int] = {}
        self._lives = 0
        self._polls = 0
        self._no_poll = asyncio.Event()
        self._no_poll.set()
        self._reads: set[asyncio.Future[Any]] = set()  # a thread goes on after its waiter was cancelled

    @property
    def home(self) -> HomePeer:
        return self.homes["home"]

    # -- beginning and end

    async def __aenter__(self) -> Self:
        schema.make(self.url)
        for name in self.boxes:
            self.provider.add_user(name, PASSWORD)
        self.pop3_port = await self.provider.start()
        for name, home in self.homes.items():
            self.smtp_ports[name] = await home.start()
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            await self.stop()
        finally:
            self.provider.heal()
            for home in self.homes.values():
                home.heal()
            for peer in (self.provider, *self.homes.values()):
                await peer.stop()
            await asyncio.gather(*self._reads, return_exceptions=True)
            problems = list(self.read_now(lambda c: list(conserve.check(c, Count(), self.clock()))))
            self.engine.dispose()
        if kind is None and self.adds_up:
            assert problems == []
            assert self.budget.used_octets == 0
            lives = self.worker.lives  # no place is kept for what is nowhere
            assert {name: lives.share() - lives.places(name) for name in ("", *self.homes)} == dict.fromkeys(
                ("", *self.homes), 0
            )

    async def start(self) -> None:
        """Put the parts together, as a fresh process does."""
        self._lives += 1
        self.holder = f"life {self._lives}"
        self.journal_refused = 0
        self.outage = outage = Outage()
        self.journal = _CountingJournal(self.engine, self._refused, outage.committed)
        self.budget = OctetBudget(self.budget_octets)
        self.policy = self._policy()
        self.hops = Hops({name: self._hop(name) for name in self.homes})
        self.scanning = Scanning(
            Here({one.name: one.post(self.clock) for one in self.scanners}), self.policy, self.clock
        )
        self.worker = Worker(
            self.means(outage=outage),
            scanning=self.scanning,
            hops=self.hops,
            hosts=dict.fromkeys(self.boxes, "pop.provider.example"),
            budget=self.budget,
            holder=self.holder,
        )
        self.fetcher = Fetcher(
            self.means(outage=outage),
            {name: self._pollable(name) for name in self.boxes},
            poll=self._poll,
            holder=self.holder,
            connections_per_host=self.connections_per_host,
        )
        self.leases = Leases(
            self.means(outage=outage),
            holder=self.holder,
            held=lambda: [*self.worker.lives.leases(), *self.fetcher.leases()],
        )
        await self.read(self.hops.remember)
        self._working = asyncio.create_task(self.worker.run()) if self.works else None

    async def stop(self, *, drain: bool = False) -> None:
        """End the parts; without `drain` as roughly as a process can without dying."""
        await self.fetcher.stop()
        if drain:
            await self.worker.drain(PATIENCE_SECONDS)
        if self._working is not None:
            self._working.cancel()
            await asyncio.gather(self._working, return_exceptions=True)
            await self.worker.drain(0 if not drain else PATIENCE_SECONDS)
        await self.hops.close()
        await self.scanning.close()
        await self.journal.close()

    async def restart(self, *, drain: bool = True, **changes: Any) -> None:
        """Stop and start again, with other options, and take over what the life before still holds."""
        await self.stop(drain=drain)
        for name, value in changes.items():
            assert hasattr(self, name), name
            setattr(self, name, value)
        with writing(self.engine) as connection:
            for holder in agenda.holders(connection):
                agenda.take_from(connection, holder)
        await self.start()

    # -- what a test does

    def put(self, *octets: bytes, user: str = "info", uidl: str | None = None) -> list[str]:
        """New mail in the mailbox; returns the UIDLs."""
        return [self.provider.put(user, one, uidl=uidl) for one in octets]

    async def poll(self, name: str = "info", *, retrieve: bool = True) -> bool:
        """Poll; what comes is delivered after it, unless `delivers_meanwhile`."""
        self._polls += 1
        if not self.delivers_meanwhile:
            self._no_poll.clear()
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                return await self.fetcher.poll_now(name, retrieve=retrieve)
        finally:
            self._polls -= 1
            if not self._polls:
                self._no_poll.set()

    async def settled(self) -> None:
        """Wait until nothing is in the worker's hands and nothing that may be tried is due."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self.worker.settled()

    async def through(self, name: str = "info") -> None:
        """Poll, deliver what came, poll again to remove it."""
        await self.poll(name)
        await self.settled()
        await self.poll(name)

    async def until(self, true: Callable[[], object]) -> None:
        """Wait for what no peer sees."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not true():
                await asyncio.sleep(0.002)

    # -- what a test looks at

    def means(self, **changes: Any) -> Means:
        """What parts of this gateway work with."""
        usual = {"journal": self.journal, "read": self.read, "policy": self.policy, "now": self.clock}
        return Means(**{"outage": self.outage} | usual | changes)

    async def read(self, function: Callable[[Connection], Any]) -> Any:
        reading = asyncio.ensure_future(asyncio.to_thread(self.read_now, function))
        self._reads.add(reading)
        reading.add_done_callback(self._reads.discard)
        return await asyncio.shield(reading)

    def read_now(self, function: Callable[[Connection], Any]) -> Any:
        with reachable(self.engine), reading(self.engine) as connection:
            return function(connection)

    def log(self) -> list[Recorded]:
        return list(self.read_now(lambda c: list(log.walk(c))))

    def events(self, kind: type[Event], stream: str | None = None) -> list[Any]:
        """The events of one kind, in the order of the log."""
        found = (one for one in self.log() if stream in (None, one.stream))
        return [one.event for one in found if isinstance(one.event, kind)]

    def messages(self) -> list[Message]:
        """Every message as its events tell it, oldest first."""
        streams = dict.fromkeys(one.stream for one in self.log())
        names = [stream for stream in streams if not stream.startswith(MAILBOX_PREFIX)]
        folded: dict[str, Message] = self.read_now(lambda c: log.messages(c, names)) if names else {}
        return [folded[name] for name in names]

    def message(self) -> Message:
        """The only message that came from a mailbox."""
        (one,) = (message for message in self.messages() if message.direction == "inbound")
        return one

    def mailbox(self, name: str = "info") -> Mailbox:
        found: Mailbox = self.read_now(lambda c: log.mailbox(c, name))
        return found

    def agenda(self, stream: str) -> Any:
        return self.read_now(lambda c: queries.lease(c, stream))

    def delivered(self, recipient: str = INFO, hop: str = "home") -> list[bytes]:
        """What the home server has for somebody, without the header lines we put in front, and without notices."""
        taken = self.homes[hop].taken_for(recipient)
        return [without_trace(one.octets) for one in taken if one.reverse_path]

    # -- how it is put together

    def _refused(self) -> None:
        self.journal_refused += 1

    def _policy(self) -> Policy:
        usual: dict[str, Any] = {
            "version": "3f2a91c04b7d",
            "hostname": "gate.example.com",
            "postmaster": POSTMASTER,
            "domains": ("example.com",),
            "routes": (RouteRule(recipients=("*",), next_hop="home"),),
            "hops": {
                name: HopPolicy(on_unknown=self.on_unknown, max_size_octets=self.max_size_octets)
                for name in self.homes
            },
            "scanners": tuple(one.policy for one in self.scanners),
        }
        return Policy(**(usual | self.policy_changes))

    def _hop(self, name: str) -> Hop:
        access = NextHopAccess(
            name=name,
            host="127.0.0.1",
            port=self.smtp_ports[name],
            tls="none",
            connections=self.connections,
            timeouts=NextHopTimeouts(quit_seconds=1.0),
        )
        adapter = _AfterPolls(access, "gate.example.com", self._no_poll)
        return Hop(adapter, self.policy.hops[name], self.connections, self.clock)

    def _pollable(self, name: str) -> Pollable:
        usual: dict[str, Any] = {
            "name": name,
            "rule": MailboxRule(recipients=(f"{name}@example.com",)),
            "removal": Removal(when="delivered"),
            "notify_oversize": True,
            "max_size_octets": None,
        }
        changes = {key: value for key, value in self.boxes[name].items() if key != "host"}
        plan = MailboxPlan(**(usual | changes))
        host = self.boxes[name].get("host", "pop.provider.example")
        return Pollable(plan=plan, host=host, every=timedelta(minutes=1), open=partial(self._open, name))

    async def _open(self, name: str) -> SourceSession:
        access = MailboxAccess(
            host="127.0.0.1", port=self.pop3_port, tls="none", username=name, secret=self._secret
        )
        return await open_session(access)

    async def _secret(self) -> str:
        return PASSWORD

    def _poll(self, plan: MailboxPlan, lease: Lease, last: Sequence[bytes]) -> Poll:
        worker = self.worker if self.works else None
        return Poll(self.means(), plan, lease, worker=worker, budget=self.budget, hops=self.hops, last=last)


class _AfterPolls(SmtpNextHop):
    """Hands nothing over while a test polls: else the poll may see the first messages delivered, or not."""

    def __init__(self, access: NextHopAccess, hello: str, no_poll: asyncio.Event) -> None:
        super().__init__(access, hello)
        self._no_poll = no_poll

    async def hand_over(self, transaction: Transaction, before_dot: Callable[[], Awaitable[None]]) -> Outcome:
        await self._no_poll.wait()
        return await super().hand_over(transaction, before_dot)


def without_trace(octets: bytes) -> bytes:
    """What stands behind our own Received field."""
    assert octets.startswith(b"Received: ")
    lines = octets.split(b"\r\n")
    own = next(n for n, line in enumerate(lines) if n and not line.startswith((b" ", b"\t")))
    assert b"(mailgate)" in b"".join(lines[:own])
    return b"\r\n".join(lines[own:])
