"""How large a message may be to be worth retrieving, who says so, and what becomes of a larger one."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import Connection

from engine import intake, notices
from engine.core import direct
from engine.core.listing import Offer
from engine.core.policy import Policy
from engine.core.reach import possible_hops
from engine.core.routing import MailboxRule
from engine.hops import Hops
from engine.intake import Arrival
from engine.means import Means
from engine.ports import NextHopTrouble
from store import mailbox_queries
from store.events import LimitFrom, Reported
from store.life import Message
from store.log import Append

logger = logging.getLogger("mailgate.fetch")


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """The largest message to retrieve, and who says so."""

    octets: int
    said_by: LimitFrom
    next_hop: str | None


async def by_size(
    offers: Sequence[Offer],
    mailbox: str,
    rule: MailboxRule,
    own_octets: int | None,
    hops: Hops,
    means: Means,
) -> tuple[Limit | None, list[Offer], list[Offer]]:
    """Return the limit, which offers keep to it and which are too large.

    A person who asks for one again has raised the limit first: what next hops say now decides. Where one can't be asked
    now, such an offer is left to another poll.
    """
    limit = await largest(rule, own_octets, hops, means.policy)
    large = _beyond(limit, offers)
    again = await means.read(lambda c: _asked_for(c, mailbox, large)) if large else frozenset()
    left: frozenset[bytes] = frozenset()
    if again:
        try:
            limit = await largest(rule, own_octets, hops, means.policy, anew=True)
        except NextHopTrouble as trouble:
            left = again
            logger.info("mailbox %s: what was asked for again is looked at later: %s", mailbox, trouble)
        large = _beyond(limit, offers)
    numbers = {offer.number for offer in large}
    wanted = [offer for offer in offers if offer.number not in numbers]
    return limit, wanted, [offer for offer in large if offer.uidl not in left]


def _beyond(limit: Limit | None, offers: Sequence[Offer]) -> list[Offer]:
    return [offer for offer in offers if limit is not None and offer.size_octets > limit.octets]


def _asked_for(connection: Connection, mailbox: str, large: Sequence[Offer]) -> frozenset[bytes]:
    """Return the UIDLs under which something was too large and is no longer on record as there: it is to come again."""
    gone = mailbox_queries.gone(connection, mailbox, [offer.uidl for offer in large if offer.uidl])
    return frozenset(one.uidl for one in gone if one.state == "rejected-oversize")


async def largest(
    rule: MailboxRule, own_octets: int | None, hops: Hops, policy: Policy, *, anew: bool = False
) -> Limit | None:
    """Return the largest message worth retrieving: what any next hop it may go to takes, at most.

    With `anew` they are asked now; raises NextHopTrouble where one can't be.
    """
    limits: list[tuple[int | None, LimitFrom, str]] = []
    for name in sorted(possible_hops(rule, policy)):
        if direct.is_direct(name) or name == direct.MX:
            # What a foreign server takes is found out by trying, unless the configuration says it for all of them.
            limits.append((policy.hops[direct.MX].max_size_octets, "config", direct.MX))
        elif (hop := hops.get(name)) is not None:
            octets = await hop.limit_octets(anew=anew)
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


def told_already(appends: tuple[Append, ...], reports: tuple[Reported, ...]) -> tuple[Append, ...]:
    """Return the appends of a rejection without its notices where there are reports of the same mail: nobody is told twice."""
    own = appends[0]
    return (Append(own.stream, own.before, (own.events[0], *reports), own.at),) if reports else appends
