"""Remove from a mailbox what the log says may go, and record what is no longer there."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

from engine import seams
from engine.core import listing
from engine.core.listing import Difference, Offer, Removal
from engine.core.withheld import Withholding, lines, undeleted
from engine.mailbox_record import record, uidl_text
from engine.means import Means
from engine.ports import SourceSession, SourceTrouble
from store import log, mailbox_queries
from store.agenda import Lease
from store.errors import Conflict
from store.events import RemovedFromSource
from store.life import Message
from store.log import Append, Unit
from store.mailbox_events import MarkedAsDeleted
from store.mailbox_life import Known, Mailbox

logger = logging.getLogger("mailgate.fetch")

ConfirmedBy = Literal["quit", "listing"]

NO_UIDL = (
    'the server has no UIDL, so messages can\'t be told apart from one session to the next: set remove = "downloaded"'
    " for this mailbox"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Marks:
    """What a server was asked to delete: what it has marked for that, and what it refused, in its words."""

    marked: tuple[Known, ...] = ()
    refused: tuple[tuple[Known, str], ...] = ()


class Remover:
    """Removes messages from one mailbox, and keeps the record of what has left it."""

    def __init__(self, means: Means, mailbox: str, removal: Removal, lease: Lease) -> None:
        self._means = means
        self._lease = lease
        self._mailbox = mailbox
        self._removal = removal

    async def mark(
        self,
        session: SourceSession,
        offers: Sequence[Offer],
        proven: Mapping[int, str],
        doubted: frozenset[str],
    ) -> Marks:
        """Mark what may go as deleted: QUIT is what deletes it. Returns what the server has marked, and what it has not.

        `proven` has, by message number, the streams whose very octets were retrieved in this session. What an earlier
        QUIT may have deleted is `doubted`: it is marked only where it is proven, for something else may be in its place.
        """
        if not self._removal.ever:
            return Marks()
        notices = self._removal.oversize
        present: list[Known] = await self._means.read(
            lambda c: mailbox_queries.present(c, self._mailbox, notices=notices)
        )
        difference = listing.compare(offers, present, doubted)
        again = _proven_among(difference.doubtful, present, proven)
        pairs = listing.removable((*difference.known, *again), self._removal, self._means.now())
        if not pairs:
            return Marks()
        seams.reached("before-dele")
        said = {no.offer.number: no.text for no in await session.delete([offer for offer, _ in pairs])}
        return Marks(
            marked=tuple(one for offer, one in pairs if offer.number not in said),
            refused=tuple((one, said[offer.number]) for offer, one in pairs if offer.number in said),
        )

    async def commit(self, session: SourceSession, marked: Sequence[Known]) -> int:
        """QUIT; the deletions are a fact only with its +OK. Returns how many."""
        if not marked:
            await session.quit()
            return 0
        seams.reached("before-quit")
        trouble = await session.quit()
        if trouble is not None:
            text = f"{trouble.text}: nothing is taken as deleted until the next listing tells"
            raise SourceTrouble(trouble.kind, text, permanent=trouble.permanent)
        seams.reached("after-quit")
        await self._removed_all(marked, "quit")
        return len(marked)

    def asked(
        self, standing: Mailbox, before: frozenset[str], doubted: frozenset[str], marks: Marks | None
    ) -> MarkedAsDeleted | None:
        """Return what to record of what is `doubted` now, and of what the server refuses to delete; None if nothing changed.

        Without `marks` the session broke before it was asked to delete anything.
        """
        refused, more = standing.undeleted, standing.more_undeleted
        if marks is not None:
            refused, more = undeleted(standing, marks.refused, self._means.now())
        if (doubted, refused, more) == (before, standing.undeleted, standing.more_undeleted):
            return None
        news = [one for one in refused if one not in standing.undeleted]
        for line in lines(news, more - standing.more_undeleted):
            logger.warning("mailbox %s: %s", self._mailbox, line)
        return MarkedAsDeleted(
            mailbox=self._mailbox, marked=tuple(sorted(doubted)), refused=refused, more_refused=more
        )

    async def vanished(self, vanished: Sequence[Known]) -> None:
        """Somebody else removed them, or the provider did: the record follows, so that a reused UIDL is new."""
        await self._removed_all([one for one in vanished if one.stream], "listing")
        adopted = [one for one in vanished if not one.stream]
        for one in adopted:
            event = RemovedFromSource(mailbox=self._mailbox, uidl=uidl_text(one.uidl), confirmed_by="listing")
            await record(self._means, self._mailbox, (event,), self._lease)

    async def _removed_all(self, gone: Sequence[Known], confirmed_by: ConfirmedBy) -> None:
        for start in range(0, len(gone), log.READ_BATCH):
            some = gone[start : start + log.READ_BATCH]
            names = [one.stream for one in some if one.stream]
            messages: dict[str, Message] = await self._means.read(partial(log.messages, streams=names))
            await asyncio.gather(
                *(self._removed(messages.get(one.stream or ""), one, confirmed_by) for one in some)
            )

    async def _removed(self, message: Message | None, one: Known, confirmed_by: ConfirmedBy) -> None:
        event = RemovedFromSource(mailbox=self._mailbox, uidl=uidl_text(one.uidl), confirmed_by=confirmed_by)
        while message is not None:
            try:
                append = Append(message.id, message, (event,), self._means.now())
                await self._means.journal.append(Unit((append,), lease=self._lease, keep=True))
            except Conflict:  # the worker appended meanwhile
                message = await self._means.read(partial(log.message, stream=message.id))
            else:
                return


class Missing:
    """What a mailbox lists no more under the UIDL it had: it has left, or it is there under another, as its octets tell."""

    def __init__(self, remover: Remover, difference: Difference) -> None:
        self._remover = remover
        # Of what we deleted ourselves, and of what was never here, no octets tell.
        self._sure = [one for one in difference.vanished if one.uidl and _sure(one, difference)]
        others = (one for one in difference.vanished if one.uidl and not _sure(one, difference))
        self._left = {(one.uidl, one.stream): one for one in others}
        self._doubted = difference.doubted - {one.stream for one in difference.vanished}

    async def note(self) -> None:
        """Record what has left for sure."""
        await self._remover.vanished(self._sure)

    async def found(self, offer: Offer, known: Known) -> None:
        """A message was recognised, and is on record under its other UIDL: the old one is no more, or never was its own."""
        elsewhere = known.uidl != (offer.uidl or b"") and not known.gone
        if self._left.pop((known.uidl, known.stream), None) or (elsewhere and known.stream in self._doubted):
            await self._remover.vanished([known])

    async def settle(self, untold: Sequence[Offer], withholding: Withholding) -> None:
        """Record what has left, unless what was not retrieved may be it: then a later session tells.

        Of what has been withheld for longer the size tells: or one that is never to be had would keep all of it on record.
        """
        if not all(withholding.longer(offer) for offer in untold):
            return
        sizes = {offer.size_octets for offer in untold}
        gone = [key for key, one in self._left.items() if one.size_octets not in sizes]
        await self._remover.vanished([self._left.pop(key) for key in gone])


def _sure(one: Known, difference: Difference) -> bool:
    return one.content is None or one.stream in difference.doubted


def refuse_nameless(offers: Sequence[Offer], removal: Removal) -> None:
    """Raise SourceTrouble where messages without a UIDL are to stay in the mailbox."""
    if removal.when != "downloaded" and any(offer.uidl is None for offer in offers):
        raise SourceTrouble("protocol", NO_UIDL, permanent=True)


def _proven_among(
    offers: Sequence[Offer], present: Sequence[Known], proven: Mapping[int, str]
) -> list[tuple[Offer, Known]]:
    """Pair the offers that a UIDL doesn't tell with the records that their octets in this session did."""
    records = {one.stream: one for one in present}
    streams = ((offer, proven.get(offer.number)) for offer in offers)
    return [(offer, records[stream]) for offer, stream in streams if stream in records]
