"""What to do next with a message: looks forward.

`plan` is pure: the same message, policy and time give the same step. It takes one step at a time; whoever
performs it appends what came of it and asks again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import assert_never

from engine.core import oversize
from engine.core.holding import stays
from engine.core.policy import HopPolicy, Policy
from engine.core.routing import Routed, asked_for, next_hop
from engine.core.verdict import Dropped, Judgement, Kept, Passed, Redirected, judge, wanting
from store.events import (
    Deferred,
    Discarded,
    Failed,
    Held,
    MessageEvent,
    Quarantined,
    RedeliveryRequested,
)
from store.life import Message, due_at
from store.recipient import Recipient

NO_ANSWER = "the attempt was cut off before an answer was on record"
NO_OCTETS = "the octets are no longer kept"


@dataclass(frozen=True, slots=True)
class Rest:
    """Nothing to do until then; None is never, without a person."""

    until: datetime | None


@dataclass(frozen=True, slots=True)
class Record:
    """Append these: a decision that needs no attempt."""

    events: tuple[MessageEvent, ...]


@dataclass(frozen=True, slots=True)
class Scan:
    """Ask these scanners, before it goes on."""

    scanners: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class HandOver:
    """Try to hand these recipients to this next hop."""

    next_hop: str
    numbers: tuple[int, ...]
    recipients: tuple[str, ...]
    attempt: int
    rule: str


Step = Rest | Record | Scan | HandOver

Wait = tuple[int, float]  # how long a next hop lets one wait, to be compared with another's


def alike(_next_hop: str) -> Wait:
    """Tell every next hop's wait where nothing is known of any."""
    return 0, 0.0


def plan(message: Message, policy: Policy, now: datetime, wait: Callable[[str], Wait] = alike) -> Step:
    """Return the one next thing to do with a message.

    Of several next hops the one comes first that lets it `wait` least: the others wait for that one.
    """
    due = [recipient for recipient in message.recipients if _due(recipient, message, now)]
    if not message.open or not due:
        return Rest(message.due_at)
    if not message.kept:
        return Record((_no_octets(message, due, policy),))
    if cut_off := [r for r in due if r.in_flight]:
        return Record(tuple(_cut_off(message, cut_off, policy, now)))
    if policy.scanners:
        if wanted := wanting(message, policy.scanners):
            return Scan(wanted)
        if kept := _kept_back(message, judge(message, policy.scanners), due, policy):
            return Record(kept)
    routed = {r.number: goes_to(message, r, policy) for r in due}
    if homeless := [r for r in due if not _known(routed[r.number], policy)]:
        rule = "; ".join(sorted({_homeless(routed[r.number]) for r in homeless}))
        return Record((Held(why="unroutable", rule=rule, numbers=_numbers(homeless), policy=policy.version),))
    if (stay := stays(message, due, routed, policy.holds, now)) is not None:
        held = Held(
            why="operator", rule=stay.rule, until=stay.until, numbers=stay.numbers, policy=policy.version
        )
        return Record((held,))
    if large := oversize.unasked(message, due, routed, policy):
        return Record(large)
    return _hand_over(message, due, routed, wait)


def due_to(message: Message, now: datetime) -> HandOver:
    """Return the hand-over that would be next if nothing had to be asked before: to nobody in particular."""
    due = [recipient for recipient in message.recipients if _due(recipient, message, now)]
    return HandOver(
        next_hop=message.first_hop or "",
        numbers=_numbers(due),
        recipients=tuple(r.address for r in due),
        attempt=message.attempts + 1,
        rule="",
    )


def goes_to(message: Message, recipient: Recipient, policy: Policy) -> Routed:
    """Return where it goes to a recipient: by the request of a person who named a next hop, else by the routes."""
    if recipient.via is not None:
        return asked_for(recipient.address, recipient.via, policy.domains)
    return _routed(message, recipient.address, policy)


def _routed(message: Message, address: str, policy: Policy) -> Routed:
    return next_hop(message.reverse_path, address, message.user, policy.routes, policy.domains)


