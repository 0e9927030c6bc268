"""How large a message may be to be worth retrieving, who says so, and what becomes of a larger one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from engine import intake, notices
from engine.core import direct
from engine.core.policy import Policy
from engine.core.reach import possible_hops
from engine.core.routing import MailboxRule
from engine.hops import Hops
from engine.intake import Arrival
from store.events import LimitFrom
from store.life import Message
from store.log import Append


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """The largest message to retrieve, and who says so."""

    octets: int
    said_by: LimitFrom
    next_hop: str | None


async def largest(rule: MailboxRule, own_octets: int | None, hops: Hops, policy: Policy) -> Limit | None:
    """Return the largest message worth retrieving: what any next hop it may go to takes, at most."""
    limits: list[tuple[int | None, LimitFrom, str]] = []
    for name in sorted(possible_hops(rule, policy)):
        if direct.is_direct(name) or name == direct.MX:
            # What a foreign server takes is found out by trying, unless the configuration says it for all of them.
            limits.append((policy.hops[direct.MX].max_size_octets, "config", direct.MX))
        elif (hop := hops.get(name)) is not None:
            octets = await hop.limit_octets()
            limits.append((octets, "config" if hop.configured(octets) else "next-hop", name))
    found: Limit | None = None
    if limits and all(octets is not None for octets, _, _ in limits):
        octets, said_by, name = max(limits, key=lambda limit: limit[0] or 0)
        found = Limit(octets=octets or 0, said_by=said_by, next_hop=name)
    if own_octets is not None and (found is None or own_octets <= found.octets):
        return Limit(octets=own_octets, said_by="config", next_hop=None)
    return found


def rejection(
    arrival: Arrival, header: bytes | None, limit: Limit, policy: Policy, now: datetime, *, notify: bool
) -> tuple[Append, ...]:
    """Return the appends for a message that is not retrieved: its own, and notices to its recipients.

    `header` is what TOP gave of it. Where it names nobody the postmaster is told.
    """
    append = intake.oversize(arrival, header, limit.octets, limit.said_by, limit.next_hop, policy, now)
    message = append.after
    assert isinstance(message, Message)
    people = [r.address for r in message.recipients] or [policy.postmaster]
    told = [
        notices.oversize(message, limit.octets, recipient=address, policy=policy, now=now)
        for address in (people if notify else ())
    ]
    return notices.together(append, told)
