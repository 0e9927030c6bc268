"""How large may a message be, and where can its mailbox's mail go at all? As far as the configuration says. Pure."""

from __future__ import annotations

from dataclasses import dataclass

from engine.core import direct, envelope
from engine.core.policy import Policy
from engine.core.routing import HOME, MailboxRule, RouteRule, next_hop


def possible_hops(rule: MailboxRule, policy: Policy) -> set[str]:
    """Return the next hops this mailbox's mail can go to; one that is not configured may be among them."""
    known = rule.recipients or tuple(a for a in (rule.fallback,) if a and not rule.headers)
    if known and not any(route.senders for route in policy.routes):
        routed = (next_hop("", address, None, policy.routes, policy.domains).next_hop for address in known)
        return {name for name in routed if policy.hop(name) is not None and name is not None}
    addresses = known or (
        *(f"@{domain}" for domain in rule.domains),
        *((rule.fallback,) if rule.fallback else ()),
    )
    names = {HOME, *(route.next_hop for route in policy.routes if _may_fit(route, addresses))}
    # Nothing for our own domains is delivered directly.
    if all(any(envelope.matches(own, address) for own in policy.domains) for address in addresses):
        names.discard(direct.MX)
    return {name for name in names if policy.hop(name) is not None}


def _may_fit(route: RouteRule, addresses: tuple[str, ...]) -> bool:
    """Whether a route may take mail that is fetched for these addresses, or domains with an @ in front."""
    if route.users:  # nobody logged in for what is fetched
        return False
    return not route.recipients or any(_meet(p, a) for p in route.recipients for a in addresses)


def _meet(pattern: str, address: str) -> bool:
    """Whether an address fits a pattern; of a domain, whether an address in it may."""
    if not address.startswith("@"):
        return envelope.matches(pattern, address)
    its_domain = pattern.rpartition("@")[2]
    return "*" in address or (pattern not in ("", "<>") and envelope.glob(its_domain, address[1:]))


@dataclass(frozen=True, slots=True)
class Bound:
    """A size no message may exceed, in octets, and what in the configuration says so."""

    octets: int
    by: str


def bound(rule: MailboxRule, own_octets: int | None, policy: Policy) -> Bound | None:
    """Return the size above which nothing is retrieved, whatever next hops themselves say; None where there is none."""
    limits = {name: _limit(name, policy) for name in possible_hops(rule, policy)}
    known = {name: octets for name, octets in limits.items() if octets is not None}
    found: Bound | None = None
    if limits and len(known) == len(limits):
        name = max(sorted(known), key=known.__getitem__)
        found = Bound(known[name], f"next_hop.{name}.max_size")
    if own_octets is not None and (found is None or own_octets <= found.octets):
        return Bound(own_octets, "the mailbox's max_size")
    return found


def _limit(name: str, policy: Policy) -> int | None:
    hop = policy.hop(name)
    return None if hop is None else hop.max_size_octets
