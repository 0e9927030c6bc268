"""All next hops as the worker sees them: those of the configuration, and those of direct delivery.

The latter are one for each domain: made when first asked for, forgotten when nothing was to do for a while. One that is down
is remembered for as long as a message may wait for it unlooked at.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta

from sqlalchemy import Connection

from engine.core import direct
from engine.core.plan import Wait
from engine.core.policy import HopPolicy
from engine.hop import ATTEMPT_SECONDS, EVER, Hop
from engine.ports import NextHop
from store import queries

IDLE = timedelta(minutes=1)  # longer than a connection is kept: what is forgotten has none
DOWN = timedelta(days=1)  # behind the time when it may be probed; by then whoever waited has been looked at
FORGET_EVERY = timedelta(seconds=10)


class DomainHop(Hop):
    """The mail servers of one domain. `servers` counts the tasks that work its queue off."""

    def __init__(
        self,
        adapter: NextHop,
        policy: HopPolicy,
        connections: int,
        now: Callable[[], datetime],
        longest: timedelta = EVER,
    ) -> None:
        super().__init__(adapter, policy, connections, now, longest)
        self.servers = 0
        self.used_at = now()

    def idle(self, now: datetime) -> bool:
        """Whether it may be forgotten: nothing to do, nothing to remember."""
        if self.servers or not self.queue.empty() or now - self.used_at < IDLE:
            return False
        return self.gate() == "open" or self.probe_at is None or now - self.probe_at > DOWN


class Hops:
    """The next hops by name. For one event loop. `make` makes those of direct delivery; None where no route wants it."""

    def __init__(self, fixed: Mapping[str, Hop], make: Callable[[str], DomainHop] | None = None) -> None:
        self.fixed = fixed
        self._make = make
        self._domains: dict[str, DomainHop] = {}
        self._forgot_at: datetime | None = None

    def __getitem__(self, name: str) -> Hop:
        """Return a next hop, made where it has to be. Raises KeyError for one that is not configured."""
        found = self.get(name)
        if found is None:
            if self._make is None or not direct.is_direct(name):
                raise KeyError(name)
            found = self._domains[name] = self._make(name)
        return found

    def get(self, name: str) -> Hop | None:
        """Return a next hop that is there; nothing is made."""
        return self.fixed.get(name) or self._domains.get(name)

    def wait(self, name: str) -> Wait:
        """Tell how long a message would wait for a next hop; nothing is made."""
        found = self.get(name)
        return (0, ATTEMPT_SECONDS) if found is None else found.wait()

    def knows(self, name: str) -> bool:
        """Whether mail can be handed to a next hop of this name."""
        return name in self.fixed or (self._make is not None and direct.is_direct(name))

    @property
    def shares(self) -> int:
        """How many share what may be worked on at once; direct delivery counts as one."""
        return len(self.fixed) + (self._make is not None)

    def domains(self) -> list[DomainHop]:
        """Return those of direct delivery that there are now."""
        return list(self._domains.values())

    def present(self) -> list[Hop]:
        """Return those that there are now."""
        return [*self.fixed.values(), *self._domains.values()]

    def remember(self, connection: Connection) -> None:
        """Take over what the log says of each next hop; of a domain that works it says nothing worth knowing."""
        for row in queries.hops(connection):
            name = row["next_hop"]
            if name in self.fixed or (row["failures"] and self.knows(name)):
                self[name].remember(row)

    def forget(self, now: datetime) -> None:
        """Forget the domains that nothing is to do for; looks at most every `FORGET_EVERY`."""
        if self._forgot_at is not None and now - self._forgot_at < FORGET_EVERY:
            return
        self._forgot_at = now
        for name in [name for name, hop in self._domains.items() if hop.idle(now)]:
            del self._domains[name]

    async def close(self) -> None:
        """Close the connections of all."""
        await asyncio.gather(*(hop.adapter.close() for hop in self.present()), return_exceptions=True)
