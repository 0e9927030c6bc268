"""Direct delivery to one domain: the `NextHop` port over the servers that DNS names for it.

Owns which of them is tried and in which order: the better preference first; of equal ones one that we are connected to, else
any; behind all others those that could not be spoken to lately. The next one is tried where a server took not even MAIL and
may take it later; what it refuses for good counts (RFC 5321 section 5.1). The number of transactions under way is limited
for each domain, and for all of them together.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

from engine.adapters.mx import MailServer, MailServers
from engine.adapters.smtp_access import NextHopAccess
from engine.adapters.smtp_measured import Measured, measure, refused_here
from engine.adapters.smtp_next_hop import Handed, SmtpNextHop
from engine.core import direct
from engine.ports import Greeting, NextHopTrouble, Outcome, Reply, Transaction
from engine.wire.smtp import ACCESS_FIRST

TRANSACTIONS_AT_ONCE = (
    300  # in all of direct delivery: each takes a connection, and a process may have some 1,000
)
IDLE_SECONDS = 5.0  # few domains have mail more often, and each connection takes one of the process's
SHUN_SECONDS = 300.0  # how long a server that could not be spoken to comes last
TROUBLES_SAID = 3  # of servers; the rest is more of the same


@dataclass(frozen=True, kw_only=True)
class Directly:
    """What all domains have in common. `access` is how each server is reached; its name and host are not looked at."""

    servers: MailServers
    access: NextHopAccess
    hello: str
    transactions: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(TRANSACTIONS_AT_ONCE))


class MxNextHop:
    """Hands messages to the servers of one domain; any number of coroutines may call it at once."""

    def __init__(self, name: str, common: Directly) -> None:
        """`name` is "mx:" and the domain."""
        self.name = name
        self._common = common
        self._slots = asyncio.Semaphore(common.access.connections)
        self._hops: dict[str, SmtpNextHop] = {}
        self._shunned: dict[str, float] = {}  # until when, by the loop's clock

    async def hand_over(self, transaction: Transaction, before_dot: Callable[[], Awaitable[None]]) -> Outcome:
        """One mail transaction; see `engine.ports.NextHop`. The duration doesn't count waiting for a slot."""
        refused = refused_here(transaction)
        if len(refused) == len(transaction.recipients):
            return Outcome(tuple(refused[place] for place in range(len(refused))), "", "none", 0)
        measured = await measure(transaction)
        asked = time.monotonic()
        async with self._slots, self._common.transactions:
            started = time.monotonic()
            found = await self._common.servers.of(direct.domain_of(self.name))
            outcome = (
                _everybody(found, measured, refused)
                if isinstance(found, Reply)
                else await self._try(found, measured, refused, before_dot, asked)
            )
        return replace(outcome, duration_ms=int((time.monotonic() - started) * 1000))

    async def greet(self) -> Greeting:
        """A session with the first server that gives one. Raises NextHopTrouble."""
        found = await self._common.servers.of(direct.domain_of(self.name))
        if isinstance(found, Reply):
            raise NextHopTrouble(found.text)
        troubles: list[str] = []
        for server in self._ordered(found):
            try:
                return await self._hop(server).greet()
            except NextHopTrouble as trouble:
                troubles.append(str(trouble))
        raise NextHopTrouble("; ".join(troubles))

    async def close(self) -> None:
        """QUIT and close what is idle; what is in use follows when it is done."""
        await asyncio.gather(*(hop.close() for hop in self._hops.values()))

    async def _try(
        self,
        servers: tuple[MailServer, ...],
        measured: Measured,
        refused: dict[int, Reply],
        before_dot: Callable[[], Awaitable[None]],
        asked: float,
    ) -> Outcome:
        """Hand over to the first server that takes it, or refuses it for good."""
        failed: list[Handed] = []
        for server in self._ordered(servers):
            handed = await self._hop(server).attempt(measured, refused, before_dot, asked)
            if handed.not_taken is None:
                self._shunned.pop(server.name, None)
                return _for_good(handed.outcome)
            if handed.not_taken.scope == "next-hop":
                self._shunned[server.name] = asyncio.get_running_loop().time() + SHUN_SECONDS
            failed.append(handed)
        answered = next((f for f in failed if f.not_taken and f.not_taken.scope != "next-hop"), None)
        if answered is not None or len(failed) == 1:
            return (answered or failed[0]).outcome
        first, *others = [handed.not_taken for handed in failed[:TROUBLES_SAID] if handed.not_taken]
        more = f"; and {len(failed) - TROUBLES_SAID} more" if len(failed) > TROUBLES_SAID else ""
        text = "; ".join((first.text, *(one.said for one in others))) + more
        return _everybody(replace(first, text=text), measured, refused)

    def _ordered(self, servers: tuple[MailServer, ...]) -> list[MailServer]:
        now = asyncio.get_running_loop().time()
        return sorted(
            servers, key=lambda s: (self._shunned.get(s.name, 0) > now, s.preference, self._is_idle(s))
        )

    def _is_idle(self, server: MailServer) -> bool:
        """Whether there is no connection to it to be used again."""
        hop = self._hops.get(server.name)
        return hop is None or not hop.has_idle

    def _hop(self, server: MailServer) -> SmtpNextHop:
        access = replace(
            self._common.access,
            name=self.name,
            host=server.name,
            addresses=server.addresses,
            timeouts=replace(self._common.access.timeouts, idle_seconds=IDLE_SECONDS),
        )
        hop = self._hops.get(server.name)
        if hop is None:
            hop = self._hops[server.name] = SmtpNextHop(access, self._common.hello)
        hop.access = access  # its addresses may have changed
        return hop


def _for_good(outcome: Outcome) -> Outcome:
    """The same, where a foreign server wants a login or TLS that it can't be given: nobody here can mend that."""
    answers = tuple(
        replace(a, scope="message") if isinstance(a, Reply) and a.code == ACCESS_FIRST else a
        for a in outcome.answers
    )
    return replace(outcome, answers=answers)


def _everybody(reply: Reply, measured: Measured, refused: dict[int, Reply]) -> Outcome:
    """The same answer for all that were not refused here."""
    places = range(len(measured.transaction.recipients))
    return Outcome(tuple(refused.get(place, reply) for place in places), "", "none", 0)
