"""Who may relay through us, and to whom: a client and an address in, a verdict out.

Three kinds of clients: those who may relay (listed networks, and who logged in) send to anybody; those of `inbound` networks,
such as a provider that pushes, send to our own domains and nowhere else; everybody else is a stranger and sends nothing. Where
the destination must be ours, a local part that some servers take for another destination (percent hack, bang path) is refused,
for the home server might relay what we do not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Literal

from engine.core import envelope

IpAddress = IPv4Address | IPv6Address
IpNetwork = IPv4Network | IPv6Network
Kind = Literal["relay", "inbound", "stranger"]

# Between a local part and a destination that is not ours, to servers that know such things.
_ROUTING_MARKS = frozenset("%!@")


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The operator's will. `senders` holds patterns of reverse-paths by user or network; who isn't there may be anybody.

    `domains` are patterns of our own domains, `postmaster` gets what is for "postmaster" without a domain.
    """

    allow: tuple[IpNetwork, ...]
    inbound: tuple[IpNetwork, ...] = ()
    domains: tuple[str, ...] = ()
    postmaster: str
    senders: Mapping[str | IpNetwork, tuple[str, ...]] = field(default_factory=dict)
    has_users: bool = False


@dataclass(frozen=True, slots=True)
class Client:
    """Who is at the other end: an address, and the name that was proven by a password, if any."""

    address: IpAddress
    user: str | None = None

    @property
    def named(self) -> str:
        """How a reply speaks of it."""
        return f"[{self.address}]" if self.user is None else self.user


@dataclass(frozen=True, slots=True)
class Refused:
    """No: a reply code, an enhanced code (RFC 3463) and a text that says why."""

    code: int
    enhanced: str
    text: str

    @property
    def reply(self) -> str:
        """The reply, without its line ending."""
        return f"{self.code} {self.enhanced} {self.text}"


def address_of(text: str) -> IpAddress:
    """Return a client's address; an IPv4 address that came as IPv6 is itself again. Raises ValueError."""
    address = ip_address(text.partition("%")[0])
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        return address.ipv4_mapped
    return address


def kind(client: Client, rules: Rules) -> Kind:
    """Say what a client may do here."""
    if client.user is not None or any(client.address in network for network in rules.allow):
        return "relay"
    return "inbound" if any(client.address in network for network in rules.inbound) else "stranger"


def sender(reverse_path: str, client: Client, rules: Rules) -> str | Refused:
    """Judge a reverse-path ("" for the null one, which everybody may use: reports have it); returns the address."""
    if not reverse_path:
        return ""
    if not envelope.valid(reverse_path):
        return Refused(553, "5.1.7", f"<{reverse_path}> is no address to send from")
    patterns = _patterns(client, rules)
    if patterns is not None and not any(envelope.matches(pattern, reverse_path) for pattern in patterns):
        return Refused(553, "5.7.1", f"{client.named} may not send as <{reverse_path}>")
    return _normal(reverse_path)


def recipient(mailbox: str, client: Client, client_kind: Kind, rules: Rules) -> str | Refused:
    """Judge a recipient, its source route already taken away; returns the address to send to."""
    if client_kind == "stranger":
        way = " and did not log in" if rules.has_users else ""
        return Refused(550, "5.7.1", f"Relaying denied: {client.named} is not in a listed network{way}")
    if mailbox.lower() == "postmaster":
        return rules.postmaster  # RFC 5321 section 4.5.1
    if not envelope.valid(mailbox):
        return Refused(553, "5.1.3", f"<{mailbox}> is no address to send to")
    if client_kind == "relay":
        return _normal(mailbox)
    if not any(envelope.matches(pattern, mailbox) for pattern in rules.domains):
        return Refused(550, "5.7.1", f"Relaying denied: {client.named} may send to our own domains only")
    if not _ROUTING_MARKS.isdisjoint(mailbox.rpartition("@")[0]):
        return Refused(550, "5.7.1", f"Relaying denied: <{mailbox}> names a way to somewhere else")
    return _normal(mailbox)


def _normal(address: str) -> str:
    """An address as the rest of the program has it: the domain in lower case."""
    local_part, _, domain = address.rpartition("@")
    return f"{local_part}@{domain.lower()}"


def _patterns(client: Client, rules: Rules) -> tuple[str, ...] | None:
    """Whom a client may send as: what is said of the user, else of the smallest network; None for anybody."""
    if client.user is not None:
        return rules.senders.get(client.user)
    networks = [key for key in rules.senders if not isinstance(key, str) and client.address in key]
    smallest = max(networks, key=lambda network: network.prefixlen, default=None)
    return None if smallest is None else rules.senders[smallest]
