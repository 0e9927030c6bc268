"""One poll of one mailbox: list, decide, retrieve, commit, delete what the log says may go.

Nothing slow happens inside the session: no scan, no relay, no waiting for a next hop. What is durable is never
retrieved again, whatever becomes of the session. Deletions go at its end, from what the log says by then, and count
only after +OK to QUIT.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any

from sqlalchemy import Connection

from engine import intake, seams
from engine.budget import OctetBudget
from engine.core import listing, report
from engine.core.listing import Difference, Offer, Removal
from engine.core.policy import Policy
from engine.core.routing import MailboxRule, next_hop
from engine.hop import Hop
from engine.intake import Arrival
from engine.journal import Journal
from engine.ports import Refused, Retrieved, SourceSession, SourceTrouble
from engine.worker import Worker
from store import log, queries
from store.errors import Conflict
from store.events import (
    Adopted,
    Adoption,
    LimitFrom,
    MailboxEvent,
    PollFinished,
    RemovedFromSource,
    UidlResetSuspected,
    mailbox_stream,
)
from store.life import Known, Mailbox, Message
from store.log import Append, Unit

ADOPTED_AT_ONCE = 1_000  # UIDLs in one event: some ten kilobytes
OURSELVES = "mailgate"
NO_UIDL = (
    'the server has no UIDL, so messages can\'t be told apart from one session to the next: set remove = "downloaded"'
    " for this mailbox"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MailboxPlan:
    """What a poll needs to know of a mailbox's configuration."""

    name: str
    rule: MailboxRule
    removal: Removal
    notify_oversize: bool
    max_size_octets: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """The largest message to retrieve, and who says so."""

    octets: int
    said_by: LimitFrom
    next_hop: str | None


@dataclass(slots=True)
class Tally:
    """What a poll came to."""

    listed: int = 0
    downloaded: int = 0
    octets: int = 0
    oversize: int = 0
    refused: int = 0
    removed: int = 0
    resumed: bool = False  # no reset is suspected, or no longer
    broke: set[bytes] = field(default_factory=set)  # UIDLs whose retrieval ended the session


