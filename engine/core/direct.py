"""Direct delivery: the next hops that are not configured one by one, but one for each domain, its mail servers named by DNS.

A route says `next_hop = "mx"`; the next hop of a recipient is `mx:` and the recipient's domain as DNS has it, in lower case
and A-labels (RFC 5890), so that one domain's trouble is no other's. A domain that can't be in DNS keeps the name it was
written with: the next hop of that name refuses it.

An address literal (user@[192.0.2.1]) is not delivered to, as RFC 5321 section 5.1 leaves to us: nobody publishes such
addresses any more, and they would let who may relay reach any machine that we can.
"""

from __future__ import annotations

import re

from engine.core import envelope
from store.life import DOMAIN_HOP

MX = "mx"  # what a route says

DOMAIN_OCTETS = 253  # RFC 1035 section 2.3.4, without the root
_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")


def hop_of(recipient: str) -> str:
    """Return the name of the next hop that mail for this recipient goes to."""
    domain = envelope.domain(recipient).removesuffix(".")
    return DOMAIN_HOP + (domain if domain.isascii() else _a_labels(domain) or domain)


def is_direct(name: str) -> bool:
    """Whether this next hop is the mail servers of a domain."""
    return name.startswith(DOMAIN_HOP)


def domain_of(name: str) -> str:
    """Return the domain of such a next hop."""
    return name.removeprefix(DOMAIN_HOP)


def fault_of(domain: str) -> str | None:
    """Say why mail can't be delivered directly to a domain whatever DNS says; None where it can."""
    if domain.startswith("["):
        return "address literals are not delivered to: name a domain"
    if not domain.isascii():
        return "the domain has no form that DNS knows (RFC 5890)"
    if len(domain) > DOMAIN_OCTETS or not all(_LABEL.fullmatch(label) for label in domain.split(".")):
        return "that is no domain name"
    return None


def _a_labels(domain: str) -> str | None:
    import idna  # its tables take some milliseconds to load, and most runs never meet such a domain

    try:
        return idna.encode(domain, uts46=True).decode("ascii").lower()
    except UnicodeError:
        return None
