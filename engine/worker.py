"""Take a message from step to step: lease, fold, plan, perform, decide, append.

Keeps nothing between steps that the log does not know: killing it loses time only. What was just taken in is
worked on from memory; everything else is claimed from the agenda (`due`). A step that needs the next hop waits in its
queue (`attempts`); what came of any step is appended until the store takes it (`settler`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress

from engine.asking import Here
from engine.attempts import Attempts
from engine.budget import OctetBudget
from engine.core.outcome import Octets
from engine.core.plan import HandOver, Record, Rest, Scan, due_to, plan
from engine.core.verdict import wanting
from engine.due import LONG_WAIT, Due
from engine.hops import DomainHop, Hops
from engine.lives import Life, Lives
from engine.means import Means
from engine.precedence import Precedence
from engine.returned import Returned
from engine.scanning import Scanning
from engine.settler import STORE_RETRY_SECONDS, Settler
from engine.steps import Steps
from store import agenda
from store.agenda import Claim, Lease
from store.errors import StoreError
from store.events import MessageEvent
from store.life import Message

# Attempts per connection: while one is under way, the next ones' `attempted` become durable, in one commit. A crash leaves
# these as outcome-unknown though nothing was sent; where such are held for a person, each must be worth the look. Only where
# much waits are there so many: measured, 16 move a tenth more mail than 4, with a third of the commits.
AHEAD = 16
AHEAD_WHERE_HELD = 1
AHEAD_DIRECTLY = 1  # a foreign server's round trips leave time enough for a commit
LOOK_EVERY_SECONDS = 1.0  # for what became due, or was put there by another process


class Worker:
    """Works off the agenda. For one event loop; run `run` as a task."""

    def __init__(
        self,
        means: Means,
        *,
        hops: Hops,
        hosts: Mapping[str, str],
        budget: OctetBudget,
        holder: str,
        scanning: Scanning | None = None,
    ) -> None:
        self._means = means
        self._hops = hops
        self._scanning = scanning or Scanning(Here({}), means.policy, means.now)
        self._holder = holder
        self.lives = Lives(hops, budget)
        self.precedence = Precedence(self._catch_up)
        self._taken: list[Life] = []  # in a burst, and not started with yet
        self._settler = Settler(means, told=self.wake)
        self._steps = Steps(means, lives=self.lives, settler=self._settler, wake=self.wake)
        self._returned = Returned(means, settler=self._settler)
        self._due = Due(
            means,
            hops=hops,
            lives=self.lives,
            settler=self._settler,
            scanning=self._scanning,
            claim=self.claim,
            long_wait=min(LONG_WAIT, means.policy.warn_after),
        )
        self._attempts = Attempts(
            means,
            hosts=hosts,
            budget=budget,
            lives=self.lives,
            settler=self._settler,
            steps=self._steps,
            wake=self.wake,
            turn=self.precedence.turn,
        )
        self._directly: asyncio.TaskGroup | None = None  # where domains are served, while this runs
        self._wake = asyncio.Event()
        self._claiming = asyncio.Lock()  # who waits for it sees what the other claimed

    def claim(self) -> Claim:
        """Return our claim on a stream, as of now."""
        return Claim(self._holder, self._means.now() + agenda.LEASE_TERM)

    def take(self, message: Message, octets: Octets, share: int) -> None:
        """Go on with a message that was just taken in under our claim, and with its share of the budget."""
        life = Life(message, Lease(message.id, agenda.first_fence(message)), octets, share)
        self.lives.begin(life)
        if self.precedence.free:
            self._start(life)
        else:
            self._taken.append(life)

    def _start(self, life: Life) -> None:
        self.lives.leave(life.message.lane)  # its place among those that come; the step gives it another
        self._step(life)

    def _catch_up(self) -> None:
        """Start with what was taken in while that came first."""
        taken, self._taken = self._taken, []
        for life in taken:
            self._start(life)

    def wake(self) -> None:
        """Look at the agenda now."""
        self._wake.set()

    async def run(self) -> None:
        """Work until cancelled."""
        try:
            async with asyncio.TaskGroup() as group:
                for hop in self._hops.fixed.values():
                    held = self._means.policy.hops[hop.name].on_unknown == "hold"
                    for _ in range(hop.connections * (AHEAD_WHERE_HELD if held else AHEAD)):
                        group.create_task(self._attempts.serve(hop))
                self._directly = group
                for domain in self._hops.domains():
                    self._serve_directly(domain)
                group.create_task(self._look())
        finally:
            self._directly = None

    async def settled(self) -> None:
        """Wait until nothing is in our hands and nothing that may be tried is due."""
        while True:
            while self.lives.busy:
                await asyncio.sleep(0.002)
            begun = self.lives.begun
            if not await self._claim_due() and not self.lives.busy and self.lives.begun == begun:
                return  # else what came and went while we looked may have left a notice behind that we did not see

    async def drain(self, seconds: float) -> None:
        """Begin nothing new, and let what is under way come to its end, for so long."""
        self.lives.draining = True
        self.precedence.end()  # what is taken in by now is let go, or tried, like all else
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                for hop in self._hops.present():
                    while not hop.queue.empty():
                        life, _ = hop.queue.get_nowait()
                        self._steps.begin(life, self._let_go(life))
                while self.lives.busy:
                    await asyncio.sleep(0.01)

    # -- from the agenda

    async def _look(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY_SECONDS):
                    await self._wake.wait()
            self._wake.clear()
            self._hops.forget(self._means.now())
            try:
                while not self.lives.draining and await self._claim_due():
                    pass
            except StoreError as error:
                self._means.outage.say(error)
                await asyncio.sleep(STORE_RETRY_SECONDS)

    async def _claim_due(self) -> bool:
        """Claim what is due and may be tried; says whether there was any."""
        async with self._claiming:
            lives = await self._due.claimed()
            for life in lives:
                self.lives.begin(life)
                self._step(life)
            return bool(lives)

    # -- one step

    def _step(self, life: Life) -> None:
        if Returned.unread(life.message):
            self._steps.begin(life, self._read_report(life))
        else:
            self._go_on(life)

    async def _read_report(self, life: Life) -> None:
        await self._returned.take(life)
        self._go_on(life)

    def _go_on(self, life: Life) -> None:
        try:
            step = plan(life.known, self._means.policy, self._means.now(), self._hops.wait)
        except Exception as error:  # noqa: BLE001 - a fault of ours, in one message, must not end the work on the others
            self._steps.broke(life, error)
            return
        match step:
            case HandOver():
                hop = self._hops[step.next_hop]
                if hop.gate(life.message.ordered_at) == "closed":
                    self._steps.begin(life, self._attempts.postpone(life, step, hop))
                else:
                    hop.queue.put_nowait((life, step))
                    if isinstance(hop, DomainHop):
                        self.lives.give(life, hop.name)
                        self._serve_directly(hop)
            case Scan():
                self._steps.begin(life, self._scan(life, step))
            case Record():
                self._steps.begin(life, self._record(life, step.events))
            case Rest():
                self._steps.begin(life, self._let_go(life))

    def _serve_directly(self, hop: DomainHop) -> None:
        """Have a domain's queue worked off, by a task for each message, and for each connection at most."""
        if self._directly is None:
            return
        for _ in range(min(hop.connections * AHEAD_DIRECTLY - hop.servers, hop.queue.qsize())):
            hop.servers += 1
            self._directly.create_task(self._attempts.serve_out(hop))

    async def _record(self, life: Life, events: tuple[MessageEvent, ...]) -> None:
        """Append a decision that needed no attempt, and go on to the next step."""
        after = await self._settler.settle(life.lease, life.message, (*life.pending, *events), keep=True)
        if after is None:
            self.lives.end(life)
        elif after.open:
            life.moved(after)
            self._go_on(life)
        else:
            await self._let_go(life)

    async def _scan(self, life: Life, step: Scan) -> None:
        """Have it scanned, and go on; or wait with it, where a scanner could not be asked."""
        hop = life.message.first_hop or ""
        self.lives.scan(hop)
        try:
            async with self._scanning.seat(step.scanners, life.message.size_octets):
                done = self.lives.draining or await self._scanned(life, step)
        finally:
            self.lives.scanned(hop)
        if not done:
            return
        if life.message.awaited is not None:
            self.wake()  # others may have waited for what this one has shown of the scanner
        crowded = life.message.awaited is not None and self.lives.places(hop) <= 0
        if self.lives.draining or crowded or wanting(life.known, self._means.policy.scanners):
            await self._let_go(life)
        else:
            self._go_on(life)

    async def _scanned(self, life: Life, step: Scan) -> bool:
        """Learn what these scanners say; False where there is nothing that they could be asked about."""
        if self._scanning.rest(step.scanners):
            verdicts = self._scanning.untried(life.known, step.scanners)
        else:
            octets = await self._attempts.octets(life)
            if octets is None:
                await self._attempts.without_octets(life, due_to(life.known, self._means.now()))
                return False
            verdicts = await self._scanning.scan(life.known, octets, step.scanners)
        life.learn(verdicts, self._means.now())
        return True

    async def _let_go(self, life: Life) -> None:
        if life.pending:
            await self._settler.settle(life.lease, life.message, life.pending)
        else:
            await self._settler.give_back(life.lease)
        self.lives.end(life)
