"""What a person decides about a message: hold, release, discard, fail; and whether it is kept whatever its age.

`carry_out` looks at a message as it stands and returns the events of an order, or why it can't be carried out. Pure. An
order concerns a message's recipients as they are: those that have a fate keep it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal, assert_never

from engine.core import envelope
from engine.core.plan import NO_ANSWER, addresses, goes_to, no_octets
from engine.core.policy import Policy
from engine.core.routing import Recipients, shared
from store.events import Discarded, Failed, Held, Kept, KeptNoLonger, MessageEvent, Released
from store.life import Message
from store.recipient import Recipient, recipients_of

Verb = Literal["hold", "release", "discard", "fail", "keep", "unkeep"]
EXEMPTING = frozenset({"keep", "unkeep"})  # from retention: of a message whole, open or closed

BY_HAND = "by hand"


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is to be done, who says so and why.

    `until` is for "hold": when it goes on by itself. `recipients` are addresses or patterns: only these; empty for all.
    `quarantined` says that it concerns only what is in quarantine.
    """

    verb: Verb
    operator: str
    reason: str = ""
    until: datetime | None = None
    recipients: tuple[str, ...] = ()
    quarantined: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """It can be done, by appending these. `doubtful` may have the message already: nobody knows."""

    events: tuple[MessageEvent, ...]
    doubtful: tuple[Recipient, ...] = ()


@dataclass(frozen=True, slots=True)
class Refused:
    """It can't be done; the text goes on where "it can't be held: " stops."""

    text: str


@dataclass(frozen=True, slots=True)
class UnderWay:
    """It is just being handed over to this next hop, and what is handed over can't be called back."""

    next_hop: str


Answer = Decided | Refused | UnderWay


def carry_out(
    message: Message, order: Order, policy: Policy, *, worked_on: bool, named: Recipients | None = None
) -> Answer:
    """Return what an order comes to.

    `worked_on` says that a gateway that lives holds the message. `named` is whom the current rules name, for a message
    that names nobody and is to be released.
    """
    if order.verb in EXEMPTING:
        return _exempted(message, order, policy)
    if not message.open:
        return Refused(_closed(message, order))
    if order.verb == "release" and not message.kept:
        return Refused(no_octets(message))
    if not message.recipients and not order.recipients:
        return _for_nobody(message, order, policy, named)
    meant = [r for r in message.recipients if _meant(r, order)]
    if not meant:
        return Refused(f"it has no recipient {' or '.join(order.recipients)}")
    chosen = [r for r in meant if r.open and _can(r, order)]
    if not chosen:
        return Refused(_not_now(meant, order))
    flying = [r for r in chosen if r.in_flight]
    if flying and worked_on:
        return UnderWay(flying[0].next_hop or "")
    return Decided(
        events=tuple(_events(message, order, chosen, policy)),
        doubtful=tuple(r for r in chosen if r.state == "outcome-unknown"),
    )


def _exempted(message: Message, order: Order, policy: Policy) -> Answer:
    """Exempt it from retention and erasure, or leave it to them again."""
    since = message.exempt_since
    if order.verb == "unkeep" and since is None:
        return Refused("it isn't kept from it")
    if order.verb == "keep" and since is not None:
        why = f": {message.exempt_for}" if message.exempt_for else ""
        return Refused(f"it is already, since {since:%Y-%m-%d} by {message.exempt_by}{why}")
    if order.verb == "keep" and message.erased_at is not None and not message.kept:
        return Refused("it was erased: there is nothing left to keep")
    return Decided(events=tuple(_events(message, order, [], policy)))


def _can(recipient: Recipient, order: Order) -> bool:
    """Whether a recipient without a fate is one that the order is about. Who is in quarantine is not held besides."""
    if order.quarantined:
        return recipient.state == "quarantined"
    if order.verb == "hold":
        return recipient.state != "quarantined"
    return recipient.held or order.verb != "release"


def _not_now(meant: list[Recipient], order: Order) -> str:
    """Say why it can't be done for any of these recipients."""
    if not _any_open(meant):
        return _settled(meant)
    states = " and ".join(sorted({r.state for r in meant}))
    if order.quarantined:
        return f"it isn't in quarantine: it is {states}"
    if order.verb == "hold":
        return "it is in quarantine, where it stays until a person decides"
    return f"it isn't held: it is {states}"


