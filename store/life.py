"""What the events of one stream add up to.

Pure and total: `evolve` never refuses, for what has happened has happened. The read tables are a rendering of this fold and
the engine decides on it, so that there is one meaning of each event.

A recipient is *open* until it has a fate; a message is open while a recipient is, or while it has none and was not
rejected as oversize.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any, assert_never, cast, get_args

from msgspec.structs import replace

from store.errors import Damaged
from store.events import (
    Attempted,
    ContentsPurged,
    Deferred,
    Delivered,
    Discarded,
    Downloaded,
    Erased,
    Event,
    Failed,
    Generated,
    Held,
    Imported,
    Kept,
    KeptNoLonger,
    MessageEvent,
    Quarantined,
    RedeliveryRequested,
    RejectedOversize,
    Relayed,
    Released,
    RemovedFromSource,
    Reported,
    Scanned,
    Submitted,
)
from store.findings import forgiven, found, past
from store.message import DOMAIN_HOP as DOMAIN_HOP
from store.message import Message as Message
from store.message import due_at as due_at
from store.opened import opened
from store.recipient import (
    Recipient,
    State,
    attempted,
    deferred,
    given_up,
    held,
    quarantined,
    recipients_of,
    refused,
    released,
    requested_again,
    taken,
    unscanned,
)

Facts = dict[str, Any]  # of a message, by the name of the field


def evolve(message: Message | None, stream: str, event: MessageEvent, at: datetime) -> Message:
    """Add one event to a message; None is a stream not opened yet."""
    if message is None:
        return opened(stream, event, at)
    facts = _facts(message, event, at)
    hops = facts.get("hops", message.hops)
    if (hop := getattr(event, "next_hop", None)) is not None and hop not in hops:
        facts["hops"] = (*hops, hop)
    after: Message = replace(message, revision=message.revision + 1, changed_at=at, **facts)
    if after.findings is not message.findings or after.resumed_at is not message.resumed_at:
        after = _awaited(message, after, at)
    closed_at = None if after.open else (message.closed_at or at)
    # It costs as much as all else: not where it changes nothing.
    return after if closed_at is message.closed_at else replace(after, closed_at=closed_at)


def fold(stream: str, events: Iterable[tuple[Event, datetime]]) -> Message | None:
    """Add up a message's events, oldest first; None for no events. Raises Damaged where one stands that can't."""
    message: Message | None = None
    for event, at in events:
        if type(event) not in _ITS_EVENTS:
            raise Damaged(f"message {stream}: {event.NAME} is no message's event")
        message = evolve(message, stream, cast(MessageEvent, event), at)
    return message


_ITS_EVENTS = frozenset(get_args(MessageEvent))  # to ask the union takes longer than all of an event's fold


def _facts(message: Message, event: MessageEvent, at: datetime) -> Facts:
    """Return the facts of a message that an event changes. What nearly every message has comes first."""
    match event:
        case Attempted():
            touched = _each(message, event.numbers, lambda r: attempted(r, event, at))
            facts = {"recipients": touched, "attempts": event.attempt}
            return facts | {"findings": past(message.findings)} if message.findings else facts
        case Delivered() | Relayed():
            fate: State = "delivered" if isinstance(event, Delivered) else "relayed"
            return {"recipients": _each(message, _meant(message, event), lambda r: taken(r, event, fate))}
        case RemovedFromSource():
            return {"removed": True}
        case Deferred():
            facts = {"recipients": _each(message, event.numbers, lambda r: deferred(r, event))}
            return facts | {"findings": past(message.findings)} if message.findings else facts
        case Failed() | Discarded():
            fate = "failed" if isinstance(event, Failed) else "discarded"
            if not message.recipients:
                return {"fate": fate}
            return {"recipients": _each(message, _meant(message, event), lambda r: given_up(r, event))}
        case Scanned():
            return {} if event.late else _scanned(message, event)
        case Quarantined():
            kept = _each(message, event.numbers or _open(message), lambda r: quarantined(r, event.reply))
            why = {"quarantined_why": event.reason, "quarantined_by": event.rule, "quarantined_at": at}
            return {"recipients": kept, **why}
        case RedeliveryRequested():
            return _requested_again(message, event, at)
        case Held():
            kept = _each(message, event.numbers or _open(message), lambda r: held(r, event))
            resumed_at = event.until or message.resumed_at
            why = {"held_why": event.why, "held_until": event.until, "resumed_at": resumed_at}
            return {"recipients": kept, **why}
        case Released():
            return _released(message, event, at)
        case RejectedOversize():
            if not message.recipients:
                return {"oversize": True}
            return {
                "recipients": _each(message, event.numbers or _open(message), lambda r: refused(r, event))
            }
        case Reported():
            facts = {"reported": (*message.reported, event.kind)}
            if event.kind == "digest":
                facts["recipients"] = _each(message, event.numbers, _listed)
            if event.kind == "oversize":
                facts["recipients"] = _each(message, event.numbers, _told)
            return facts
        case ContentsPurged():
            return {"purged_at": at, "purged_by": event.reason}
        case Kept():
            return {"exempt_since": at, "exempt_by": event.operator, "exempt_for": event.reason}
        case KeptNoLonger():
            return {"exempt_since": None, "exempt_by": "", "exempt_for": ""}
        case Erased():
            purged = {"purged_at": at, "purged_by": "erasure"} if message.kept else {}
            return {"erased_at": at, **purged}
        case Downloaded() | Submitted() | Imported() | Generated():
            raise Damaged(f"{event.NAME} in the middle of stream {message.id}")
        case _:
            assert_never(event)


def _listed(recipient: Recipient) -> Recipient:
    return replace(recipient, listed=True)


def _told(recipient: Recipient) -> Recipient:
    return replace(recipient, told=True)


def _scanned(message: Message, event: Scanned) -> Facts:
    facts: Facts = {"findings": found(message.findings, event)}
    if event.retry_at is not None:
        facts["recipients"] = tuple(unscanned(r, event) for r in message.recipients)
    return facts


def _awaited(before: Message, after: Message, at: datetime) -> Message:
    """Take note of how long it waits for scanners, of which its next hop knows nothing."""
    since, waited = before.awaiting_since, before.awaited_for
    if after.resumed_at is not before.resumed_at:  # all its time begins anew
        since, waited = None if since is None else at, timedelta(0)
    if after.awaited is None and since is not None:
        waited += max(at - since, timedelta(0))  # a clock may go back
        since = None
    elif after.awaited is not None and since is None:
        since = at
    return replace(after, awaiting_since=since, awaited_for=waited)


def _requested_again(message: Message, event: RedeliveryRequested, at: datetime) -> Facts:
    replays = message.replays if event.replay is None else (*message.replays, event.replay)
    if message.content is None:
        return {"replays": replays}  # it never was here: should it come, it is another message
    again = _each(message, event.numbers, lambda r: requested_again(r, event, at))
    facts: Facts = {"replays": replays, "resumed_at": at, "fate": None, "oversize": False}
    facts |= _bound(message, event.bound_for)
    kept = ("quarantined", "discarded")
    if any(r.state in kept for r in message.recipients if r.number in event.numbers):
        facts |= _forgiven(message, event.operator or event.rule, at)
    first = len(message.recipients)
    addresses = event.recipients[len(event.recipients) - event.added :] if event.added else ()
    others = (*addresses, *("",) * event.added)[: event.added]
    added = tuple(
        Recipient(
            number=first + n,
            address=address,
            routed_by=event.rule or "replay",
            via=event.next_hop,
            bound_for=event.bound_for or "",
            ordered_at=at if event.operator is not None else None,
        )
        for n, address in enumerate(others)
    )
    return facts | {"recipients": again + added}


def _released(message: Message, event: Released, at: datetime) -> Facts:
    facts: Facts
    if not message.recipients:
        named = recipients_of(len(event.numbers), event.recipients, event.routed_by)
        going = tuple(replace(r, bound_for=event.bound_for or "", ordered_at=at) for r in named)
        facts = {"recipients": going, "held_why": None, "held_until": None, "resumed_at": at}
        return facts | _bound(message, event.bound_for)
    numbers = event.numbers or tuple(r.number for r in message.recipients)
    going = _each(message, numbers, lambda r: released(r, event, at))
    facts = {"recipients": going, "resumed_at": at} | _bound(message, event.bound_for)
    if any(r.state == "quarantined" for r in message.recipients if r.number in numbers):
        facts |= _forgiven(message, event.operator, at)
    left = next((r for r in going if r.held and r.open), None)
    facts |= {"held_why": left.held_why if left else None, "held_until": left.held_until if left else None}
    return facts


def _bound(message: Message, hop: str | None) -> Facts:
    return {} if hop is None or hop in message.hops else {"hops": (*message.hops, hop)}


def _forgiven(message: Message, operator: str | None, at: datetime) -> Facts:
    return {"findings": forgiven(message.findings), "released_by": operator, "released_at": at}


def _open(message: Message) -> tuple[int, ...]:
    return tuple(r.number for r in message.recipients if r.open)


def _meant(message: Message, event: Delivered | Relayed | Failed | Discarded) -> tuple[int, ...]:
    """Whom it concerns. A report that comes later has a say on those that were relayed, and on nobody else."""
    if isinstance(event, Relayed | Discarded) or event.report is None:
        return event.numbers
    return tuple(r.number for r in message.recipients if r.number in event.numbers and r.state == "relayed")


def _each(
    message: Message, numbers: tuple[int, ...], change: Callable[[Recipient], Recipient]
) -> tuple[Recipient, ...]:
    """Return a message's recipients with those of these numbers changed."""
    if len(message.recipients) == 1:  # nearly always
        only = message.recipients[0]
        return (change(only),) if only.number in numbers else message.recipients
    touched = frozenset(numbers)
    return tuple(change(r) if r.number in touched else r for r in message.recipients)
