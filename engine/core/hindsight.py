"""What an answer on record would mean under another policy: tried again or not, when, and what for. Pure.

Two times are known of each decision: it fell behind the attempt, and not behind its own event. Only what both rule out is a
difference, so that a policy never differs from what it decided itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Final

from engine.core.arrival import Other
from engine.core.decide import expired
from engine.core.outcome import Reply
from engine.core.plan import NO_ANSWER
from engine.core.policy import HopPolicy, Policy, backoff
from engine.core.refusal import as_spam
from store.events import Deferred, Failed, Held, Quarantined
from store.life import Message, due_at
from store.recipient import Recipient

SLACK: Final = timedelta(milliseconds=1)  # times are stored to the microsecond

AGAIN, GIVEN_UP, FAILS = "tried again", "given up", "fails"
DOUBTED, AS_SPAM = "held as outcome-unknown", "quarantined (refused-as-spam)"


def deferred(
    before: Message, event: Deferred, policy: Policy, tried_at: datetime, at: datetime
) -> Iterator[Other]:
    """Yield what would have come instead of a further try; the attempt was at `tried_at`."""
    if event.unknown and _hop(policy, event.next_hop).on_unknown == "hold":
        why = f"next_hop.{event.next_hop}.on_unknown is hold"
        yield Other(was=AGAIN, would=DOUBTED, why=why, numbers=event.numbers)
    elif event.retry_at <= at or event.reply == NO_ANSWER:
        return  # at once: the rest of many recipients, or an attempt that was cut off
    elif expired(before, policy, tried_at):
        yield _given_up(policy, event.numbers)
    elif event.scope != "next-hop":  # how long that rests depends on others' attempts, too
        yield from _waits(before, event, policy, tried_at, at)


def untried(before: Message, event: Deferred, policy: Policy) -> Iterator[Other]:
    """Yield whether it would have been given up while its next hop was down."""
    due = [at for r in meant(before, event.numbers) if (at := due_at(r, before)) is not None]
    if due and expired(before, policy, min(due)):
        yield _given_up(policy, event.numbers)


def failed(before: Message, event: Failed, policy: Policy, at: datetime) -> Iterator[Other]:
    """Yield what would have come instead of giving up, or of a refusal for good."""
    if event.reason == "expired" and event.next_hop is not None and not expired(before, policy, at):
        yield Other(was=GIVEN_UP, would=AGAIN, why=_gives_up(policy), numbers=event.numbers)
    if event.reason == "rejected" and before.direction == "inbound":
        pattern = _spam(event.reply, event.next_hop, policy)
        if pattern is not None:
            why = f"next_hop.{event.next_hop}.spam_refusals: {pattern}"
            yield Other(was=FAILS, would=AS_SPAM, why=why, numbers=event.numbers)


def kept_as_spam(event: Quarantined, policy: Policy) -> Iterator[Other]:
    """Yield whether a refusal would not have been taken for spam."""
    if event.reply is not None and _spam(event.reply, event.next_hop, policy) is None:
        why = f"next_hop.{event.next_hop}.spam_refusals has no pattern that fits"
        yield Other(was=AS_SPAM, would=FAILS, why=why, numbers=event.numbers)


def doubted(before: Message, event: Held, policy: Policy) -> Iterator[Other]:
    """Yield whether it would have been tried again although nobody knows who has it."""
    for recipient in meant(before, event.numbers):
        if _hop(policy, recipient.next_hop).on_unknown == "retry":
            why = f"next_hop.{recipient.next_hop}.on_unknown is retry"
            yield Other(was=DOUBTED, would=AGAIN, why=why, numbers=(recipient.number,))


def meant(message: Message, numbers: tuple[int, ...]) -> list[Recipient]:
    """Return the recipients that an event is about; no numbers are all that are open."""
    return [r for r in message.recipients if (r.number in numbers if numbers else r.open)]


def brief(span: timedelta) -> str:
    """Return about how long it is, in one unit: "5m"."""
    seconds = span.total_seconds()
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= 2 * length or (seconds >= length and seconds % length == 0):
            return f"{seconds / length:.0f}{unit}"
    return f"{seconds:.0f}s"


def _waits(
    before: Message, event: Deferred, policy: Policy, tried_at: datetime, at: datetime
) -> Iterator[Other]:
    tries = max((r.attempts for r in meant(before, event.numbers)), default=1)
    shortest, longest = backoff(policy, tries, 0.0), backoff(policy, tries, 1.0)
    if event.retry_at - tried_at + SLACK < shortest or event.retry_at - at - SLACK > longest:
        was, would = (
            f"{AGAIN} after {brief(span)}" for span in (event.retry_at - at, backoff(policy, tries, 0.5))
        )
        yield Other(was=was, would=would, why="retry.first and retry.cap", numbers=event.numbers)


def _given_up(policy: Policy, numbers: tuple[int, ...]) -> Other:
    return Other(was=AGAIN, would=GIVEN_UP, why=_gives_up(policy), numbers=numbers)


def _gives_up(policy: Policy) -> str:
    return f"retry.give_up_after is {brief(policy.give_up_after)}"


def _spam(said: str | None, hop: str | None, policy: Policy) -> str | None:
    """Return the pattern by which a reply, code and text, says spam; None for none."""
    code, _, text = (said or "").partition(" ")
    return as_spam(Reply(int(code), text), _hop(policy, hop).spam_refusals) if code.isdecimal() else None


def _hop(policy: Policy, name: str | None) -> HopPolicy:
    return policy.hop(name) or HopPolicy()
