"""The postmaster hears once when a mailbox, a next hop, the disk or the store is in trouble, and once when that is over.

After a time, for what goes by itself is no trouble: a server that is restarted, a mailbox that somebody else reads. How each
stands, and what was told, is in the log: a restart in between tells nobody twice, and of several gateways one tells.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Any, Final

from sqlalchemy import Connection

from engine.core import trouble_report
from engine.means import Means
from engine.telling import Teller, begins, ends
from engine.watched import Watched
from store import agenda, mailbox_queries, queries, told
from store.errors import StoreError, StoreUnreachable
from store.mailbox_life import Mailbox
from store.told import Told

LOOK_EVERY_SECONDS: Final = 30.0
PASSING: Final = timedelta(minutes=15)  # a restart, an update, a provider's hiccup take less
PERMANENT: Final = timedelta(minutes=5)  # what waiting won't help: a password is wrong at every poll
# What the log says of a mailbox or a next hop may be of yesterday, when a gateway last ran: it is tried anew first.
SETTLED_AFTER: Final = timedelta(minutes=3)
TRIED: Final = 2  # times at least that a next hop failed
FRESH: Final = timedelta(minutes=2)  # since the next try was due, while anybody tries
DISK: Final = timedelta(minutes=1)
DISK_CALM: Final = timedelta(minutes=15)  # room comes and goes
STORE: Final = timedelta(minutes=1)

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Standings:
    """How mailboxes and next hops stand, and what was told of them."""

    mailboxes: dict[str, Mailbox]
    hops: dict[str, Json]
    told_mailboxes: dict[str, Told]
    told_hops: dict[str, Told]
    disk: Told | None


class TroubleWatch:
    """Looks after what is configured. For one event loop; run `run` as a task."""

    def __init__(self, means: Means, watched: Watched, *, teller: Teller) -> None:
        self._means = means
        self._teller = teller
        self._watched = watched
        self._began = means.now()
        self._short_since: datetime | None = None
        self._room_since: datetime | None = None
        self._lasted: str | None = None  # a shortage to tell of
        self._away_since: datetime | None = None  # the store
        self._away = ""

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            try:
                await self.look()
            except StoreError as error:
                self._means.outage.say(error, "trouble")
            await asyncio.sleep(LOOK_EVERY_SECONDS)

    async def look(self, *, settled: bool = False) -> bool:
        """Tell what is to be told now; says whether there was anything. Raises StoreError.

        `settled`: every mailbox was just polled, and this process looks once only.
        """
        try:
            return await self._looked(settled)
        except StoreUnreachable as error:  # a notice that can't be written, too: a full disk can be read
            self._is_away(str(error))
            raise

    async def _looked(self, settled: bool) -> bool:
        found: Standings = await self._means.read(self._standings)
        news = await self._of_store()
        tried = settled or self._means.now() - self._began >= SETTLED_AFTER
        for mailbox in found.mailboxes.values():
            news = await self._of_mailbox(mailbox, found.told_mailboxes.get(mailbox.name), tried) or news
        for hop in found.hops.values():
            news = await self._of_hop(hop, found.told_hops.get(hop["next_hop"])) or news
        return await self._of_disk(found.disk, settled) or news

    # -- mailboxes

    async def _of_mailbox(self, mailbox: Mailbox, before: Told | None, tried: bool) -> bool:
        name = mailbox.name
        if mailbox.health == "ok":
            if before is None or not before.trouble:
                return False
            write = partial(trouble_report.mailbox_recovered, mailbox, before.at, self._means.policy)
            return await self._teller.tell("mailbox-recovered", name, write, ends)
        write = partial(trouble_report.mailbox_failing, mailbox, self._means.policy)
        if mailbox.health == "suspended":  # a person must decide, also of one that is known to fail: at once
            return (
                tried
                and _is_decision(before)
                and await self._teller.tell("mailbox-suspended", name, write, _is_decision)
            )
        if not begins(before) or not (tried and self._lasts(mailbox)):
            return False
        return await self._teller.tell("mailbox-failing", name, write, begins)

    def _lasts(self, mailbox: Mailbox) -> bool:
        """Whether it has been in trouble for long enough."""
        grace = PERMANENT if mailbox.permanent else PASSING
        return mailbox.since is None or self._means.now() - mailbox.since >= grace

    # -- next hops

    async def _of_hop(self, hop: Json, before: Told | None) -> bool:
        name = hop["next_hop"]
        if hop["failures"] == 0:
            if before is None or not before.trouble:
                return False
            write = partial(
                trouble_report.next_hop_up, name, before.at, await self._waiting(name), self._means.policy
            )
            return await self._teller.tell("next-hop-up", name, write, ends)
        if not begins(before) or not self._is_down(hop):
            return False
        waiting = await self._waiting(name)
        write = partial(
            trouble_report.next_hop_down, name, hop["since"], hop["reply"], waiting, self._means.policy
        )
        return await self._teller.tell("next-hop-down", name, write, begins)

    def _is_down(self, hop: Json) -> bool:
        """Whether it has failed for long, and somebody is still trying: else nobody knows how it is now."""
        now = self._means.now()
        since, probe_at = hop["since"] or now, hop["probe_at"] or now
        tried: bool = hop["failures"] >= TRIED
        return tried and now - since >= PASSING and now - probe_at <= FRESH

    async def _waiting(self, name: str) -> int:
        count: int = await self._means.read(partial(agenda.waiting, place=name))
        return count

    # -- the disk and the store

    async def _of_disk(self, before: Told | None, settled: bool) -> bool:
        now, shortage = self._means.now(), self._watched.shortage()
        if shortage is not None:
            self._short_since, self._room_since = self._short_since or now, None
            if begins(before) and (settled or now - self._short_since >= DISK):
                self._lasted = shortage
        else:
            self._short_since, self._room_since = None, self._room_since or now
        if self._lasted is not None:  # where there was no room even for the notice: as soon as there is
            write = partial(trouble_report.disk_full, self._lasted, shortage is None, self._means.policy)
            told = await self._teller.tell("disk-full", "", write, begins)
            self._lasted = None
            return told
        return shortage is None and await self._of_room(before, settled)

    async def _of_room(self, before: Told | None, settled: bool) -> bool:
        assert self._room_since is not None
        calm = settled or self._means.now() - self._room_since >= DISK_CALM
        if before is None or not before.trouble or not calm:
            return False
        write = partial(trouble_report.disk_free, before.at, self._means.policy)
        return await self._teller.tell("disk-free", "", write, ends)

    def _is_away(self, said: str) -> None:
        self._away_since, self._away = self._away_since or self._means.now(), said

    async def _of_store(self) -> bool:
        """Tell that it was away; where others can't write to it, it is."""
        if failed := self._means.outage.trouble():
            self._is_away(failed)
            return False
        since = self._away_since
        told = False
        if since is not None and self._means.now() - since >= STORE:
            write = partial(trouble_report.store_back, since, self._away, self._means.policy)
            # Of several gateways one tells.
            told = await self._teller.tell(
                "store-back", "", write, lambda last: last is None or last.at < since
            )
        self._away_since = None
        return told

    def _standings(self, connection: Connection) -> Standings:
        return Standings(
            mailboxes={name: mailbox_queries.mailbox(connection, name) for name in self._watched.mailboxes},
            hops={
                hop["next_hop"]: hop
                for hop in queries.hops(connection)
                if hop["next_hop"] in self._watched.hops
            },
            told_mailboxes=told.of(connection, "mailbox"),
            told_hops=told.of(connection, "next-hop"),
            disk=told.last(connection, "disk"),
        )


def _is_decision(before: Told | None) -> bool:
    """Whether it is news that fetching waits for a person."""
    return before is None or before.kind != "mailbox-suspended"