class Poll:
    """One session's work. `read` runs a function with a reading connection off the event loop."""

    def __init__(
        self,
        mailbox: MailboxPlan,
        *,
        journal: Journal,
        read: Callable[[Callable[[Connection], Any]], Awaitable[Any]],
        worker: Worker | None,
        budget: OctetBudget,
        hops: Mapping[str, Hop],
        policy: Policy,
        now: Callable[[], datetime],
        last: frozenset[bytes] = frozenset(),
    ) -> None:
        self.mailbox = mailbox
        self.tally = Tally()
        self._journal = journal
        self._read = read
        self._worker = worker
        self._budget = budget
        self._hops = hops
        self._policy = policy
        self._now = now
        self._last = last  # UIDLs that broke a session before: tried behind all others
        self._shares: dict[int, int] = {}  # by message number: what admission took of the budget
        self._commits: list[asyncio.Future[Any]] = []
        self._proven: dict[int, str] = {}  # by message number: the stream that has these very octets

    async def run(self, session: SourceSession, *, retrieve: bool = True) -> Tally:
        """Poll over an open session, to its QUIT. Raises SourceTrouble, and StoreError when the store fails."""
        began = time.monotonic()
        try:
            offers = await session.listing()
            self.tally.listed = len(offers)
            present: list[Known] = await self._present()
            self._refuse_nameless(offers)
            difference = listing.compare(offers, present)
            if difference.reset:
                await self._suspend(difference)
                await session.quit()
                return self.tally
            self.tally.resumed = True
            if getattr(session, "passed_over", 0) == 0:
                await self._vanished(difference.vanished)
            if retrieve:
                await self._fetch(session, difference)
            await self._committed()
            await self._remove(session, offers)
            if self.tally.downloaded or self.tally.oversize:
                await self._finished(began)
        finally:
            await session.abort()  # first: nothing more is admitted then
            self._release()
        return self.tally

    # -- before retrieving

    def _present(self) -> Awaitable[Any]:
        return self._read(lambda c: queries.present(c, self.mailbox.name))

    def _refuse_nameless(self, offers: Sequence[Offer]) -> None:
        if self.mailbox.removal.when != "downloaded" and any(offer.uidl is None for offer in offers):
            raise SourceTrouble("protocol", NO_UIDL, permanent=True)

    async def _suspend(self, difference: Difference) -> None:
        standing: Mailbox = await self._read(lambda c: queries.mailbox(c, self.mailbox.name))
        if standing.health == "suspended":
            return
        event = UidlResetSuspected(
            mailbox=self.mailbox.name,
            listed=self.tally.listed,
            vanished=len(difference.vanished),
            alike=difference.alike,
        )
        await record(self._journal, self._read, self.mailbox.name, (event,), self._now())

    async def _vanished(self, vanished: Sequence[Known]) -> None:
        """Somebody else removed them, or the provider did: the record follows, so that a reused UIDL is new."""
        named = [one for one in vanished if one.uidl]
        await self._record_removed([one for one in named if one.stream], "listing")
        adopted = [one for one in named if not one.stream]
        for one in adopted:
            event = RemovedFromSource(mailbox=self.mailbox.name, uidl=_text(one.uidl), confirmed_by="listing")
            await record(self._journal, self._read, self.mailbox.name, (event,), self._now())

    # -- retrieving

    async def _fetch(self, session: SourceSession, difference: Difference) -> None:
        limit = await self._limit()
        wanted: list[Offer] = []
        large: list[Offer] = []
        for offer in (*difference.new, *difference.doubtful):
            (large if limit and offer.size_octets > limit.octets else wanted).append(offer)
        before = await self._contents(session, difference, wanted)
        wanted.sort(
            key=lambda offer: (offer.uidl or b"") in self._last
        )  # stable: otherwise in the server's order
        async with aclosing(session.retrieve(wanted, self._admit)) as retrieved:
            async for got in retrieved:
                if isinstance(got, Refused):
                    self.tally.refused += 1
                    self._give_back(got.offer)
                else:
                    await self._take(got, before)
        if not self.tally.refused:
            # A server without UIDL: what was not among the octets it gave is no longer there.
            await self._record_removed(before.left(b""), "listing")
        if limit is not None and large:
            for offer in _untold(large, await self._present()):
                await self._oversize(session, offer, limit)

    async def _limit(self) -> Limit | None:
        """Return the largest message worth retrieving: what any next hop it may go to takes, at most."""
        own = self.mailbox.max_size_octets
        limits = [(await hop.limit_octets(), hop) for hop in self._possible_hops()]
        largest: Limit | None = None
        if limits and all(octets is not None for octets, _ in limits):
            octets, hop = max(((octets or 0, hop) for octets, hop in limits), key=lambda pair: pair[0])
            configured = hop.configured(octets)
            largest = Limit(octets=octets, said_by="config" if configured else "next-hop", next_hop=hop.name)
        if own is not None and (largest is None or own <= largest.octets):
            return Limit(octets=own, said_by="config", next_hop=None)
        return largest

    def _possible_hops(self) -> list[Hop]:
        """Return the next hops this mailbox's mail can go to."""
        rule = self.mailbox.rule
        known = rule.recipients or tuple(a for a in (rule.fallback,) if a and not rule.headers)
        if known:
            routed = (
                next_hop("", address, None, self._policy.routes, self._policy.domains) for address in known
            )
            names = {one.next_hop for one in routed}
        else:
            names = {route.next_hop for route in self._policy.routes} or {"home"}
        if any(route.senders for route in self._policy.routes):
            names |= {route.next_hop for route in self._policy.routes}
        return [hop for name, hop in self._hops.items() if name in names]

    async def _contents(
        self, session: SourceSession, difference: Difference, wanted: Sequence[Offer]
    ) -> _Recognised:
        """Gather the octets on record that a retrieved message may turn out to be."""
        doubtful = {offer.uidl or b"" for offer in difference.doubtful}
        mailbox = self.mailbox.name

        def gather(connection: Connection) -> _Recognised:
            found = _Recognised()
            # Known under this UIDL, or known under another that has just vanished: the same octets are the same message.
            for one in (*queries.present(connection, mailbox),) if doubtful else ():
                if one.uidl in doubtful:
                    found.add(one)
            for one in difference.vanished:
                found.add(one)
            for one in queries.gone(connection, mailbox, [offer.uidl for offer in wanted if offer.uidl]):
                found.add(one)
            return found

        recognised: _Recognised = await self._read(gather)
        return recognised

    async def _admit(self, offer: Offer) -> None:
        """Wait for room in memory before a RETR is sent."""
        self._shares[offer.number] = await self._budget.take(offer.size_octets)

    async def _take(self, got: Retrieved, before: _Recognised) -> None:
        """Take one message in; its commit goes on while the next one is retrieved."""
        arrival = self._arrival(got.offer)
        known = None
        if before.any:
            known = before.match(got.offer.uidl or b"", await intake.digest(got.octets))
        if known is not None:
            self._give_back(got.offer)
            if known.stream is not None:
                self._proven[got.offer.number] = known.stream
            return await self._again(got.offer, known)
        append = await intake.downloaded(arrival, got.octets, self._policy, self._now())
        lane = append.after.lane if isinstance(append.after, Message) else ""
        claim = self._worker.claim() if self._worker is not None and self._worker.room(lane) else None
        durable = self._journal.append(Unit((append,), claim=claim))
        self._commits.append(durable)
        self.tally.downloaded += 1
        self.tally.octets += len(got.octets)
        self._proven[got.offer.number] = append.stream
        share = self._shares.pop(got.offer.number)
        durable.add_done_callback(lambda done: self._durable(done, append, share, claimed=claim is not None))
        return None

    def _durable(self, done: asyncio.Future[None], append: Append, share: int, *, claimed: bool) -> None:
        """Hand a message to the worker, now that it can't be lost; what it takes of the budget goes with it."""
        octets, append.octets, message = append.octets, None, append.after
        failed = done.cancelled() or done.exception() is not None
        if (
            self._worker
            and claimed
            and not failed
            and isinstance(message, Message)
            and message.due_at
            and octets is not None
        ):
            self._worker.take(message, octets, share)
            return
        self._budget.give_back(share)
        if self._worker is not None:
            if claimed and isinstance(message, Message):
                self._worker.leave(message.lane)
            self._worker.wake()

    async def _again(self, offer: Offer, known: Known) -> None:
        """A message on record came back: under another UIDL, or after it had left."""
        if not offer.uidl or (known.uidl == offer.uidl and not known.gone):
            return
        adoption = Adoption(uidl=_text(offer.uidl), size_octets=offer.size_octets, message=known.stream)
        event = Adopted(
            mailbox=self.mailbox.name,
            uidls=(adoption,),
            operator=OURSELVES,
            reason="the same octets are on record",
        )
        await record(self._journal, self._read, self.mailbox.name, (event,), self._now())

    async def _oversize(self, session: SourceSession, offer: Offer, limit: Limit) -> None:
        """Record a message that is too large, without retrieving it, and tell its recipients once."""
        header = await session.top(offer)
        now = self._now()
        append = intake.oversize(
            self._arrival(offer), header, limit.octets, limit.said_by, limit.next_hop, self._policy, now
        )
        message = append.after
        assert isinstance(message, Message)
        people = [r.address for r in message.recipients] or [self._policy.postmaster]
        notices = [self._notice(message, address, limit, now) for address in people]
        if not self.mailbox.notify_oversize:
            appends: tuple[Append, ...] = (append,)
        else:
            told = tuple(reported for _, reported in notices)
            appends = (
                Append(append.stream, None, append.events + told, now),
                *(opened for opened, _ in notices),
            )
        await self._journal.append(Unit(appends))
        self.tally.oversize += 1
        if self._worker is not None:
            self._worker.wake()

    def _notice(self, message: Message, recipient: str, limit: Limit, now: datetime) -> tuple[Append, Any]:
        written = report.oversize(
            message,
            limit.octets,
            recipient=recipient,
            hostname=self._policy.hostname,
            postmaster=self._policy.postmaster,
            notice_id=intake.new_id(now),
            now=now,
        )
        return intake.notice("oversize", message, written, now)

    def _arrival(self, offer: Offer) -> Arrival:
        return Arrival(
            mailbox=self.mailbox.name,
            uidl=_text(offer.uidl or b""),
            listed_octets=offer.size_octets,
            rule=self.mailbox.rule,
        )

    async def _committed(self) -> None:
        """Wait until everything retrieved is durable; raises the first failure."""
        if self._commits:
            await asyncio.gather(*self._commits)

    # -- removing

    async def _remove(self, session: SourceSession, offers: Sequence[Offer]) -> None:
        """Mark what may go, and QUIT; the deletions are a fact only with its +OK."""
        pairs: tuple[tuple[Offer, Known], ...] = ()
        if self.mailbox.removal.ever:
            present = await self._present()
            difference = listing.compare(offers, present)
            proven = self._proven_among(difference.doubtful, present)
            pairs = listing.removable((*difference.known, *proven), self.mailbox.removal, self._now())
        if not pairs:
            await session.quit()
            return
        records = {offer.number: one for offer, one in pairs}
        seams.reached("before-dele")
        marked = await session.delete([offer for offer, _ in pairs])
        seams.reached("before-quit")
        if not await session.quit():
            raise SourceTrouble("connect", "the answer to QUIT did not come: nothing is taken as deleted")
        seams.reached("after-quit")
        gone = [records[offer.number] for offer in marked]
        await self._record_removed([one for one in gone if one.stream], "quit")
        self.tally.removed = len(gone)

    def _proven_among(self, offers: Sequence[Offer], present: Sequence[Known]) -> list[tuple[Offer, Known]]:
        """Pair the offers that a UIDL doesn't tell with the records that their octets in this session did."""
        records = {one.stream: one for one in present}
        streams = ((offer, self._proven.get(offer.number)) for offer in offers)
        return [(offer, records[stream]) for offer, stream in streams if stream in records]

    async def _record_removed(self, gone: Sequence[Known], confirmed_by: Any) -> None:
        for start in range(0, len(gone), log.READ_BATCH):
            some = gone[start : start + log.READ_BATCH]
            names = [one.stream for one in some if one.stream]
            messages: dict[str, Message] = await self._read(partial(log.messages, streams=names))
            await asyncio.gather(
                *(self._removed(messages.get(one.stream or ""), one, confirmed_by) for one in some)
            )

    async def _removed(self, message: Message | None, one: Known, confirmed_by: Any) -> None:
        event = RemovedFromSource(mailbox=self.mailbox.name, uidl=_text(one.uidl), confirmed_by=confirmed_by)
        while message is not None:
            try:
                await self._journal.append(Unit((Append(message.id, message, (event,), self._now()),)))
            except Conflict:  # the worker appended meanwhile
                message = await self._read(partial(log.message, stream=message.id))
            else:
                return

    async def _finished(self, began: float) -> None:
        event = PollFinished(
            mailbox=self.mailbox.name,
            listed=self.tally.listed,
            downloaded=self.tally.downloaded,
            oversize=self.tally.oversize,
            refused=self.tally.refused,
            downloaded_octets=self.tally.octets,
            duration_ms=round((time.monotonic() - began) * 1000),
        )
        await record(self._journal, self._read, self.mailbox.name, (event,), self._now())

    def _give_back(self, offer: Offer) -> None:
        if (share := self._shares.pop(offer.number, None)) is not None:
            self._budget.give_back(share)

    def _release(self) -> None:
        for share in self._shares.values():
            self._budget.give_back(share)
        self._shares.clear()


