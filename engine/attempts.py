"""One attempt after the other: hand a message over, with `attempted` on record first and the outcome behind it.

For each connection of a next hop one task serves its queue. What an answer shows of the next hop counts at once, for the
next message; what it means for this one goes into the log beside the next attempt.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime, timedelta
from typing import Any

from engine import seams
from engine.budget import OctetBudget, while_read
from engine.core import bounce, dsn, tagging, trace
from engine.core.decide import decide, untried
from engine.core.outcome import NoAnswer, Octets, Outcome, Reply, ReportWish, Transaction
from engine.core.plan import NO_OCTETS, HandOver
from engine.core.tagging import Outgoing
from engine.hop import Hop
from engine.hops import DomainHop
from engine.lives import Life, Lives
from engine.means import Means
from engine.on_record import OnRecord
from engine.settler import Settler
from engine.steps import Steps
from store import contents
from store.errors import Damaged, StoreError
from store.events import Attempted, RejectedOversize
from store.life import Message
from store.log import Append
from store.message import NOW_LANE

PROBE_TERM = timedelta(minutes=1)  # a probe is over by then, or its next hop is slow

logger = logging.getLogger("mailgate.worker")


class Attempts:
    """Works off the queues of the next hops. `wake` is called when the agenda may have something new."""

    def __init__(
        self,
        means: Means,
        *,
        hosts: Mapping[str, str],
        budget: OctetBudget,
        lives: Lives,
        settler: Settler,
        steps: Steps,
        wake: Callable[[], None],
        turn: Callable[[], Awaitable[None]],
    ) -> None:
        self._means = means
        self._hosts = hosts  # of mailboxes, for the trace
        self._budget = budget
        self._lives = lives
        self._settler = settler
        self._steps = steps
        self._wake = wake
        self._turn = turn

    async def serve(self, hop: Hop) -> None:
        """One connection's worth of work, one message after the other, until cancelled."""
        us = asyncio.current_task()
        # Asked for besides: before Python 3.12 `wait_for` swallows it where an answer comes at the same moment.
        while us is None or not us.cancelling():
            await self._turn()
            life, step = await hop.queue.get()
            await self._turn()
            await self._serve(hop, life, step)

    async def serve_out(self, hop: DomainHop) -> None:
        """The same for a domain, until its queue is empty: nobody waits at thousands of queues."""
        try:
            while not hop.queue.empty():
                life, step = hop.queue.get_nowait()
                await self._serve(hop, life, step)
        finally:
            hop.servers -= 1
            hop.used_at = self._means.now()

    async def _serve(self, hop: Hop, life: Life, step: HandOver) -> None:
        gate = hop.gate(life.message.ordered_at)
        if gate == "closed":
            await self.postpone(life, step, hop)
            return
        hop.probing = gate == "probe"
        hop.under_way += 1
        try:
            await self._attempt(hop, life, step)
        except Exception as error:  # noqa: BLE001 - a fault of ours, in one message, must not end the work on the others
            self._steps.broke(life, error)
        finally:
            hop.under_way -= 1
            if gate == "probe":
                hop.probing = False
                self._wake()

    async def postpone(self, life: Life, step: HandOver, hop: Hop) -> None:
        """The next hop is known to be down: wait with it, untried. What is to be tried now waits for what a probe shows."""
        if hop.probing and life.message.lane == NOW_LANE + hop.name:  # which nobody claims meanwhile
            if life.pending:
                await self._settler.settle(life.lease, life.message, life.pending)
            else:
                await self._settler.give_back(life.lease)
            self._lives.end(life)
            return
        retry_at = hop.probe_at or self._means.now()
        if (
            not life.known.lane
        ):  # due with others: it would come again at once for as long as the probe is under way
            retry_at = max(retry_at, self._means.now() + PROBE_TERM)
        event = untried(
            life.message,
            step,
            self._means.policy,
            retry_at,
            f"{hop.name} is down: {hop.reply}",
            self._means.now(),
        )
        after = await self._settler.settle(life.lease, life.message, (*life.pending, event))
        self._lives.end(life)
        self._wake_for(after)

    async def _attempt(self, hop: Hop, life: Life, step: HandOver) -> None:
        """Hand over, with `attempted` on record before the final dot."""
        octets = await self.octets(life)
        if octets is None:
            return await self.without_octets(life, step)
        try:
            out = tagging.outgoing(life.known, octets, self._means.policy)
        except Exception as error:  # a fault of ours, as below: nothing goes out without what we have to say
            logger.exception("%s: tagging broke", life.message.id)
            return await self._put_off(life, step, f"tagging broke: {type(error).__name__}: {error}")
        record = OnRecord(self._means, self._recorded(life, step, out), life.lease)

        async def before_dot() -> None:
            await record.stands()
            seams.reached("before-dot")

        try:
            transaction = self._transaction(life.known, step, octets, out)
            outcome = await hop.adapter.hand_over(transaction, before_dot)
        except StoreError:
            raise
        except Exception as error:  # a fault of ours, in one message, must not end the work on the others
            logger.exception("%s: handing over broke", life.message.id)
            unknown = NoAnswer(f"handing over broke: {type(error).__name__}: {error}")
            outcome = Outcome((unknown,) * len(step.numbers), "", "none", 0)
        finally:
            await record.over()
        append = await record.stands()
        seams.reached("answered")
        # At once: the next message must know what this one has shown of the next hop.
        retry_at = self._standing(hop, outcome)
        self._steps.begin(life, self._conclude(hop, life, append.after, step, outcome, retry_at))
        return None

    def _recorded(self, life: Life, step: HandOver, out: Outgoing) -> Append:
        """Return what says that an attempt is made, behind what was decided of the message and is not on record yet."""
        attempted = Attempted(
            numbers=step.numbers,
            next_hop=step.next_hop,
            attempt=step.attempt,
            rule=step.rule,
            tags=out.tags,
            renamed=out.renamed,
            policy=self._means.policy.version,
            recipients=step.recipients,
        )
        events = (*life.pending, attempted)
        return Append(life.message.id, life.message, events, self._means.now(), begun=life.seen)

    def _transaction(self, message: Message, step: HandOver, octets: Octets, out: Outgoing) -> Transaction:
        lines = self._trace(message) + out.lines
        return Transaction(
            reverse_path=message.reverse_path,
            recipients=step.recipients,
            prefix=b"".join((lines, trace.bridge(octets) if lines else b"", out.beginning)),
            content=out.rest,
            clean=not message.bare_newlines,
            wish=_wish(message, step.numbers, self._means.policy.hostname),
            smtputf8=message.smtputf8,
        )

    async def _conclude(
        self, hop: Hop, life: Life, before: Any, step: HandOver, outcome: Outcome, retry_at: datetime
    ) -> None:
        events = decide(
            before,
            step,
            outcome,
            self._means.policy,
            self._means.now(),
            jitter=random.random(),
            hop_retry_at=retry_at,
        )
        for event in events:
            if isinstance(event, RejectedOversize) and event.tried:
                hop.learn(event.limit_octets)
        after = await self._settler.settle(life.lease, before, events)
        self._lives.end(life)
        self._wake_for(after)

    def _wake_for(self, after: Message | None) -> None:
        """Something of it may be due at once: other recipients, at another next hop."""
        if after is not None and after.due_at is not None and after.due_at <= self._means.now():
            self._wake()

    def _standing(self, hop: Hop, outcome: Outcome) -> datetime:
        """Take note of how the next hop as a whole did; returns when it may be tried again."""
        blame = [a for a in outcome.answers if isinstance(a, Reply) and a.scope == "next-hop"]
        if blame:
            return hop.failed(self._means.policy, blame[0].said, random.random())
        hop.took_seconds = outcome.duration_ms / 1000
        if outcome.address:  # else nobody was asked
            hop.worked()
        return self._means.now()

    async def octets(self, life: Life) -> Octets | None:
        """Return the octets, read back where they aren't in memory; None where they aren't what arrived, or gone."""
        if life.octets is None:
            message = life.message
            life.share = await self._budget.take(while_read(message.size_octets))
            try:
                life.octets = await self._means.read(lambda c: contents.get(c, message))
            except Damaged as error:
                logger.error("%s", error)
            life.share = self._budget.settle(life.share, message.size_octets)
        return life.octets

    async def without_octets(self, life: Life, step: HandOver) -> None:
        """Nothing to hand over: say so on the message, and look again, for a backup may be restored."""
        logger.error("%s: %s", life.message.id, NO_OCTETS)
        await self._put_off(life, step, NO_OCTETS)

    async def _put_off(self, life: Life, step: HandOver, why: str) -> None:
        now = self._means.now()
        event = untried(life.message, step, self._means.policy, now + self._means.policy.cap, why, now)
        await self._settler.settle(life.lease, life.message, (*life.pending, event))
        self._lives.end(life)

    def _trace(self, message: Message) -> bytes:
        """Return our own Received field; none on what we wrote ourselves."""
        only = message.recipients[0].address if len(message.recipients) == 1 else None
        if message.protocol:
            return trace.received(
                hostname=self._means.policy.hostname,
                source=message.helo,
                protocol=message.protocol,
                id=message.id,
                recipient=only,
                now=message.opened_at,
                peer_ip=message.peer,
            )
        if message.mailbox is None:
            return b""
        host = self._hosts.get(message.mailbox)
        return trace.received(
            hostname=self._means.policy.hostname,
            source=f"mailbox {message.mailbox}" + (f" at {host}" if host else ""),
            protocol="POP3",
            id=message.id,
            recipient=only,
            now=message.opened_at,
        )


def _wish(message: Message, numbers: tuple[int, ...], hostname: str) -> ReportWish | None:
    """Return what the client asked for about reports, for these recipients; None for nothing.

    What goes out carries our own ENVID and ORCPT where the client gave none, so that a report that comes back can be told.
    """
    those = [r for r in message.recipients if r.number in numbers]
    notify, orcpt = tuple(r.notify for r in those), tuple(r.orcpt for r in those)
    envid = message.envid
    if message.protocol and message.direction == "outbound":
        envid = envid or dsn.xtext(bounce.own_envid(message.id, hostname))
        orcpt = tuple(r.orcpt or dsn.orcpt(r.address) for r in those)
    if not (any(notify) or any(orcpt) or envid or message.ret):
        return None
    return ReportWish(ret=message.ret, envid=envid, notify=notify, orcpt=orcpt)
