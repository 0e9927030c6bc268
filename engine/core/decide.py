"""What an attempt meant: looks back.

`decide` turns the answers of one attempt into events, one for each distinct answer. Pure. Answers for
recipients already settled are ignored, so that an attempt repeated after a crash adds nothing.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from engine.core import envelope, oversize
from engine.core.outcome import Answer, LeftOut, NoAnswer, Outcome, Reply
from engine.core.plan import HandOver, addresses, unknown
from engine.core.policy import HopPolicy, Policy, backoff
from engine.core.refusal import as_spam, too_large
from store.events import (
    Deferred,
    Delivered,
    Failed,
    MessageEvent,
    Quarantined,
    Relayed,
)
from store.life import Message


def decide(
    message: Message,
    step: HandOver,
    outcome: Outcome,
    policy: Policy,
    now: datetime,
    *,
    jitter: float,
    hop_retry_at: datetime,
) -> tuple[MessageEvent, ...]:
    """Return the events of one attempt.

    `jitter` is a random number from 0 to 1; `hop_retry_at` is when the next hop is tried again if the whole
    of it is to blame.
    """
    sharing: dict[Answer, list[int]] = {}
    unsettled = {r.number: r for r in message.recipients if r.open}
    for number, answer in zip(step.numbers, outcome.answers, strict=True):
        if number in unsettled:
            sharing.setdefault(answer, []).append(number)
    events: list[MessageEvent] = []
    for answer, sharers in sharing.items():
        numbers = tuple(sharers)
        tries = max(unsettled[n].attempts for n in numbers)
        again = now + backoff(policy, tries, jitter)
        events += _meaning(message, step, outcome, answer, numbers, policy, now, again, hop_retry_at)
    return tuple(events)


def untried(
    message: Message, step: HandOver, policy: Policy, retry_at: datetime, reply: str, now: datetime
) -> MessageEvent:
    """Return what records that a message was not even tried, because its next hop is known to be down."""
    if expired(message, policy, now):
        return _failed(message, step.next_hop, step.numbers, policy, "expired", None, reply)
    return Deferred(
        numbers=step.numbers,
        next_hop=step.next_hop,
        attempt=message.attempts,
        retry_at=retry_at,
        scope="next-hop",
        code=None,
        tried=False,
        policy=policy.version,
        recipients=step.recipients,
        reply=reply,
    )


def _meaning(
    message: Message,
    step: HandOver,
    outcome: Outcome,
    answer: Answer,
    numbers: tuple[int, ...],
    policy: Policy,
    now: datetime,
    again: datetime,
    hop_retry_at: datetime,
) -> Iterator[MessageEvent]:
    match answer:
        case NoAnswer() if _retries(policy, step.next_hop) and expired(message, policy, now):
            # Each further try may be one more copy.
            yield _failed(
                message, step.next_hop, numbers, policy, "expired", None, answer.text, outcome.address
            )
        case NoAnswer():
            yield unknown(message, numbers, step.next_hop, answer.text, policy, again)
        case LeftOut():
            # Not a refusal: the rest goes in a transaction of its own, at once (RFC 5321 section 4.5.3.1.10).
            yield _deferred(message, step, numbers, policy, now, answer.reply, outcome.address)
        case Reply(code=int(code)) if 200 <= code < 300:
            yield from _accepted(message, step, outcome, numbers, code, answer.said, policy)
        case Reply() if (pattern := _spam(message, step.next_hop, answer, policy)) is not None:
            yield _kept(message, step.next_hop, numbers, policy, pattern, answer.said)
        case Reply() if too_large(answer) and not _taken(outcome):
            yield oversize.refused(message, step.next_hop, numbers, answer, policy)
        case Reply() if answer.permanent:
            yield _failed(
                message, step.next_hop, numbers, policy, "rejected", answer.code, answer.said, outcome.address
            )
        case Reply() if expired(message, policy, now):
            yield _failed(
                message, step.next_hop, numbers, policy, "expired", answer.code, answer.said, outcome.address
            )
        case Reply():
            retry_at = hop_retry_at if answer.scope == "next-hop" else again
            yield _deferred(message, step, numbers, policy, retry_at, answer, outcome.address)


def expired(message: Message, policy: Policy, now: datetime) -> bool:
    """Return whether it was tried for long enough; what was held has its time from when it went on."""
    return now - message.going_since(now) >= policy.give_up_after


def _taken(outcome: Outcome) -> bool:
    """Whether it was not too large for another recipient: a limit is that of one mailbox then, not of the server."""
    codes = [one.code for one in outcome.answers if isinstance(one, Reply)]
    return any(code is not None and 200 <= code < 300 for code in codes)


def _retries(policy: Policy, hop: str) -> bool:
    return (policy.hop(hop) or HopPolicy()).on_unknown == "retry"


def _accepted(
    message: Message,
    step: HandOver,
    outcome: Outcome,
    numbers: tuple[int, ...],
    code: int,
    said: str,
    policy: Policy,
) -> Iterator[MessageEvent]:
    """The home server delivered it; what goes out, a smart host or foreign server only relayed (RFC 3464's words)."""
    foreign = _foreign(message, numbers, policy) if message.direction != "inbound" else ()
    for kind, those in ((Relayed, foreign), (Delivered, tuple(n for n in numbers if n not in foreign))):
        if those:
            yield kind(
                numbers=those,
                next_hop=step.next_hop,
                attempt=step.attempt,
                address=outcome.address,
                tls=outcome.tls,
                code=code,
                duration_ms=outcome.duration_ms,
                dsn=outcome.dsn,
                recipients=addresses(message, those),
                reply=said,
            )


def _foreign(message: Message, numbers: tuple[int, ...], policy: Policy) -> tuple[int, ...]:
    """Return the recipients that are of no domain of ours."""
    return tuple(
        r.number
        for r in message.recipients
        if r.number in numbers and not any(envelope.matches(own, r.address) for own in policy.domains)
    )


def _deferred(
    message: Message,
    step: HandOver,
    numbers: tuple[int, ...],
    policy: Policy,
    retry_at: datetime,
    reply: Reply,
    address: str,
) -> MessageEvent:
    return Deferred(
        numbers=numbers,
        next_hop=step.next_hop,
        attempt=step.attempt,
        retry_at=retry_at,
        scope=reply.scope,
        code=reply.code,
        address=address,
        policy=policy.version,
        recipients=addresses(message, numbers),
        reply=reply.said,
    )


def _failed(
    message: Message,
    hop: str,
    numbers: tuple[int, ...],
    policy: Policy,
    reason: str,
    code: int | None,
    text: str,
    address: str = "",
) -> MessageEvent:
    return Failed(
        numbers=numbers,
        reason="expired" if reason == "expired" else "rejected",
        next_hop=hop,
        attempt=message.attempts,
        code=code,
        address=address,
        policy=policy.version,
        recipients=addresses(message, numbers),
        reply=text,
    )


def _spam(message: Message, hop: str, reply: Reply, policy: Policy) -> str | None:
    """Return the pattern by which a refusal of incoming mail says spam. Whoever sends through us is told what failed."""
    if message.direction != "inbound":
        return None
    return as_spam(reply, (policy.hop(hop) or HopPolicy()).spam_refusals)


def _kept(
    message: Message, hop: str, numbers: tuple[int, ...], policy: Policy, pattern: str, text: str
) -> Quarantined:
    """What the next hop takes for spam is kept here: whoever it is for may want it all the same."""
    return Quarantined(
        reason="refused-as-spam",
        rule=pattern,
        numbers=numbers,
        next_hop=hop,
        policy=policy.version,
        recipients=addresses(message, numbers),
        reply=text,
    )