class _Recognised:
    """Messages on record, by what a retrieved one is recognised by: its octets. Each is recognised once."""

    def __init__(self) -> None:
        self._records: dict[str, list[Known]] = {}

    @property
    def any(self) -> bool:
        """Whether there is anything to be recognised."""
        return bool(self._records)

    def add(self, one: Known) -> None:
        """Add one on record; one whose octets were never here can't be recognised."""
        if one.content is not None:
            self._records.setdefault(one.content, []).append(one)

    def left(self, uidl: bytes) -> list[Known]:
        """Return what was not recognised under a UIDL."""
        return [
            one for records in self._records.values() for one in records if one.uidl == uidl and not one.gone
        ]

    def match(self, uidl: bytes, content: str) -> Known | None:
        """Return the record these octets are, and forget it; one under the same UIDL first."""
        records = self._records.get(content)
        if not records:
            return None
        one = next((record for record in records if record.uidl == uidl), records[0])
        records.remove(one)
        if not records:
            del self._records[content]
        return one


def _untold(large: Sequence[Offer], present: Sequence[Known]) -> list[Offer]:
    """Leave out what is on record as too large, where a server without UIDL lists it again: its size tells."""
    told = Counter(one.size_octets for one in present if not one.uidl and one.state == "rejected-oversize")
    untold: list[Offer] = []
    for offer in large:
        if not offer.uidl and told[offer.size_octets]:
            told[offer.size_octets] -= 1
        else:
            untold.append(offer)
    return untold


async def record(
    journal: Journal,
    read: Callable[[Callable[[Connection], Any]], Awaitable[Any]],
    mailbox: str,
    events: tuple[MailboxEvent, ...],
    now: datetime,
) -> None:
    """Append to a mailbox's stream, whatever else is appended to it meanwhile."""
    while True:
        before = await read(lambda c: queries.mailbox(c, mailbox))
        try:
            await journal.append(Unit((Append(mailbox_stream(mailbox), before, events, now),)))
        except Conflict:
            continue
        return


def _text(uidl: bytes) -> str:
    """Return a UIDL as events have it: each octet as one character."""
    return uidl.decode("latin-1")
