"""One poll of one mailbox: list, decide, retrieve, commit, delete what the log says may go.

Nothing slow happens inside the session: no scan, no relay, no waiting for a next hop. What is durable is never
retrieved again, whatever becomes of the session. Deletions go at its end, from what the log says by then, and count
only after +OK to QUIT.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass

from sqlalchemy import Connection

from engine import intake, recognition
from engine.arriving import Arriving
from engine.budget import OctetBudget
from engine.core import listing
from engine.core.listing import Difference, Offer, Removal
from engine.core.routing import MailboxRule
from engine.core.withheld import Standing, Withholding, lines
from engine.hops import Hops
from engine.intake import Arrival
from engine.limit import Limit, by_size, rejection, told_already
from engine.mailbox_record import record, suspend, uidl_text
from engine.means import Means
from engine.opening import digest
from engine.ports import Refused, Retrieved, SourceSession, SourceTrouble
from engine.recognition import Recognised
from engine.removing import Marks, Missing, Remover, refuse_nameless
from engine.shares import LISTING, Shares
from engine.tally import Tally
from engine.worker import Worker
from store import mailbox_queries
from store.agenda import Lease
from store.log import Unit
from store.mailbox_events import PollFinished, Withheld
from store.mailbox_life import Known, Mailbox

logger = logging.getLogger("mailgate.fetch")


@dataclass(frozen=True, slots=True, kw_only=True)
class MailboxPlan:
    """What a poll needs to know of a mailbox's configuration."""

    name: str
    rule: MailboxRule
    removal: Removal
    notify_oversize: bool
    max_size_octets: int | None


