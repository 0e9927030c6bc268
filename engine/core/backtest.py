"""What another configuration would have made of a message: its life, held against what it would decide at each step. Pure.

Verdicts, answers and what people decided are taken as they were. At each event that a policy decided, the other policy is
asked the same question. What it decides otherwise is a difference; from there on nothing is known, for nobody can say what
another next hop would have answered: the recipients concerned are not followed any further.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from msgspec.structs import replace

from engine.core import arrival, hindsight, tagging
from engine.core.arrival import Candidate, Other
from engine.core.disposition import Disposition, as_scanned, disposition, recorded
from engine.core.hindsight import meant
from engine.core.plan import NO_OCTETS
from engine.core.policy import Policy
from engine.core.renaming import SUBJECT
from engine.core.retention import outdated
from engine.core.verdict import TOO_LARGE_TO_ASK
from store.events import (
    Attempted,
    Deferred,
    Discarded,
    Downloaded,
    Failed,
    Held,
    MessageEvent,
    Quarantined,
    RedeliveryRequested,
    RejectedOversize,
    Scanned,
    Submitted,
)
from store.life import Message, evolve

Story = Sequence[tuple[MessageEvent, datetime]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """At this event of a message's life, something else would happen to these recipients.

    `was` and `would` are in words; `why` is what says so now; `policy` the version of the configuration that decided then.
    """

    revision: int
    at: datetime
    was: str
    would: str
    why: str
    policy: str
    recipients: tuple[str, ...] = ()


def compare(stream: str, story: Story, candidate: Candidate) -> Iterator[Difference]:
    """Yield what would differ in a message's life, for each recipient the first thing only."""
    life = _Life(stream, candidate)
    for place, (event, at) in enumerate(story):
        following = story[place + 1][0] if place + 1 < len(story) else None
        yield from life.next(event, at, following)
        if life.ended:
            return


class _Life:
    """A message as it grows, and for whom its future is another one already."""

    def __init__(self, stream: str, candidate: Candidate) -> None:
        self.ended = False
        self._stream = stream
        self._candidate = candidate
        self._policy = candidate.policy
        self._message: Message | None = None
        self._gone: set[int] = set()
        self._tried_at: datetime | None = None

    def next(self, event: MessageEvent, at: datetime, following: MessageEvent | None) -> Iterator[Difference]:
        """Yield what would differ at the next event."""
        before = self._message
        self._message = after = evolve(before, self._stream, event, at)
        others = (
            _arrivals(event, self._candidate)
            if before is None
            else self._others(before, event, at, following)
        )
        for other in others:
            yield from self._told(after, event, at, other)
        if isinstance(event, Attempted):
            self._tried_at = at
        if before is not None and isinstance(event, RedeliveryRequested) and event.rule and self._gone:
            self._gone |= {r.number for r in after.recipients[len(before.recipients) :]}

    def _told(
        self, message: Message, event: MessageEvent, at: datetime, other: Other
    ) -> Iterator[Difference]:
        its = {r.number: r.address for r in message.recipients}
        numbers = tuple(n for n in (other.numbers or its) if n not in self._gone)
        if its and not numbers:
            return
        self._gone |= set(numbers)
        self.ended = other.ends or (bool(its) and self._gone >= its.keys())
        yield Difference(
            revision=message.revision,
            at=at,
            was=other.was,
            would=other.would,
            why=other.why,
            policy=str(getattr(event, "policy", "")),
            recipients=tuple(its[n] for n in numbers if n in its),
        )

    def _others(
        self, before: Message, event: MessageEvent, at: datetime, following: MessageEvent | None
    ) -> Iterator[Other]:
        match event:
            case Attempted():
                yield from self._attempted(before, event, at)
            case Scanned():
                yield from _scanned(before, event, self._policy)
            case Held(why="unroutable") if not before.recipients:
                yield from _nobody(before, self._candidate)
            case Held(why="outcome-unknown"):
                yield from hindsight.doubted(before, event, self._policy)
            case Quarantined(operator=None, next_hop=str()):
                yield from hindsight.kept_as_spam(event, self._policy)
            case Discarded(operator=None, rule=str() as rule) if rule.startswith("retention."):
                yield from _outdated(before, event, self._policy, at)
            case Held() | Quarantined() | Discarded() | RejectedOversize():
                if (decided := recorded(event, following)) is not None:
                    yield from self._decided(before, event.numbers, decided, _decided_at(event, at))
            case Deferred():
                yield from self._deferred(before, event, at)
            case Failed():
                yield from hindsight.failed(before, event, self._policy, at)
            case _:
                return  # an answer, or what a person decided

    def _attempted(self, before: Message, event: Attempted, at: datetime) -> Iterator[Other]:
        yield from self._decided(before, event.numbers, Disposition("goes", event.next_hop), at)
        had, tags = frozenset(event.tags) - {SUBJECT}, _tags(before, self._policy)
        if tags != had:
            yield Other(
                was=f"goes to {event.next_hop}",
                would=f"goes to {event.next_hop} tagged otherwise",
                why=f"in front stands {_fields(tags)}, and not {_fields(had)}",
                numbers=event.numbers,
            )

    def _deferred(self, before: Message, event: Deferred, at: datetime) -> Iterator[Other]:
        if event.tried:
            tried_at = self._tried_at or before.opened_at
            yield from hindsight.deferred(before, event, self._policy, tried_at, at)
        elif event.scope == "next-hop" and event.reply != NO_OCTETS:
            # Nobody was asked, for the next hop was down: it may be another one now.
            yield from self._decided(before, event.numbers, Disposition("goes", event.next_hop), at)
            yield from hindsight.untried(before, event, self._policy)

    def _decided(
        self, before: Message, numbers: tuple[int, ...], was: Disposition, at: datetime
    ) -> Iterator[Other]:
        """Ask about each recipient alone, and tell of those together for whom the same would be decided."""
        found: dict[tuple[Disposition, str], list[int]] = {}
        for recipient in meant(before, numbers):
            if recipient.number in self._gone:
                continue
            would = disposition(before, recipient, self._policy, at)
            if would is not None and would[0] != was:
                found.setdefault(would, []).append(recipient.number)
        for (would_be, why), those in found.items():
            yield Other(was=str(was), would=str(would_be), why=why, numbers=tuple(those))


