"""Take a message from step to step: lease, fold, plan, perform, decide, append.

Keeps nothing between steps that the log does not know: killing it loses time only. What was just taken in is
worked on from memory; everything else is claimed from the agenda, lane by lane, so that a dead or slow next hop
delays nobody else. A positive answer in hand is appended until the store takes it.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeVar

from sqlalchemy import Connection

from engine import intake, seams
from engine.budget import OctetBudget
from engine.core import report, trace
from engine.core.decide import decide, untried
from engine.core.outcome import NoAnswer, Octets, Outcome, Reply, Transaction
from engine.core.plan import NO_OCTETS, HandOver, Record, Rest, plan
from engine.core.policy import Policy
from engine.hop import Hop
from engine.journal import Journal
from store import agenda, contents, log, queries
from store.agenda import Claim, Lease
from store.errors import Conflict, Damaged, LeaseLost, StoreError, UnknownEvent
from store.events import Attempted, Delivered, Event, Failed, MessageEvent, RejectedOversize, Relayed
from store.life import Message
from store.log import Append, Unit

T = TypeVar("T")
Read = Callable[[Callable[[Connection], T]], Awaitable[T]]

LIVES_LIMIT = 4_096  # messages worked on at once; each is some kilobytes without its octets
CLAIM_SIZE = 200  # at once from one lane: a few commits' worth
# Attempts per connection: while one is under way, the next ones' `attempted` become durable, in one commit. A crash leaves
# these as outcome-unknown though nothing was sent; where such are held for a person, each must be worth the look.
AHEAD = 4
AHEAD_WHERE_HELD = 1
LOOK_EVERY_SECONDS = 1.0  # for what became due, or was put there by another process
STORE_RETRY_SECONDS = 1.0
UNREADABLE = timedelta(hours=1)  # until a message is looked at again whose events this program can't read
LONG_WAIT = timedelta(
    days=1
)  # behind a next hop that rests: then the message is looked at, and given up in its time

logger = logging.getLogger("mailgate.worker")


@dataclass(slots=True)
class Life:
    """A message in our hands."""

    message: Message
    lease: Lease
    octets: Octets | None = None
    share: int = 0  # of the budget


class Worker:
    """Works off the agenda. For one event loop; run `run` as a task."""

    def __init__(
        self,
        *,
        journal: Journal,
        read: Callable[[Callable[[Connection], Any]], Awaitable[Any]],
        policy: Policy,
        hops: Mapping[str, Hop],
        hosts: Mapping[str, str],
        budget: OctetBudget,
        holder: str,
        now: Callable[[], datetime],
    ) -> None:
        self._journal = journal
        self._read = read
        self._policy = policy
        self._hops = hops
        self._hosts = hosts  # of mailboxes, for the trace
        self._budget = budget
        self._holder = holder
        self._now = now
        self._lives: dict[str, Life] = {}
        self._coming: Counter[str] = Counter()  # by next hop: on their way through the journal
        self._wake = asyncio.Event()
        self._claiming = asyncio.Lock()  # who waits for it sees what the other claimed
        self._tasks: set[asyncio.Task[None]] = set()
        self._draining = False

    def claim(self) -> Claim:
        """Return our claim on a stream, as of now."""
        return Claim(self._holder, self._now() + agenda.LEASE_TERM)

    def room(self, next_hop: str) -> bool:
        """Whether a message that comes in for a next hop may stay in memory; its place is kept until `take` or `leave`.

        Half of the budget is left to what is being fetched: fetching never waits for a slow next hop. And each next
        hop has its share of the lives: a slow one fills no more.
        """
        if self._draining or len(self._lives) + self._coming.total() >= LIVES_LIMIT:
            return False
        hop = self._hops.get(next_hop)
        if hop is None or hop.gate() != "open" or hop.queue.qsize() + self._coming[next_hop] >= self._share():
            return False
        if self._budget.used_octets > self._budget.total_octets // 2:
            return False
        self._coming[next_hop] += 1
        return True

    def leave(self, next_hop: str) -> None:
        """A message for which there was room does not come after all."""
        self._coming[next_hop] -= 1

    def _share(self) -> int:
        """How many lives may wait for one next hop; one share is left for what has none yet."""
        return LIVES_LIMIT // (1 + len(self._hops))

    def take(self, message: Message, octets: Octets, share: int) -> None:
        """Go on with a message that was just taken in under our claim, and with its share of the budget."""
        self.leave(message.lane)
        life = Life(message, Lease(message.id, agenda.first_fence(message)), octets, share)
        self._lives[message.id] = life
        self._step(life)

    def wake(self) -> None:
        """Look at the agenda now."""
        self._wake.set()

    async def run(self) -> None:
        """Work until cancelled."""
        async with asyncio.TaskGroup() as group:
            for hop in self._hops.values():
                held = self._policy.hops[hop.name].on_unknown == "hold"
                for _ in range(hop.connections * (AHEAD_WHERE_HELD if held else AHEAD)):
                    group.create_task(self._serve(hop))
            group.create_task(self._look())

    async def settled(self) -> None:
        """Wait until nothing is in our hands and nothing that may be tried is due."""
        while True:
            while self._lives or self._tasks:
                await asyncio.sleep(0.002)
            if not await self._claim_due() and not self._lives and not self._tasks:
                return

    async def drain(self, seconds: float) -> None:
        """Begin nothing new, and let what is under way come to its end, for so long."""
        self._draining = True
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                for hop in self._hops.values():
                    while not hop.queue.empty():
                        life, _ = hop.queue.get_nowait()
                        self._spawn(self._let_go(life))
                while self._lives or self._tasks:
                    await asyncio.sleep(0.01)

    # -- from the agenda

    async def _look(self) -> None:
        while True:
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_EVERY_SECONDS):
                    await self._wake.wait()
            self._wake.clear()
            try:
                while not self._draining and await self._claim_due():
                    pass
            except StoreError as error:
                logger.error("%s", error)
                await asyncio.sleep(STORE_RETRY_SECONDS)

    async def _claim_due(self) -> bool:
        """Claim what is due and may be tried; says whether there was any."""
        async with self._claiming:
            return await self._claim_due_now()

    async def _claim_due_now(self) -> bool:
        now = self._now()
        lanes = [lane for lane in await self._read(agenda.lanes) if lane != agenda.POLL]
        wanted = [(lane, *self._capacity(lane, now)) for lane in lanes]
        due = await self._read(lambda c: [w for w in wanted if w[1] > 0 and agenda.any_due(c, w[0], w[2])])
        if not due:
            return False
        claim = self.claim()
        leases: list[Lease] = await self._journal.call(
            lambda c: [x for lane, size, until in due for x in agenda.claim(c, lane, claim, until, size)]
        )
        try:
            messages = await self._messages([lease.stream for lease in leases])
        except StoreError:
            for lease in leases:
                self._spawn(self._give_back(lease))
            raise
        for lease in leases:
            if lease.stream in messages:
                life = Life(messages[lease.stream], lease)
                self._lives[lease.stream] = life
                self._step(life)
            else:
                self._spawn(self._give_back(lease, now + UNREADABLE))
        return bool(messages)

    async def _messages(self, streams: list[str]) -> dict[str, Message]:
        """Fold these messages; one that can't be read is left out, and keeps no other back."""
        with suppress(UnknownEvent, Damaged):
            found: dict[str, Message] = await self._read(lambda c: log.messages(c, streams))
            return found
        readable: dict[str, Message] = {}
        for stream in streams:
            try:
                readable |= await self._read(partial(log.messages, streams=[stream]))
            except (UnknownEvent, Damaged) as error:
                logger.error("%s: %s", stream, error)
        return readable

    def _capacity(self, lane: str, now: datetime) -> tuple[int, datetime]:
        """How many of a lane may be claimed, and due until when.

        Of a next hop that rests only what waits for long: it may have to be given up.
        """
        room = min(CLAIM_SIZE, LIVES_LIMIT - len(self._lives))
        hop = self._hops.get(lane)
        if hop is None:
            return room, now
        match hop.gate():
            case "open":
                return min(room, self._share() - hop.queue.qsize()), now
            case "probe":
                return min(room, 1), now
            case "closed":
                return room, now - LONG_WAIT

    async def renew(self) -> None:
        """Keep what we hold, polls included, until cancelled."""
        while True:
            await asyncio.sleep(agenda.RENEW_EVERY.total_seconds())
            try:
                await self._journal.call(lambda c: agenda.renew(c, self.claim()))
            except StoreError as error:
                logger.error("leases can't be renewed: %s", error)

    # -- one step

    def _step(self, life: Life) -> None:
        step = plan(life.message, self._policy, self._now())
        match step:
            case HandOver():
                hop = self._hops[step.next_hop]
                if hop.gate() == "closed":
                    self._spawn(self._postpone(life, step, hop))
                else:
                    hop.queue.put_nowait((life, step))
            case Record():
                self._spawn(self._record(life, step.events))
            case Rest():
                self._spawn(self._let_go(life))

    async def _record(self, life: Life, events: tuple[MessageEvent, ...]) -> None:
        """Append a decision that needed no attempt, and go on to the next step."""
        after = await self._settle(life, life.message, events, keep=True)
        if after is None:
            self._finish(life)
        elif after.open:
            life.message = after
            self._step(life)
        else:
            await self._let_go(life)

    async def _let_go(self, life: Life) -> None:
        await self._give_back(life.lease)
        self._finish(life)

    async def _give_back(self, lease: Lease, wake_at: datetime | None = None) -> None:
        """Give a lease back, however long it takes: one that we keep is renewed for ever, and nobody works on it."""
        await self._surely(
            lease.stream, lambda: self._journal.call(lambda c: agenda.give_back(c, lease, wake_at))
        )

    async def _surely(self, stream: str, call: Callable[[], Awaitable[T]]) -> T:
        """Do it, and again while the store can't. Raises Conflict and LeaseLost: these are answers."""
        while True:
            try:
                return await call()
            except (Conflict, LeaseLost):
                raise
            except StoreError as error:
                logger.error("%s: %s; trying again", stream, error)
                await asyncio.sleep(STORE_RETRY_SECONDS)

    async def _postpone(self, life: Life, step: HandOver, hop: Hop) -> None:
        """The next hop is known to be down: wait with it, untried."""
        retry_at = hop.probe_at or self._now()
        event = untried(
            life.message, step, self._policy, retry_at, f"{hop.name} is down: {hop.reply}", self._now()
        )
        await self._settle(life, life.message, (event,))
        self._finish(life)

    # -- one attempt

    async def _serve(self, hop: Hop) -> None:
        """One connection's worth of work, one message after the other."""
        while True:
            life, step = await hop.queue.get()
            gate = hop.gate()
            if gate == "closed":
                await self._postpone(life, step, hop)
                continue
            hop.probing = gate == "probe"
            try:
                await self._attempt(hop, life, step)
            except StoreError as error:
                logger.error("%s: %s", life.message.id, error)
                self._spawn(self._later(life, error))
            finally:
                if gate == "probe":
                    hop.probing = False
                    self.wake()

    async def _later(self, life: Life, error: StoreError) -> None:
        """The store refused what must stand before the dot: begin again, from what is on record then."""
        if not isinstance(error, Conflict | LeaseLost):
            await asyncio.sleep(STORE_RETRY_SECONDS)
        await self._let_go(life)
        self.wake()

    async def _attempt(self, hop: Hop, life: Life, step: HandOver) -> None:
        """Hand over, with `attempted` on record before the final dot."""
        octets = await self._octets(life)
        if octets is None:
            return await self._without_octets(life, step)
        attempted = Attempted(
            numbers=step.numbers,
            next_hop=step.next_hop,
            attempt=step.attempt,
            rule=step.rule,
            policy=self._policy.version,
            recipients=step.recipients,
        )
        append = Append(life.message.id, life.message, (attempted,), self._now())
        durable = self._journal.append(Unit((append,), lease=life.lease, keep=True))

        async def before_dot() -> None:
            await asyncio.shield(durable)
            seams.reached("before-dot")

        transaction = Transaction(
            reverse_path=life.message.reverse_path,
            recipients=step.recipients,
            prefix=self._trace(life.message),
            content=octets,
            clean=not life.message.bare_newlines,
        )
        try:
            outcome = await hop.adapter.hand_over(transaction, before_dot)
        except StoreError:
            raise
        except Exception as error:  # a fault of ours, in one message, must not end the work on the others
            logger.exception("%s: handing over broke", life.message.id)
            unknown = NoAnswer(f"handing over broke: {type(error).__name__}: {error}")
            outcome = Outcome((unknown,) * len(step.numbers), "", "none", 0)
        finally:
            if not durable.done():
                await asyncio.wait([durable])
        durable.result()
        seams.reached("answered")
        # At once: the next message must know what this one has shown of the next hop.
        retry_at = self._standing(hop, outcome)
        self._spawn(self._conclude(hop, life, append.after, step, outcome, retry_at))
        return None

    async def _conclude(
        self, hop: Hop, life: Life, before: Any, step: HandOver, outcome: Outcome, retry_at: datetime
    ) -> None:
        events = decide(
            before,
            step,
            outcome,
            self._policy,
            self._now(),
            jitter=random.random(),
            hop_retry_at=retry_at,
        )
        for event in events:
            if isinstance(event, RejectedOversize):
                hop.learn(event.limit_octets)
        after = await self._settle(life, before, events)
        self._finish(life)
        if after is not None and after.due_at is not None and after.due_at <= self._now():
            self.wake()

    def _standing(self, hop: Hop, outcome: Outcome) -> datetime:
        """Take note of how the next hop as a whole did; returns when it may be tried again."""
        blame = [a for a in outcome.answers if isinstance(a, Reply) and a.scope == "next-hop"]
        if blame:
            return hop.failed(self._policy, blame[0].said, random.random())
        if outcome.address:  # else nobody was asked
            hop.worked()
        return self._now()

    async def _octets(self, life: Life) -> Octets | None:
        """Return the octets, read back where they aren't in memory; None where they aren't what arrived, or gone."""
        if life.octets is None:
            life.share = await self._budget.take(life.message.size_octets)
            message = life.message
            try:
                life.octets = await self._read(lambda c: contents.get(c, message))
            except Damaged as error:
                logger.error("%s", error)
        return life.octets

    async def _without_octets(self, life: Life, step: HandOver) -> None:
        """Nothing to hand over: say so on the message, and look again, for a backup may be restored."""
        logger.error("%s: %s", life.message.id, NO_OCTETS)
        now = self._now()
        event = untried(life.message, step, self._policy, now + self._policy.cap, NO_OCTETS, now)
        await self._settle(life, life.message, (event,))
        self._finish(life)

    def _trace(self, message: Message) -> bytes:
        """Return the header lines to put in front."""
        if message.mailbox is None:
            return b""
        host = self._hosts.get(message.mailbox)
        return trace.received(
            hostname=self._policy.hostname,
            source=f"mailbox {message.mailbox}" + (f" at {host}" if host else ""),
            protocol="POP3",
            id=message.id,
            recipient=message.recipients[0].address if len(message.recipients) == 1 else None,
            now=message.opened_at,
        )

    # -- appending what came of it

    async def _settle(
        self, life: Life, before: Message, events: tuple[MessageEvent, ...], *, keep: bool = False
    ) -> Message | None:
        """Append events, with the notices they call for; returns the message after, None where it isn't ours.

        While the store is down this waits: what we know must not be lost.
        """
        while True:
            appends = self._appends(before, events)
            unit = Unit(appends, lease=life.lease, keep=keep)
            try:
                await self._surely(before.id, partial(self._journal.append, unit))
            except (Conflict, LeaseLost) as error:
                moved = await self._surely(
                    before.id, lambda: self._read(lambda c: log.message(c, life.message.id))
                )
                if isinstance(error, Conflict) and _still_news(before, moved, events):
                    before = (
                        moved  # something else happened to the message, such as its removal from the mailbox
                    )
                    continue
                await self._insist(before.id, events, error)
                await self._give_back(life.lease)
                return None
            if len(appends) > 1:
                self.wake()
            return appends[0].after if isinstance(appends[0].after, Message) else None

    async def _insist(self, stream: str, events: tuple[MessageEvent, ...], error: StoreError) -> None:
        """The stream moved on without us. A positive answer is a fact all the same: append it where it is news."""
        logger.warning("%s", error)
        for event in events:
            while isinstance(event, Delivered | Relayed):
                message = await self._surely(stream, lambda: self._read(lambda c: log.message(c, stream)))
                open_numbers = {r.number for r in message.recipients if r.open} if message else set()
                if not open_numbers.intersection(event.numbers):
                    break
                unit = Unit((Append(stream, message, (event,), self._now()),))
                with suppress(Conflict):
                    await self._surely(stream, partial(self._journal.append, unit))
                    break

    def _appends(self, before: Message, events: tuple[MessageEvent, ...]) -> tuple[Append, ...]:
        now = self._now()
        append = Append(before.id, before, events, now)
        kinds = {type(event): event for event in reversed(events)}  # one notice tells all that failed alike
        notices = [self._notice(append.after, event, now) for event in kinds.values()]
        opened = [pair for pair in notices if pair is not None]
        if not opened:
            return (append,)
        told: tuple[Event, ...] = tuple(reported for _, reported in opened)
        return (Append(before.id, before, events + told, now), *(notice for notice, _ in opened))

    def _notice(self, after: Any, event: MessageEvent, now: datetime) -> tuple[Append, Any] | None:
        """Tell the postmaster of what failed for good; never about a notice."""
        if not isinstance(event, Failed | RejectedOversize) or after.direction != "inbound":
            return None
        told = {"hostname": self._policy.hostname, "postmaster": self._policy.postmaster}
        if isinstance(event, Failed):
            written = report.failure(after, **told, notice_id=intake.new_id(now), now=now)
            return intake.notice("failure", after, written, now)
        written = report.oversize(
            after,
            event.limit_octets,
            recipient=self._policy.postmaster,
            **told,
            notice_id=intake.new_id(now),
            now=now,
        )
        return intake.notice("oversize", after, written, now)

    def _finish(self, life: Life) -> None:
        """Let go of a message's octets and of the message."""
        if self._lives.get(life.message.id) is life:
            del self._lives[life.message.id]
        if life.share:
            self._budget.give_back(life.share)
            life.share = 0
        life.octets = None

    def _spawn(self, work: Any) -> None:
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("a step broke: %s", error, exc_info=error)


def _still_news(before: Message, moved: Message | None, events: tuple[MessageEvent, ...]) -> bool:
    """Whether nobody touched the recipients these events are about."""
    if moved is None:
        return False
    numbers = {number for event in events for number in getattr(event, "numbers", ())}
    return all(
        old == new
        for old, new in zip(before.recipients, moved.recipients, strict=True)
        if old.number in numbers or not numbers
    )


def remember(hops: Mapping[str, Hop], connection: Connection) -> None:
    """Take over what the log says of each next hop."""
    for row in queries.hops(connection):
        if row["next_hop"] in hops and "failures" in row:
            hops[row["next_hop"]].remember(row)