def _kept_back(
    message: Message, judgement: Judgement, due: list[Recipient], policy: Policy
) -> tuple[MessageEvent, ...]:
    """Return what records that it doesn't go to these recipients; nothing where it may."""
    numbers, those = _numbers(due), tuple(r.address for r in due)
    match judgement:
        case Passed():
            return ()
        case Kept():
            return (
                Quarantined(
                    reason=judgement.reason,
                    rule=judgement.rule,
                    scanner=judgement.scanner,
                    numbers=numbers,
                    policy=policy.version,
                    recipients=those,
                ),
            )
        case Dropped():
            return (_discarded(numbers, those, judgement.rule, policy),)
        case Redirected() if all(r.routed_by == judgement.rule for r in due):
            return ()  # that is where it goes already
        case Redirected():
            again = RedeliveryRequested(
                added=1,
                bound_for=_routed(message, judgement.address, policy).next_hop,
                rule=judgement.rule,
                policy=policy.version,
                recipients=(judgement.address,),
            )
            return (_discarded(numbers, those, judgement.rule, policy), again)
        case _:
            assert_never(judgement)


def _discarded(numbers: tuple[int, ...], those: tuple[str, ...], rule: str, policy: Policy) -> Discarded:
    return Discarded(numbers=numbers, rule=rule, policy=policy.version, recipients=those)


def _due(recipient: Recipient, message: Message, now: datetime) -> bool:
    at = due_at(recipient, message)
    return at is not None and at <= now


def _hand_over(
    message: Message, due: list[Recipient], routed: dict[int, Routed], wait: Callable[[str], Wait]
) -> HandOver:
    """Take the next hop of the first recipient, or of the one that waits least, and all who share it."""
    first = routed[due[0].number]
    if len(due) > 1:
        first = min((routed[r.number] for r in due), key=lambda one: wait(one.next_hop or ""))
    together = [r for r in due if routed[r.number].next_hop == first.next_hop]
    return HandOver(
        next_hop=first.next_hop or "",
        numbers=_numbers(together),
        recipients=tuple(r.address for r in together),
        attempt=message.attempts + 1,
        rule=first.by,
    )


def _cut_off(
    message: Message, recipients: list[Recipient], policy: Policy, now: datetime
) -> Iterator[MessageEvent]:
    """Settle attempts whose outcome nobody will ever know: retry or hold, as the next hop's policy says."""
    for hop in sorted({r.next_hop or "" for r in recipients}):
        those = [r for r in recipients if (r.next_hop or "") == hop]
        yield unknown(message, _numbers(those), hop, NO_ANSWER, policy, now)


def unknown(
    message: Message, numbers: tuple[int, ...], hop: str, text: str, policy: Policy, retry_at: datetime
) -> MessageEvent:
    """Return what records that nobody knows whether the next hop took it."""
    if (policy.hop(hop) or HopPolicy()).on_unknown == "hold":
        return Held(why="outcome-unknown", rule=f"{hop}: {text}", numbers=numbers, policy=policy.version)
    return Deferred(
        numbers=numbers,
        next_hop=hop,
        attempt=message.attempts,
        retry_at=retry_at,
        scope="message",
        code=None,
        unknown=True,
        policy=policy.version,
        recipients=addresses(message, numbers),
        reply=text,
    )


def addresses(message: Message, numbers: tuple[int, ...]) -> tuple[str, ...]:
    """Return the addresses of these recipients."""
    return tuple(r.address for r in message.recipients if r.number in numbers)


def no_octets(message: Message) -> str:
    """Say why there is nothing to hand over."""
    if message.purged_at is None:
        return NO_OCTETS
    return f"the octets were dropped on {message.purged_at:%Y-%m-%d} by {message.purged_by}"


def _no_octets(message: Message, due: list[Recipient], policy: Policy) -> MessageEvent:
    return Failed(
        numbers=_numbers(due),
        reason="expired",
        next_hop=None,
        attempt=message.attempts,
        code=None,
        policy=policy.version,
        recipients=tuple(r.address for r in due),
        reply=no_octets(message),
    )


def _known(routed: Routed, policy: Policy) -> bool:
    return policy.hop(routed.next_hop) is not None


def _homeless(routed: Routed) -> str:
    if routed.next_hop is None:
        return routed.by
    # Of a route no pattern: it may be an address, and this stays when addresses are erased.
    by = routed.by.partition(":")[0]
    return f"{by} names next hop {routed.next_hop}, which is not configured"


def _numbers(recipients: list[Recipient]) -> tuple[int, ...]:
    return tuple(r.number for r in recipients)
