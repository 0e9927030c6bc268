"""What the events of one stream add up to.

Pure and total: `evolve` never refuses, for what has happened has happened. The read tables are a rendering of this fold and
the engine decides on it, so that there is one meaning of each event.

A recipient is *open* until it has a fate; a message is open while a recipient is, or while it has none and was not
rejected as oversize.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from copy import copy
from datetime import datetime, timedelta
from typing import Any, cast, get_args

from msgspec.structs import force_setattr, replace

from store.errors import Damaged
from store.events import (
    Attempted,
    ContentsPurged,
    Deferred,
    Delivered,
    Discarded,
    Erased,
    Event,
    Failed,
    Held,
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
)
from store.findings import found, past
from store.message import DOMAIN_HOP as DOMAIN_HOP
from store.message import Facts
from store.message import Message as Message
from store.message import due_at as due_at
from store.opened import opened
from store.recipient import (
    Recipient,
    State,
    attempted,
    deferred,
    each,
    given_up,
    held,
    quarantined,
    refused,
    taken,
    unscanned,
)
from store.resumed import asked_for_again, let_go


def evolve(message: Message | None, stream: str, event: MessageEvent, at: datetime) -> Message:
    """Add one event to a message; None is a stream not opened yet."""
    if message is None:
        return opened(stream, event, at)
    after = copy(message)
    _happen(after, event, at)
    return after


def fold(stream: str, events: Iterable[tuple[Event, datetime]]) -> Message | None:
    """Add up a message's events, oldest first; None for no events. Raises Damaged where one stands that can't."""
    message: Message | None = None
    for event, at in events:
        if type(event) not in _ITS_EVENTS:
            raise Damaged(f"message {stream}: {event.NAME} is no message's event")
        if message is None:
            message = opened(stream, cast(MessageEvent, event), at)
        else:
            _happen(message, cast(MessageEvent, event), at)
    return message


def _happen(message: Message, event: MessageEvent, at: datetime) -> None:
    """Change a message that nobody else has seen: to copy it at each event would take longer than all else."""
    changed = CHANGES.get(type(event))
    if changed is None:
        raise Damaged(f"{event.NAME} in the middle of stream {message.id}")
    facts, goes_on = changed(message, event, at), (message.resumed_at, message.resumes_at)
    hops = facts.get("hops", message.hops)
    if (hop := getattr(event, "next_hop", None)) is not None and hop not in hops:
        facts["hops"] = (*hops, hop)
    for name, value in facts.items():
        force_setattr(message, name, value)
    force_setattr(message, "revision", message.revision + 1)
    force_setattr(message, "changed_at", at)
    if not facts.keys().isdisjoint(_NEW_TIME):
        _note_waiting(message, at, anew=(message.resumed_at, message.resumes_at) != goes_on)
    force_setattr(message, "closed_at", None if message.open else message.closed_at or at)


_NEW_TIME = frozenset({"findings", "resumed_at", "resumes_at"})
_ITS_EVENTS = frozenset(get_args(MessageEvent))  # to ask the union takes longer than all of an event's fold


def _attempted(message: Message, event: Attempted, at: datetime) -> Facts:
    facts: Facts = {
        "recipients": each(message.recipients, event.numbers, lambda r: attempted(r, event, at)),
        "attempts": event.attempt,
    }
    return facts | {"findings": past(message.findings)} if message.findings else facts


def _taken(message: Message, event: Delivered | Relayed, _at: datetime) -> Facts:
    fate: State = "delivered" if type(event) is Delivered else "relayed"
    return {"recipients": each(message.recipients, _meant(message, event), lambda r: taken(r, event, fate))}


def _removed(_message: Message, _event: RemovedFromSource, _at: datetime) -> Facts:
    return {"removed": True}


def _deferred(message: Message, event: Deferred, _at: datetime) -> Facts:
    facts: Facts = {"recipients": each(message.recipients, event.numbers, lambda r: deferred(r, event))}
    return facts | {"findings": past(message.findings)} if message.findings else facts


def _given_up(message: Message, event: Failed | Discarded, _at: datetime) -> Facts:
    if not message.recipients:
        return {"fate": "failed" if isinstance(event, Failed) else "discarded"}
    return {"recipients": each(message.recipients, _meant(message, event), lambda r: given_up(r, event))}


def _scanned(message: Message, event: Scanned, _at: datetime) -> Facts:
    if event.late:
        return {}
    facts: Facts = {"findings": found(message.findings, event)}
    if event.retry_at is not None:
        facts["recipients"] = tuple(unscanned(r, event) for r in message.recipients)
    return facts


def _quarantined(message: Message, event: Quarantined, at: datetime) -> Facts:
    kept = each(message.recipients, event.numbers or _open(message), lambda r: quarantined(r, event.reply))
    why = {"quarantined_why": event.reason, "quarantined_by": event.rule, "quarantined_at": at}
    return {"recipients": kept, **why}


def _held(message: Message, event: Held, _at: datetime) -> Facts:
    kept = each(message.recipients, event.numbers or _open(message), lambda r: held(r, event))
    resumes_at = event.until or message.resumes_at
    why = {"held_why": event.why, "held_until": event.until, "resumes_at": resumes_at}
    return {"recipients": kept, **why}


def _refused(message: Message, event: RejectedOversize, _at: datetime) -> Facts:
    if not message.recipients:
        return {"oversize": True}
    return {
        "recipients": each(message.recipients, event.numbers or _open(message), lambda r: refused(r, event))
    }


def _reported(message: Message, event: Reported, _at: datetime) -> Facts:
    facts: Facts = {"reported": (*message.reported, event.kind)}
    if event.kind == "digest":
        facts["recipients"] = each(message.recipients, event.numbers, _listed)
    if event.kind == "oversize":
        facts["recipients"] = each(message.recipients, event.numbers, _told)
    return facts


def _purged(_message: Message, event: ContentsPurged, at: datetime) -> Facts:
    return {"purged_at": at, "purged_by": event.reason}


def _kept(_message: Message, event: Kept, at: datetime) -> Facts:
    return {"exempt_since": at, "exempt_by": event.operator, "exempt_for": event.reason}


def _kept_no_longer(_message: Message, _event: KeptNoLonger, _at: datetime) -> Facts:
    return {"exempt_since": None, "exempt_by": "", "exempt_for": ""}


def _erased(message: Message, _event: Erased, at: datetime) -> Facts:
    purged = {"purged_at": at, "purged_by": "erasure"} if message.kept else {}
    return {"erased_at": at, **purged}


def _listed(recipient: Recipient) -> Recipient:
    return replace(recipient, listed=True)


def _told(recipient: Recipient) -> Recipient:
    return replace(recipient, told=True)


def _note_waiting(message: Message, at: datetime, *, anew: bool) -> None:
    """Take note of how long it waits for scanners, of which its next hop knows nothing; `anew`: all its time begins now."""
    since, waited = message.awaiting_since, message.awaited_for
    if anew:
        since, waited = None if since is None else at, timedelta(0)
    if message.awaited is None and since is not None:
        waited += max(at - since, timedelta(0))  # a clock may go back
        since = None
    elif message.awaited is not None and since is None:
        since = at
    force_setattr(message, "awaiting_since", since)
    force_setattr(message, "awaited_for", waited)


def _open(message: Message) -> tuple[int, ...]:
    return tuple(r.number for r in message.recipients if r.open)


def _meant(message: Message, event: Delivered | Relayed | Failed | Discarded) -> tuple[int, ...]:
    """Whom it concerns. A report that comes later has a say on those that were relayed, and on nobody else."""
    if isinstance(event, Relayed | Discarded) or event.report is None:
        return event.numbers
    return tuple(r.number for r in message.recipients if r.number in event.numbers and r.state == "relayed")


# What the events behind the first change. By class: to ask an event in turn whether it is of each takes longer than all else.
CHANGES: Mapping[type[Event], Callable[[Message, Any, datetime], Facts]] = {
    Attempted: _attempted,
    ContentsPurged: _purged,
    Deferred: _deferred,
    Delivered: _taken,
    Discarded: _given_up,
    Erased: _erased,
    Failed: _given_up,
    Held: _held,
    Kept: _kept,
    KeptNoLonger: _kept_no_longer,
    Quarantined: _quarantined,
    RedeliveryRequested: asked_for_again,
    RejectedOversize: _refused,
    Relayed: _taken,
    Released: let_go,
    RemovedFromSource: _removed,
    Reported: _reported,
    Scanned: _scanned,
}
