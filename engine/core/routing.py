"""Who gets a fetched message and why, and which next hop takes it and why.

Owns: the recipients of a mailbox with a fixed list, the recipients of a catch-all mailbox (multi-drop), the
choice of the next hop. Never reads To or Cc: they are letterhead, not envelope, and name neither blind
copies nor the members of a list. Never drops a message: without a recipient it goes to the fallback, or it
is held with the reason. Mail for our own domains goes home where no route says otherwise, and is never delivered
directly to what DNS names for them: that is the provider, or ourselves.

Multi-drop trusts one witness: the last hop, that is, the provider's delivery into the mailbox, which writes
the envelope recipient into a field of its own (Envelope-To, X-Envelope-To, X-Original-To, Delivered-To; RFC
9228). Each hop writes above what it was given. So:

- The header names are tried in the order given; the first that names an address of our domains decides
  alone.
- Of that name the topmost instance counts. Whatever stands lower was written by an earlier hop or by the
  sender, who could put anybody there, and is never merged in.
- One exception: where a provider keeps one copy for several recipients, it writes one field for each. All
  instances above the topmost Received field are taken together then. A receiving server puts its Received
  field above all it was given, so nothing up there can come from the sender.
- Providers differ, so `occurrence` picks one instance exactly, counted from the top (1, 2, …), or from the
  bottom (-1, …) for a provider that appends below the sender's fields. No other instance is looked at then.
- An address that is not of our domains is passed over, so that a forged field cannot make us relay to
  strangers.

List only fields that the provider writes into every message: one that it leaves out, a sender can supply.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from engine.core import direct, envelope
from engine.core.headers import Field, Octets, split

# Fields that say what the sender wanted to show, and a trace field that many hops write. Never a multi-drop
# header.
NO_ENVELOPE_HEADERS = frozenset(
    {"to", "cc", "bcc", "from", "apparently-to", "resent-to", "resent-cc", "resent-bcc", "received"}
)
# The limit of a transaction that every server must grant is 100, usual is 1,000 (RFC 5321 section
# 4.5.3.1.8); a header that names more is no envelope.
RECIPIENTS_LIMIT = 1000
# Enough to see in a reason what went wrong.
_SHOWN_DOMAINS = 3
# The next hop of our own domains where no route fits.
HOME = "home"


@dataclass(frozen=True, slots=True, kw_only=True)
class MailboxRule:
    """How a mailbox's messages get recipients: `recipients`, or else multi-drop by `headers`.

    `domains` are ours, as patterns of `envelope.matches`. `strip_prefix` is what qmail puts in front of
    local parts of a virtual domain ("mbox-example-com-"). `occurrence` picks one instance (1 is the
    topmost, -1 the lowest); None is the rule of the module. `fallback` gets what names nobody; "" or None:
    that is held.
    """

    recipients: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()
    strip_prefix: str = ""
    occurrence: int | None = None
    fallback: str | None = None

    def __post_init__(self) -> None:
        if self.occurrence == 0:
            raise ValueError("occurrence 0: count instances from 1 at the top, or from -1 at the bottom")


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipients:
    """The recipients, and at the same place what named each. `held` says why there is none, else None."""

    addresses: tuple[str, ...] = ()
    routed_by: tuple[str, ...] = ()
    held: str | None = None


class Patterns(Protocol):
    """Whom a rule is about."""

    @property
    def recipients(self) -> tuple[str, ...]: ...
    @property
    def senders(self) -> tuple[str, ...]: ...
    @property
    def users(self) -> tuple[str, ...]: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RouteRule:
    """One route. Patterns as in `envelope.matches`, for users as in `envelope.glob`. Empty asks for nothing.

    All that is asked for must fit: a route with senders and recipients takes only mail from those to those.
    """

    recipients: tuple[str, ...] = ()
    senders: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
    next_hop: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Routed:
    """The name of the next hop, None if there is none, and the rule that said so."""

    next_hop: str | None
    by: str


def recipients(octets: Octets, rule: MailboxRule) -> Recipients:
    """Who gets this message. `octets` (a message or its header section) is read for multi-drop only."""
    if rule.recipients:
        return _recipients((address, "mailbox recipients") for address in rule.recipients)
    if not rule.headers:
        return _nobody(rule, "the mailbox has neither recipients nor multi-drop headers")
    fields = split(octets)
    passed_over: list[str] = []
    for name in rule.headers:
        named, own = _named(fields, name, rule)
        if len(own) > RECIPIENTS_LIMIT:
            return _nobody(rule, f"header {name} names more than {RECIPIENTS_LIMIT} addresses")
        if own:
            return _recipients(own)
        passed_over.append(named)
    return _nobody(rule, f"no header named an own address ({'; '.join(passed_over)})")


def next_hop(
    sender: str, recipient: str, user: str | None, routes: Sequence[RouteRule], own_domains: Sequence[str]
) -> Routed:
    """Where mail for `recipient` goes. The first route that fits wins; where none does, our own domains go home.

    A route with the next hop "mx" takes no mail for our own domains; what it takes has a next hop for each domain
    (`engine.core.direct`). `sender` is the reverse-path, "" for the null one; `user` is who logged in to submit, None
    for nobody. `by` quotes patterns of the configuration, and of the message the recipient's domain only.
    """
    for number, route in enumerate(routes, 1):
        fits = fitting(route, sender, recipient, user)
        if fits is None:
            continue
        if route.next_hop != direct.MX:
            return Routed(next_hop=route.next_hop, by=f"route {number}: {fits}")
        if _own(recipient, own_domains) is None:
            return Routed(next_hop=direct.hop_of(recipient), by=f"route {number}: {fits}")
    own = _own(recipient, own_domains)
    if own is not None:
        return Routed(next_hop=HOME, by=f"own domain {own}")
    domain = envelope.domain(recipient)
    if routes:
        return Routed(next_hop=None, by=f"none of {len(routes)} routes fits the recipient domain {domain}")
    return Routed(next_hop=None, by=f"{domain} is not an own domain and there are no routes")


def asked_for(recipient: str, hop: str, own_domains: Sequence[str]) -> Routed:
    """Where mail for `recipient` goes that a person wants to go through this next hop, whatever the routes say."""
    by = "a request to deliver it again"
    if hop != direct.MX:
        return Routed(next_hop=hop, by=by)
    own = _own(recipient, own_domains)
    if own is not None:
        return Routed(next_hop=None, by=f"{by} directly, which nothing for the own domain {own} is")
    return Routed(next_hop=direct.hop_of(recipient), by=by)


def shared(hops: Iterable[str | None]) -> str | None:
    """Return the one next hop of all, with whose mail they wait; None for several: none of them must wait for another's."""
    those = set(hops)
    return those.pop() if len(those) == 1 else None


