"""How large a message may be to be worth retrieving, who says so, and what becomes of a larger one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from engine import intake, notices
from engine.core.policy import Policy
from engine.core.routing import MailboxRule, next_hop
from engine.hop import Hop
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


async def largest(
    rule: MailboxRule, own_octets: int | None, hops: Mapping[str, Hop], policy: Policy
) -> Limit | None:
    """Return the largest message worth retrieving: what any next hop it may go to takes, at most."""
    limits = [(await hop.limit_octets(), hop) for hop in _possible_hops(rule, hops, policy)]
    found: Limit | None = None
    if limits and all(octets is not None for octets, _ in limits):
        octets, hop = max(((octets or 0, hop) for octets, hop in limits), key=lambda pair: pair[0])
        configured = hop.configured(octets)
        found = Limit(octets=octets, said_by="config" if configured else "next-hop", next_hop=hop.name)
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


def _possible_hops(rule: MailboxRule, hops: Mapping[str, Hop], policy: Policy) -> list[Hop]:
    """Return the next hops this mailbox's mail can go to."""
    known = rule.recipients or tuple(a for a in (rule.fallback,) if a and not rule.headers)
    if known:
        routed = (next_hop("", address, None, policy.routes, policy.domains) for address in known)
        names = {one.next_hop for one in routed}
    else:
        names = {route.next_hop for route in policy.routes} or {"home"}
    if any(route.senders for route in policy.routes):
        names |= {route.next_hop for route in policy.routes}
    return [hop for name, hop in hops.items() if name in names]
