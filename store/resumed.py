"""What becomes of a message that is let go on: released, or to be delivered again. Part of the fold in `life`."""

from __future__ import annotations

from datetime import datetime

from msgspec.structs import replace

from store.events import RedeliveryRequested, Released
from store.findings import forgiven
from store.message import Facts, Message
from store.recipient import BY_REPLAY, Recipient, each, recipients_of, released, requested_again


def asked_for_again(message: Message, event: RedeliveryRequested, at: datetime) -> Facts:
    """Return the facts of a message that change when it is to be delivered again."""
    replays = message.replays if event.replay is None else (*message.replays, event.replay)
    if message.content is None:
        return {"replays": replays}  # it never was here: should it come, it is another message
    again = each(message.recipients, event.numbers, lambda r: requested_again(r, event, at))
    facts: Facts = {"replays": replays, "fate": None, "oversize": False}
    if event.operator is not None:
        facts["resumed_at"] = at
    facts |= _bound(message, event.bound_for)
    # Whom a person names instead of those for whom it was kept back is to get it in spite of that, too.
    instead = event.added > 0 and event.operator is not None
    kept = (r.number for r in message.recipients if r.state in ("quarantined", "discarded"))
    if any(instead or number in event.numbers for number in kept):
        facts |= _forgiven(message, event.operator or event.rule, at)
    first = len(message.recipients)
    addresses = event.recipients[len(event.recipients) - event.added :] if event.added else ()
    others = (*addresses, *("",) * event.added)[: event.added]
    added = tuple(
        Recipient(
            number=first + n,
            address=address,
            routed_by=event.rule or BY_REPLAY,
            via=event.next_hop,
            bound_for=event.bound_for or "",
            ordered_at=at if event.operator is not None else None,
        )
        for n, address in enumerate(others)
    )
    return facts | {"recipients": again + added}


def let_go(message: Message, event: Released, at: datetime) -> Facts:
    """Return the facts of a message that change when a person lets it go on that was held, or in quarantine."""
    facts: Facts
    if not message.recipients:
        named = recipients_of(len(event.numbers), event.recipients, event.routed_by)
        going = tuple(replace(r, bound_for=event.bound_for or "", ordered_at=at) for r in named)
        facts = {"recipients": going, "held_why": None, "held_until": None}
        return facts | {"resumed_at": at, "resumes_at": None} | _bound(message, event.bound_for)
    numbers = event.numbers or tuple(r.number for r in message.recipients)
    going = each(message.recipients, numbers, lambda r: released(r, event, at))
    facts = {"recipients": going, "resumed_at": at} | _bound(message, event.bound_for)
    if any(r.state == "quarantined" for r in message.recipients if r.number in numbers):
        facts |= _forgiven(message, event.operator, at)
    left = next((r for r in going if r.held and r.open), None)
    why, until = (left.held_why, left.held_until) if left else (None, None)
    return facts | {"held_why": why, "held_until": until, "resumes_at": until}


def _bound(message: Message, hop: str | None) -> Facts:
    return {} if hop is None or hop in message.hops else {"hops": (*message.hops, hop)}


def _forgiven(message: Message, operator: str | None, at: datetime) -> Facts:
    return {"findings": forgiven(message.findings), "released_by": operator, "released_at": at}
