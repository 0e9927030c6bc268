"""The foreign host that a message came from, and what it called itself, as the Received fields of the trusted last hops tell."""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

_FROM = re.compile(rb"\s*from\s+(\S+)", re.IGNORECASE)
# Exim and qmail put the name of the host first, and in brackets what it called itself where that is another.
_HELO = re.compile(rb"[(\s](?:helo|ehlo)[= ]([^\s()]+)", re.IGNORECASE)
_BY = re.compile(rb"\s[Bb][Yy]\s")
# The name a client gives itself may be a literal too, and means nothing: Exim shows it as helo=[…].
_BRACKETED = re.compile(rb"\[(?<!helo[= ]\[)(?<!ehlo[= ]\[)(?:IPv6:)?([0-9a-f:.]{2,45})\]", re.IGNORECASE)
_PARENTHESISED = re.compile(rb"\((?:[^()@\s]*+@)?([0-9a-f:.]{2,45})\)", re.IGNORECASE)


def _ranges(networks: str) -> tuple[tuple[int, int], ...]:
    return tuple((int(network[0]), int(network[-1])) for network in map(ip_network, networks.split()))


# Addresses within a provider's or an organisation's house. Documentation addresses (RFC 5737) are foreign.
_OWN_HOUSE_4 = _ranges(
    "0.0.0.0/8 10.0.0.0/8 100.64.0.0/10 127.0.0.0/8 169.254.0.0/16 172.16.0.0/12 192.168.0.0/16 224.0.0.0/3"
)
_OWN_HOUSE_6 = _ranges("::/127 fc00::/7 fe80::/10 ff00::/8")


def client_ip(hops: Sequence[bytes]) -> str | None:
    """The topmost foreign address that a hop says it was connected to.

    Hops within the provider's house show private addresses or none and are passed over. Where the
    provider's own machines talk to each other over public addresses, the answer is one of those.
    """
    for value in hops:
        address = _address(_from_clause(value))
        if address is not None:
            return address
    return None


def helo(hops: Sequence[bytes], address: str) -> str:
    """What the host at `address` called itself, by the hop that `client_ip` has it from; "" where that isn't told."""
    for value in hops:
        clause = _from_clause(value)
        if _address(clause) == address:
            named = _HELO.search(clause) or _FROM.match(clause)
            name = named[1].decode("utf-8", "replace") if named else ""
            return name if name.isprintable() and name.lower() != "unknown" else ""
    return ""


def _address(clause: bytes) -> str | None:
    literals = _BRACKETED.findall(clause) or _PARENTHESISED.findall(clause)
    return _foreign(literals[-1].decode("ascii")) if literals else None


def _from_clause(value: bytes) -> bytes:
    """What stands between from and by, b"" if there is no from. A client may call itself "by"."""
    name = _FROM.match(value)
    if name is None:
        return b""
    by = _BY.search(value, name.end())
    return value[: by.start()] if by else value


def _foreign(literal: str) -> str | None:
    try:
        address: IPv4Address | IPv6Address = ip_address(literal)
    except ValueError:
        return None
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    number = int(address)
    own_house = _OWN_HOUSE_4 if isinstance(address, IPv4Address) else _OWN_HOUSE_6
    return None if any(first <= number <= last for first, last in own_house) else str(address)