def _closed(message: Message, order: Order) -> str:
    gone = f", and {no_octets(message)}" if message.purged_at is not None else ""
    given_up = message.kept and message.state in ("failed", "discarded")
    again = "; 'mailgate replay' delivers it again" if order.verb == "release" and given_up else ""
    return f"it is {message.state}{gone}{again}"


def _meant(recipient: Recipient, order: Order) -> bool:
    return not order.recipients or any(envelope.matches(p, recipient.address) for p in order.recipients)


def _any_open(recipients: list[Recipient]) -> bool:
    return any(r.open for r in recipients)


def _settled(recipients: list[Recipient]) -> str:
    return "; ".join(f"{r.address or '(erased)'} is {r.state}" for r in recipients)


def _events(
    message: Message, order: Order, chosen: list[Recipient], policy: Policy
) -> Iterator[MessageEvent]:
    numbers = tuple(r.number for r in chosen)
    match order.verb:
        case "hold":
            yield from _cut_off(chosen, policy)
            yield _held(order, numbers, policy)
        case "release":
            yield Released(
                numbers=numbers,
                bound_for=shared(goes_to(message, r, policy).next_hop for r in chosen),
                operator=order.operator,
                policy=policy.version,
                recipients=addresses(message, numbers),
                reason=order.reason,
            )
        case "discard" | "fail":
            yield _given_up(message, order, numbers, policy)
        case "keep":
            yield Kept(operator=order.operator, policy=policy.version, reason=order.reason)
        case "unkeep":
            yield KeptNoLonger(operator=order.operator, policy=policy.version, reason=order.reason)
        case _:
            assert_never(order.verb)


def _cut_off(chosen: list[Recipient], policy: Policy) -> Iterator[MessageEvent]:
    """First say of attempts that were cut off that nobody will ever know: a hold must not cover that up."""
    flying = [r for r in chosen if r.in_flight]
    for hop in sorted({r.next_hop or "" for r in flying}):
        numbers = tuple(r.number for r in flying if (r.next_hop or "") == hop)
        rule = f"{hop}: {NO_ANSWER}"
        yield Held(why="outcome-unknown", rule=rule, numbers=numbers, policy=policy.version)


def _held(order: Order, numbers: tuple[int, ...], policy: Policy) -> Held:
    return Held(
        why="operator",
        rule=BY_HAND,
        until=order.until,
        numbers=numbers,
        operator=order.operator,
        policy=policy.version,
        reason=order.reason,
    )


def _given_up(message: Message, order: Order, numbers: tuple[int, ...], policy: Policy) -> Failed | Discarded:
    if order.verb == "discard":
        return Discarded(
            numbers=numbers,
            operator=order.operator,
            policy=policy.version,
            recipients=addresses(message, numbers),
            reason=order.reason,
        )
    return Failed(
        numbers=numbers,
        reason="operator",
        next_hop=None,
        attempt=message.attempts,
        code=None,
        operator=order.operator,
        policy=policy.version,
        recipients=addresses(message, numbers),
        comment=order.reason,
    )


def _for_nobody(message: Message, order: Order, policy: Policy, named: Recipients | None) -> Answer:
    """A message that names no recipient: it can go on only where the current rules name one."""
    if order.quarantined:
        return Refused(f"it isn't in quarantine: it is {message.state}")
    if order.verb == "hold":
        if order.until is not None:
            return Refused("it names no recipient, so that it can't go on by itself later")
        return Decided(events=(_held(order, (), policy),))
    if order.verb != "release":
        return Decided(events=(_given_up(message, order, (), policy),))
    if named is None or not named.addresses:
        why = f" ({named.held})" if named is not None and named.held else ""
        return Refused(f"it names no recipient{why}; with a fallback set for its mailbox it can")
    going = recipients_of(len(named.addresses), named.addresses, named.routed_by)
    released = Released(
        numbers=tuple(r.number for r in going),
        bound_for=shared(goes_to(message, r, policy).next_hop for r in going),
        operator=order.operator,
        policy=policy.version,
        recipients=named.addresses,
        routed_by=named.routed_by,
        reason=order.reason,
    )
    return Decided(events=(released,))
