"""What decided how a message stands: which event, for whom, by which policy, and since when."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import cast

from cli import story
from cli.show import Entry
from store.events import (
    Attempted,
    Deferred,
    Delivered,
    Discarded,
    Failed,
    Held,
    MessageEvent,
    Quarantined,
    RedeliveryRequested,
    RejectedOversize,
    Relayed,
    Released,
    Scanned,
)
from store.life import Message, evolve
from store.recipient import Recipient

DECIDING = (
    *(Attempted, Deferred, Delivered, Discarded, Failed, Held, Quarantined, RedeliveryRequested),
    *(RejectedOversize, Relayed, Released),
)


@dataclass(frozen=True, slots=True)
class Step:
    """An event, and the message before and after it; None before the first."""

    entry: Entry
    before: Message | None
    after: Message


def steps(entries: Iterable[Entry]) -> Iterator[Step]:
    """Yield a message's life step by step, oldest first."""
    before = None
    for entry in entries:
        after = evolve(before, entry.row.stream, cast(MessageEvent, entry.event), entry.at)
        yield Step(entry, before, after)
        before = after


def since(life: Sequence[Step]) -> datetime:
    """Return since when the message is in its state: attempts between don't make it another one."""
    state, going = life[-1].after.state, _in_flight(life[-1].after)
    begin = life[-1].entry.at
    for step in reversed(life):
        if _in_flight(step.after) and not going:
            continue
        if step.after.state != state:
            break
        begin = step.entry.at
    return begin


def why(life: Sequence[Step]) -> list[Entry]:
    """Return the last event that decided for each recipient, each once; how it came in where none did."""
    message = life[-1].after
    opening = life[0].entry
    if not message.recipients:
        return [s.entry for s in life if isinstance(s.entry.event, DECIDING)][-1:] or [opening]
    told: list[Entry] = []
    for one in message.recipients:
        entry = next((s.entry for s in reversed(life) if _decides(s, one.number)), opening)
        if entry not in told:
            told.append(entry)
    return told


def policy(life: Sequence[Step]) -> str | None:
    """Return the policy by which was decided last, None where none is on record."""
    versions = (story.policy_of(s.entry.event) for s in reversed(life) if _is_decision(s))
    return next((version for version in versions if version is not None), None)


def _is_decision(step: Step) -> bool:
    event = step.entry.event
    return (
        step.before is None or isinstance(event, DECIDING) or (isinstance(event, Scanned) and not event.late)
    )


def _decides(step: Step, number: int) -> bool:
    """Whether it made of a recipient what it is; holding what is held already does, for there is a new reason."""
    event, before = step.entry.event, _recipient(step.before, number)
    if isinstance(event, Held | Quarantined):
        meant = number in event.numbers if event.numbers else before is not None and before.open
        return meant and step.before is not None
    changing = isinstance(event, DECIDING) or (isinstance(event, Scanned) and event.retry_at is not None)
    return changing and before != _recipient(step.after, number)


def _recipient(message: Message | None, number: int) -> Recipient | None:
    return next((one for one in message.recipients if one.number == number), None) if message else None


def _in_flight(message: Message) -> bool:
    return any(one.in_flight for one in message.recipients)