class Poll:
    """One session's work."""

    def __init__(
        self,
        means: Means,
        mailbox: MailboxPlan,
        lease: Lease,
        *,
        worker: Worker | None,
        budget: OctetBudget,
        hops: Hops,
        last: Sequence[bytes] = (),
    ) -> None:
        self._means = means
        self._lease = lease
        self.mailbox = mailbox
        self.tally = Tally()
        self._worker = worker
        self._budget = budget
        self._hops = hops
        self._last = tuple(last)  # UIDLs that broke a session before: tried behind all others, in this order
        self._shares = Shares(budget)
        self._arriving = Arriving(means.journal, lease, worker=worker, shares=self._shares)
        self._remover = Remover(means, mailbox.name, mailbox.removal, lease)
        self._proven: dict[int, str] = {}  # by message number: the stream that has these very octets
        # Streams that an earlier QUIT may have deleted.
        self._doubted: frozenset[str] = frozenset()
        self._missing: Missing | None = None  # where the whole listing could be read
        self._large: frozenset[int] = frozenset()  # numbers of what is too large to be retrieved
        self._tried_all = False

    async def run(self, session: SourceSession, *, retrieve: bool = True) -> Tally:
        """Poll over an open session, to its QUIT. Raises SourceTrouble, and StoreError when the store fails.

        Raises LeaseLost where somebody else polls the mailbox by now. The store has answered for all when this ends.
        """
        began = time.monotonic()
        try:
            offers = await session.listing(self._shares.admit_listing)
            self._shares.give_back(LISTING)
            self.tally.listed = len(offers) + session.passed_over
            present, standing = await self._means.read(self._on_record)
            refuse_nameless(offers, self.mailbox.removal)
            difference = listing.compare(offers, present, frozenset(standing.marked))
            self._doubted = difference.doubted
            if difference.reset:
                await suspend(self._means, standing, len(offers), difference, self._lease)
                await session.quit()
                return self.tally
            self.tally.resumed = True
            if not session.passed_over:
                self._missing = Missing(self._remover, difference)
                await self._missing.note()
                self._doubted -= {one.stream for one in difference.vanished if one.stream}
            withholding = Withholding(standing.withheld, standing.more_withheld)
            withholding.pass_over(session.lacking, session.passed_over, self._means.now())
            self._last = (*withholding.breaking, *self._last)
            try:
                if retrieve:
                    await self._fetch(session, difference, withholding)
                await self._arriving.durable()
                await self._missed(difference, withholding)
                marks = await self._remover.mark(session, offers, self._proven, self._doubted)
            except SourceTrouble as trouble:
                await self._arriving.durable()
                await self._missed(difference, withholding)
                if trouble.offer is not None and trouble.offer.uidl in self._last:
                    withholding.meet(trouble.offer, trouble.text, self._means.now(), breaks=True)
                await self._finished(began, offers, withholding, standing, None)
                raise
            await self._finished(began, offers, withholding, standing, marks)
            self.tally.removed = await self._remover.commit(session, marks.marked)
        finally:
            await session.abort()  # first: nothing more is admitted then
            self._shares.release()
            await self._arriving.answered()  # who polls next must find it on record
        return self.tally

    # -- before retrieving

    def _on_record(self, connection: Connection) -> tuple[list[Known], Mailbox]:
        name = self.mailbox.name
        return mailbox_queries.present(connection, name), mailbox_queries.mailbox(connection, name)

    # -- retrieving

    async def _fetch(self, session: SourceSession, difference: Difference, withholding: Withholding) -> None:
        plan = self.mailbox
        offers = (*difference.new, *difference.doubtful)
        limit, wanted, large = await by_size(
            offers, plan.name, plan.rule, plan.max_size_octets, self._hops, self._means
        )
        self._large = frozenset(offer.number for offer in large)
        before: Recognised = await self._means.read(
            lambda c: recognition.recognisable(c, plan.name, difference, wanted)
        )
        # Stable: otherwise in the server's order. Nothing is to come behind a refusal that may break the session each time.
        behind = (*withholding.refused, *self._last)
        last = {uidl: place for place, uidl in enumerate(behind, start=1)}
        wanted.sort(key=lambda offer: last.get(offer.uidl or b"", 0))
        async with aclosing(session.retrieve(wanted, self._shares.admit)) as retrieved:
            async for got in retrieved:
                if isinstance(got, Refused):
                    self.tally.refused += 1
                    withholding.meet(got.offer, got.text, self._means.now())
                    self._shares.give_back(got.offer.number)
                else:
                    await self._take(got, before)
        if not self.tally.refused:
            # A server without UIDL: what was not among the octets it gave is no longer there.
            await self._remover.vanished(before.left(b""))
        if limit is not None and large:
            known: list[Known] = await self._means.read(
                lambda c: recognition.once_listed(c, plan.name, large)
            )
            for offer in recognition.untold(large, known):
                await self._oversize(session, offer, limit, recognition.told_of(offer, known))
        self._tried_all = True

    async def _take(self, got: Retrieved, before: Recognised) -> None:
        """Take one message in; its commit goes on while the next one is retrieved."""
        arrival = self._arrival(got.offer)
        known = None
        if before.any:
            known = before.match(got.offer.uidl or b"", await digest(got.octets))
        if known is not None:
            self._shares.give_back(got.offer.number)
            await self._recognised(got.offer, known)
            return
        append = await intake.downloaded(arrival, got.octets, self._means.policy, self._means.now())
        size_octets = len(got.octets)
        self.tally.downloaded += 1
        self.tally.octets += size_octets
        self._proven[got.offer.number] = append.stream
        share = self._shares.held.pop(got.offer.number)
        understated = size_octets > share
        if understated:
            share = self._shares.settle(share, size_octets)
        durable = self._arriving.add(append, share)
        if understated and self._budget.overdrawn:
            # It came unasked. Not for room, for this very message may be what takes it, but until it is written.
            await asyncio.wait([durable])

    async def _recognised(self, offer: Offer, known: Known) -> None:
        if known.stream is not None:
            self._proven[offer.number] = known.stream
        if (event := recognition.come_back(self.mailbox.name, offer, known)) is not None:
            await record(self._means, self.mailbox.name, (event,), self._lease)
        if self._missing is not None:
            await self._missing.found(offer, known)

    async def _missed(self, difference: Difference, withholding: Withholding) -> None:
        """Record what has left the mailbox, now that this session has told what it could."""
        told = self._proven.keys() | self._large
        untold = [o for o in (*difference.new, *difference.doubtful) if o.number not in told]
        if self._missing is not None:
            await self._missing.settle(untold, withholding)

    async def _oversize(
        self, session: SourceSession, offer: Offer, limit: Limit, told: Sequence[Known]
    ) -> None:
        header = await session.top(offer, self._shares.admit)
        self._shares.give_back(offer.number)
        appends = rejection(
            self._arrival(offer),
            header,
            limit,
            self._means.policy,
            self._means.now(),
            notify=self.mailbox.notify_oversize,
        )
        if told:
            known = await self._means.read(lambda c: recognition.same_header(c, told, appends[0]))
            if known is not None:
                await self._recognised(offer, known)
                return
        if len(appends) > 1:
            reports = await self._means.read(lambda c: recognition.reported(c, appends[0]))
            appends = told_already(appends, reports)
        await self._means.journal.append(Unit(appends, lease=self._lease, keep=True))
        self.tally.oversize += 1
        if self._worker is not None:
            self._worker.wake()

    def _arrival(self, offer: Offer) -> Arrival:
        return Arrival(
            mailbox=self.mailbox.name,
            uidl=uidl_text(offer.uidl or b""),
            listed_octets=offer.size_octets,
            rule=self.mailbox.rule,
        )

    async def _finished(
        self,
        began: float,
        offers: Sequence[Offer],
        withholding: Withholding,
        standing: Mailbox,
        marks: Marks | None,
    ) -> None:
        """Record what the poll found and what it is about to delete, where that is news; None where the session broke."""
        after = withholding.after(offers, frozenset(self._proven), whole=self._tried_all)
        # Without a UIDL all is told by its octets at every poll.
        marked = {o.stream for o in (marks.marked if marks else ()) if o.uidl and o.stream}
        doubted = self._doubted - set(self._proven.values()) | marked
        asked = self._remover.asked(standing, self._doubted, doubted, marks)
        self._doubted = doubted
        found = self._found(began, withholding.news(after), after, broken=marks is None)
        if events := tuple(event for event in (asked, found) if event is not None):
            await record(self._means, self.mailbox.name, events, self._lease)

    def _found(
        self, began: float, news: Sequence[Withheld] | None, after: Standing, *, broken: bool
    ) -> PollFinished | None:
        for line in lines(news, after.more):
            logger.warning("mailbox %s: %s", self.mailbox.name, line)
        if not (self.tally.downloaded or self.tally.oversize) and news is None:
            return None
        return PollFinished(
            mailbox=self.mailbox.name,
            listed=self.tally.listed,
            downloaded=self.tally.downloaded,
            oversize=self.tally.oversize,
            refused=self.tally.refused,
            downloaded_octets=self.tally.octets,
            duration_ms=round((time.monotonic() - began) * 1000),
            broken=broken,
            withheld=after.named,
            more_withheld=after.more,
        )
