"""What is too large for the next hop that it is to go to: known beforehand, or learnt from its refusal. Pure.

What is here already is refused unasked only by a limit in the configuration, or one that the next hop announced in this
very session (RFC 1870 section 6.1). What an old refusal taught keeps mail in its mailbox, and no more: to ask is the only way
to find out that the limit was raised.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from engine.core.outcome import Reply
from engine.core.policy import Policy
from engine.core.routing import Routed
from store.events import LimitFrom, RejectedOversize
from store.life import Message
from store.recipient import Recipient


def unasked(
    message: Message, due: Sequence[Recipient], routed: Mapping[int, Routed], policy: Policy
) -> tuple[RejectedOversize, ...]:
    """Return what records that it exceeds the configured limit of the next hop of some; nothing where it doesn't."""
    found: dict[str, list[int]] = {}
    for one in due:
        name = routed[one.number].next_hop
        limit = _configured(name, policy)
        if name is not None and limit is not None and message.size_octets > limit:
            found.setdefault(name, []).append(one.number)
    return tuple(_by_configuration(message, name, tuple(numbers), policy) for name, numbers in found.items())


def refused(
    message: Message, next_hop: str, numbers: tuple[int, ...], answer: Reply, policy: Policy
) -> RejectedOversize:
    """Return what records an answer that says so. One that was given teaches: it takes only smaller ones from now on."""
    announced = answer.limit_octets
    return _rejected(
        message,
        next_hop,
        numbers,
        policy,
        limit_from="next-hop",
        limit_octets=message.size_octets - 1 if announced is None else announced,
        tried=announced is None,
        reply=answer.said,
    )


def _configured(next_hop: str | None, policy: Policy) -> int | None:
    hop = policy.hop(next_hop)
    return None if hop is None else hop.max_size_octets


def _by_configuration(
    message: Message, next_hop: str, numbers: tuple[int, ...], policy: Policy
) -> RejectedOversize:
    limit = _configured(next_hop, policy) or 0
    return _rejected(
        message,
        next_hop,
        numbers,
        policy,
        limit_from="config",
        limit_octets=limit,
        tried=False,
        reply=f"552 5.3.4 not sent by mailgate: {message.size_octets:,} octets, and max_size of {next_hop} is {limit:,}",
    )


def _rejected(
    message: Message,
    next_hop: str,
    numbers: tuple[int, ...],
    policy: Policy,
    *,
    limit_octets: int,
    limit_from: LimitFrom,
    tried: bool,
    reply: str,
) -> RejectedOversize:
    return RejectedOversize(
        mailbox=message.mailbox,
        uidl=message.uidl,
        direction=message.direction,
        size_octets=message.size_octets,
        limit_octets=limit_octets,
        limit_from=limit_from,
        next_hop=next_hop,
        numbers=numbers,
        tried=tried,
        policy=policy.version,
        peer=message.peer,
        helo=message.helo,
        user=message.user,
        reverse_path=message.reverse_path,
        recipients=tuple(r.address for r in message.recipients if r.number in numbers),
        message_id=message.message_id,
        subject=message.subject,
        from_=message.sender,
        reply=reply,
    )
