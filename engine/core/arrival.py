"""Would a message be taken in at all under another configuration, and for whom? Held against its opening event. Pure.

What isn't on record is not guessed: a header that names recipients is not read again, and what next hops themselves took at
most is taken as it was.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from engine.core import envelope, relaying
from engine.core.policy import Policy
from engine.core.reach import bound, possible_hops
from engine.core.relaying import Client, Refused, Rules
from engine.core.routing import MailboxRule
from store.events import Downloaded, RejectedOversize, Submitted

FIXED = "mailbox recipients"
FALLBACK = "fallback: "
HEADER = "header "
NEW = -1  # the number of a recipient that there was not


@dataclass(frozen=True, slots=True, kw_only=True)
class MailboxTerms:
    """Which of a mailbox's messages are fetched, and for whom. Sizes are octets."""

    rule: MailboxRule
    max_size_octets: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenerTerms:
    """What clients may hand in. Sizes are octets."""

    rules: Rules
    users: frozenset[str] = frozenset()
    max_size_octets: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A whole configuration, as far as it decides anything."""

    policy: Policy
    mailboxes: Mapping[str, MailboxTerms] = field(default_factory=dict)
    listener: ListenerTerms | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Other:
    """What would be otherwise, for these recipients, or for all without numbers.

    `ends` says that nothing of its life would be as it was.
    """

    was: str
    would: str
    why: str
    numbers: tuple[int, ...] = ()
    ends: bool = False


def fetched(event: Downloaded, candidate: Candidate) -> Iterator[Other]:
    """Yield how a message that was fetched would come in otherwise."""
    terms = candidate.mailboxes.get(event.mailbox)
    if terms is None:
        yield Other(was="fetched", would="not fetched", why=f"there is no mailbox {event.mailbox}", ends=True)
        return
    limit = bound(terms.rule, terms.max_size_octets, candidate.policy)
    if limit is not None and event.listed_octets > limit.octets:
        yield Other(
            was="fetched", would="not fetched, too large", why=_larger(limit.by, limit.octets), ends=True
        )
        return
    yield from _recipients(event, terms.rule)


def refused(event: RejectedOversize, candidate: Candidate) -> Iterator[Other]:
    """Yield why a message that was too large would be fetched now, as far as the configuration says."""
    if event.limit_from == "listener":
        listener = candidate.listener
        if listener is not None and event.size_octets <= listener.max_size_octets:
            why = f"listen.max_size is {listener.max_size_octets}"
            yield Other(was="refused to its client", would="taken from its client", why=why, ends=True)
        return
    terms = candidate.mailboxes.get(event.mailbox or "")
    if terms is None:
        return  # its mailbox is gone: not fetched either way
    was, would = "not fetched, too large", "fetched"
    size = event.size_octets
    if event.next_hop is not None and event.next_hop not in possible_hops(terms.rule, candidate.policy):
        yield Other(was=was, would=would, why=f"its mail does not go to {event.next_hop}", ends=True)
    elif event.limit_from == "config":
        hop = candidate.policy.hop(event.next_hop)
        by = f"next_hop.{event.next_hop}.max_size" if event.next_hop is not None else "the mailbox's max_size"
        hop_limit = None if hop is None else hop.max_size_octets
        limit = terms.max_size_octets if event.next_hop is None else hop_limit
        if limit is None or size <= limit:
            allows = "is not set" if limit is None else f"is {limit}"
            yield Other(was=was, would=would, why=f"{by} {allows}", ends=True)


def submitted(event: Submitted, candidate: Candidate) -> Iterator[Other]:
    """Yield why a message that a client handed in would be refused."""
    listener = candidate.listener
    if listener is None:
        yield _not_taken("there is no [listen]")
    elif event.size_octets > listener.max_size_octets:
        yield _not_taken(_larger("listen.max_size", listener.max_size_octets))
    elif (why := _unwelcome(event, listener)) is not None:
        yield _not_taken(why)


def _unwelcome(event: Submitted, listener: ListenerTerms) -> str | None:
    """Return the reply that refuses the client, or one of the recipients, None for none."""
    if event.user is not None and event.user not in listener.users:
        return f"there is no user {event.user}"
    client = Client(relaying.address_of(event.peer), event.user)
    kind = relaying.kind(client, listener.rules)
    judged = [relaying.sender(event.reverse_path, client, listener.rules)]
    # Who wrote to "postmaster" has this address on record, and is not refused for it.
    others = (a for a in event.recipients if a != listener.rules.postmaster or kind == "stranger")
    judged += [relaying.recipient(address, client, kind, listener.rules) for address in others]
    return next((one.reply for one in judged if isinstance(one, Refused)), None)


def _not_taken(why: str) -> Other:
    return Other(was="taken from its client", would="refused to its client", why=why, ends=True)


def _larger(by: str, octets: int) -> str:
    return f"{by} is {octets}"


def _recipients(event: Downloaded, rule: MailboxRule) -> Iterator[Other]:
    """Compare who is named: by the same means, for by others it can't be known."""
    pairs = tuple(zip(event.recipients, event.routed_by, strict=False))
    if not pairs:
        return  # that it was held is compared where it is on record
    if event.routed_by[0] == FIXED and rule.recipients:
        yield from _others_named(event.recipients, rule.recipients)
        return
    lost = {n: why for n, (address, by) in enumerate(pairs) if (why := _unnamed(address, by, rule))}
    for why in dict.fromkeys(lost.values()):
        numbers = tuple(n for n, said in lost.items() if said == why)
        yield Other(was="a recipient", would="no recipient", why=why, numbers=numbers)


def _others_named(before: tuple[str, ...], now: tuple[str, ...]) -> Iterator[Other]:
    """Compare the recipients that a mailbox itself named with those that it names now."""
    were, are = {envelope.key(a): a for a in before}, {envelope.key(a): a for a in now}
    lost = [a for key, a in were.items() if key not in are]
    new = [a for key, a in are.items() if key not in were]
    if lost or new:
        yield Other(
            was=f"for {', '.join(lost)}" if lost else "not for others",
            would=f"for {', '.join(new)}" if new else "not for them",
            why="the mailbox names others",
            numbers=tuple(n for n, a in enumerate(before) if a in lost) or (NEW,),
        )


def _unnamed(address: str, by: str, rule: MailboxRule) -> str | None:
    """Say why an address would not be named again, None where it would be, as far as can be known."""
    if by == FIXED:
        return "the mailbox names recipients by a header"
    if rule.recipients:
        return "the mailbox names its recipients itself"
    if by.startswith(FALLBACK):
        return None if rule.fallback == address else f"the fallback is {rule.fallback or 'not set'}"
    if by.startswith(HEADER):
        name = by.removeprefix(HEADER).partition(",")[0]
        if name.lower() not in {header.lower() for header in rule.headers}:
            return f"the header {name} is not read"
        if not any(envelope.matches(pattern, address) for pattern in rule.domains):
            return f"{envelope.domain(address)} is not among the mailbox's domains"
    return None