def _own(recipient: str, own_domains: Sequence[str]) -> str | None:
    """The pattern of our own domains that fits, None if none does."""
    return next((pattern for pattern in own_domains if envelope.matches(pattern, recipient)), None)


def _recipients(named: Iterable[tuple[str, str]]) -> Recipients:
    """Each address once, as it was named first."""
    once: dict[str, tuple[str, str]] = {}
    for address, by in named:
        once.setdefault(envelope.key(address), (address, by))
    return Recipients(
        addresses=tuple(address for address, _ in once.values()),
        routed_by=tuple(by for _, by in once.values()),
    )


def _nobody(rule: MailboxRule, reason: str) -> Recipients:
    if rule.fallback:
        return Recipients(addresses=(rule.fallback,), routed_by=(f"fallback: {reason}",))
    return Recipients(held=reason)


def _named(fields: tuple[Field, ...], name: str, rule: MailboxRule) -> tuple[str, list[tuple[str, str]]]:
    """What to say of this header if it names nobody of ours; and whom of ours it names, by what."""
    places = _places(fields, name)
    chosen = _chosen(places, _topmost_received(fields), rule.occurrence)
    own: list[tuple[str, str]] = []
    strange: list[str] = []
    for number in chosen:
        for written in envelope.addresses(_text(fields[places[number - 1]])):
            address = _without_prefix(written, rule.strip_prefix)
            if any(envelope.matches(pattern, address) for pattern in rule.domains):
                own.append((address, f"header {name}, instance {number}"))
            else:
                strange.append(envelope.domain(address))
    return _passed_over(name, len(places), chosen, strange, rule), own


def _places(fields: tuple[Field, ...], name: str) -> list[int]:
    wanted = name.lower().rstrip(":").encode("utf-8", "replace")
    return [place for place, field in enumerate(fields) if field.name.lower() == wanted]


def _topmost_received(fields: tuple[Field, ...]) -> int:
    """Where the topmost Received field stands; 0 if there is none: then nothing is surely the last hop's."""
    return next((place for place, field in enumerate(fields) if field.name.lower() == b"received"), 0)


def _chosen(places: list[int], topmost_received: int, occurrence: int | None) -> list[int]:
    """The numbers, from 1 at the top, of the instances that the last hop wrote."""
    if occurrence is not None:
        number = occurrence if occurrence > 0 else len(places) + 1 + occurrence
        return [number] if 1 <= number <= len(places) else []
    above = sum(place < topmost_received for place in places)
    return list(range(1, max(above, min(1, len(places))) + 1))


def _text(field: Field) -> str:
    return field.value.decode("utf-8", "replace")


def _without_prefix(address: str, prefix: str) -> str:
    if not prefix or not address.lower().startswith(prefix.lower()):
        return address
    bare = address[len(prefix) :]
    return bare if envelope.valid(bare) else address


def _passed_over(name: str, count: int, chosen: list[int], strange: list[str], rule: MailboxRule) -> str:
    if not count:
        return f"{name} absent"
    if not chosen:
        return f"{name} has {count} instances, not instance {rule.occurrence}"
    if not strange:
        return f"{name} without an address"
    domains = sorted(set(strange))
    more = ", …" if len(domains) > _SHOWN_DOMAINS else ""
    return f"{name} names only foreign domains: {', '.join(domains[:_SHOWN_DOMAINS])}{more}"


def fitting(route: Patterns, sender: str, recipient: str, user: str | None) -> str | None:
    """The patterns by which a route, or what asks as one does, fits, None if it doesn't."""
    found: list[str] = []
    if route.recipients:
        found.append(_first(route.recipients, recipient, "recipients"))
    if route.senders:
        found.append(_first(route.senders, sender, "senders"))
    if route.users:
        fits = (pattern for pattern in route.users if user is not None and envelope.glob(pattern, user))
        found.append(next((f"users {pattern}" for pattern in fits), ""))
    if not all(found):
        return None
    return ", ".join(found) or "takes all"


def _first(patterns: tuple[str, ...], address: str, what: str) -> str:
    """The first pattern that fits, with what it is a pattern of; "" if none does."""
    fits = (pattern for pattern in patterns if envelope.matches(pattern, address))
    return next((f"{what} {pattern or '<>'}" for pattern in fits), "")