def _decided_at(event: MessageEvent, at: datetime) -> datetime:
    """Return when it was decided, as far as is known: on record it may be after the time until which it holds."""
    until = event.until if isinstance(event, Held) else None
    return at if until is None else min(at, until - hindsight.SLACK)


def _arrivals(event: MessageEvent, candidate: Candidate) -> Iterator[Other]:
    match event:
        case Downloaded():
            yield from arrival.fetched(event, candidate)
        case Submitted():
            yield from arrival.submitted(event, candidate)
        case RejectedOversize():
            yield from arrival.refused(event, candidate)
        case _:
            return  # our own notices, and what a person imports


def _nobody(before: Message, candidate: Candidate) -> Iterator[Other]:
    terms = candidate.mailboxes.get(before.mailbox or "")
    if terms is not None and (terms.rule.recipients or terms.rule.fallback):
        whom = ", ".join(terms.rule.recipients) or terms.rule.fallback
        why = "the mailbox names somebody"
        yield Other(was="held as unroutable", would=f"is for {whom}", why=why, ends=True)


def _outdated(before: Message, event: Discarded, policy: Policy, at: datetime) -> Iterator[Other]:
    if not outdated(before, policy, at):
        why = f"retention.quarantined is {hindsight.brief(policy.retention.quarantined)}"
        was, would = "discarded from quarantine", "stays in quarantine"
        yield Other(was=was, would=would, why=why, numbers=event.numbers)


def _scanned(before: Message, event: Scanned, policy: Policy) -> Iterator[Other]:
    """Whether a scanner would be asked about it, and whether it would wait for one that can't say anything."""
    scanner, name = policy.scanner(event.scanner), event.scanner
    numbers = tuple(r.number for r in before.recipients if r.open)
    if event.late or not numbers:
        return
    if event.verdict == "unscannable" and event.detail.startswith(TOO_LARGE_TO_ASK) and scanner is not None:
        limit = scanner.max_size_octets
        if limit is None or before.size_octets <= limit:
            why = f"its max_size is {limit or 'not set'}"
            would = Disposition("scanned", name)
            yield Other(was=f"too large for {name}", would=str(would), why=why, numbers=numbers)
    if event.verdict == "error":
        waits = scanner is not None and scanner.on_error == "defer" and before.direction in scanner.directions
        if waits != (event.retry_at is not None):
            waiting, going = f"waits for {name}", f"goes on without {name}"
            was, would_be = (going, waiting) if waits else (waiting, going)
            why = "it is not configured" if scanner is None else f"its on_error is {scanner.on_error}"
            yield Other(was=was, would=would_be, why=why, numbers=numbers)


def _tags(message: Message, policy: Policy) -> frozenset[str]:
    """The names of the fields that would tell what was found; of the subject it depends on the octets."""
    scanned = replace(message, findings=as_scanned(message, policy))
    return frozenset(tagging.outgoing(scanned, b"", policy).tags) - {SUBJECT}


def _fields(names: frozenset[str]) -> str:
    return ", ".join(sorted(names)) or "nothing of what was found"
