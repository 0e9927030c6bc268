"""Remove from a mailbox what the log says may go, and record what is no longer there."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Literal

from engine import seams
from engine.core import listing
from engine.core.listing import Offer, Removal
from engine.mailbox_record import record, uidl_text
from engine.means import Means
from engine.ports import SourceSession, SourceTrouble
from store import log, mailbox_queries
from store.errors import Conflict
from store.events import RemovedFromSource
from store.life import Message
from store.log import Append, Unit
from store.mailbox_life import Known

ConfirmedBy = Literal["quit", "listing"]

NO_UIDL = (
    'the server has no UIDL, so messages can\'t be told apart from one session to the next: set remove = "downloaded"'
    " for this mailbox"
)


class Remover:
    """Removes messages from one mailbox, and keeps the record of what has left it."""

    def __init__(self, means: Means, mailbox: str, removal: Removal) -> None:
        self._means = means
        self._mailbox = mailbox
        self._removal = removal

    async def mark(
        self,
        session: SourceSession,
        offers: Sequence[Offer],
        proven: Mapping[int, str],
        doubted: frozenset[str],
    ) -> tuple[Known, ...]:
        """Mark what may go as deleted: QUIT is what deletes it. Returns what the server has marked.

        `proven` has, by message number, the streams whose very octets were retrieved in this session. What an earlier
        QUIT may have deleted is `doubted`: it is marked only where it is proven, for something else may be in its place.
        """
        if not self._removal.ever:
            return ()
        notices = self._removal.oversize
        present: list[Known] = await self._means.read(
            lambda c: mailbox_queries.present(c, self._mailbox, notices=notices)
        )
        difference = listing.compare(offers, present, doubted)
        again = _proven_among(difference.doubtful, present, proven)
        pairs = listing.removable((*difference.known, *again), self._removal, self._means.now())
        if not pairs:
            return ()
        records = {offer.number: one for offer, one in pairs}
        seams.reached("before-dele")
        return tuple(records[offer.number] for offer in await session.delete([offer for offer, _ in pairs]))

    async def commit(self, session: SourceSession, marked: Sequence[Known]) -> int:
        """QUIT; the deletions are a fact only with its +OK. Returns how many."""
        if not marked:
            await session.quit()
            return 0
        seams.reached("before-quit")
        if not await session.quit():
            raise SourceTrouble("connect", "the answer to QUIT did not come: nothing is taken as deleted")
        seams.reached("after-quit")
        await self._removed_all(marked, "quit")
        return len(marked)

    async def vanished(self, vanished: Sequence[Known]) -> None:
        """Somebody else removed them, or the provider did: the record follows, so that a reused UIDL is new."""
        await self._removed_all([one for one in vanished if one.stream], "listing")
        adopted = [one for one in vanished if not one.stream]
        for one in adopted:
            event = RemovedFromSource(mailbox=self._mailbox, uidl=uidl_text(one.uidl), confirmed_by="listing")
            await record(self._means, self._mailbox, (event,))

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
                await self._means.journal.append(
                    Unit((Append(message.id, message, (event,), self._means.now()),))
                )
            except Conflict:  # the worker appended meanwhile
                message = await self._means.read(partial(log.message, stream=message.id))
            else:
                return


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
