"""Notices: which of them an event calls for, and the appends that send them.

A notice is a message of its own, taken in like any other; the message it is about says that it was sent. Both go
into the log together, so that nobody is told twice and nobody is forgotten.

Of inbound mail that failed the postmaster is told, never the outside sender; nobody where it has the null reverse-path. Of
what was fetched and is too large for the next hop its recipients are told, where its mailbox does not say otherwise, as they
are of what is not fetched (`limit`). Of what was submitted its sender is told, by a report (`core.owed`, `core.dsn`).

Of what was kept back as infected its recipients are told, where that is wanted; of spam by a digest (`digest`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from engine import intake
from engine.core import dsn, headers, kept_back, report
from engine.core.owed import of_ours, owed
from engine.core.policy import Policy
from engine.opening import new_id
from store.events import Event, Failed, MessageEvent, Quarantined, RejectedOversize, Reported
from store.life import Message
from store.log import Append

Notice = tuple[Append, Reported]  # what opens the notice's stream, and what goes on the message it is about


# Of the message that a report is about: its header, or all of it where that may be returned.
ORIGINAL_OCTETS = max(headers.HEADER_LIMIT_OCTETS, dsn.RETURNED_LIMIT_OCTETS)


def called_for(
    after: Message,
    events: Sequence[MessageEvent],
    policy: Policy,
    now: datetime,
    original: bytes | None = None,
) -> list[Notice]:
    """Return the notices that these events on a message call for; `after` is the message with them.

    `original` is the message from its start, ORIGINAL_OCTETS of it at most, where `quotes` says that it is needed.
    """
    kinds = {type(event): event for event in reversed(events)}  # one notice tells all that failed alike
    failed = [event for event in events if isinstance(event, Failed)]
    notices: list[Notice | None] = [_called_for(after, e, failed, policy, now) for e in kinds.values()]
    notices += _kept_from(after, events, policy, now)
    notices += _too_large_for(after, events, policy, now)
    for kind, fates in owed(after, events, policy, now).items():
        written = dsn.write(
            kind, after, fates, original or b"", policy=policy, notice_id=new_id(now), now=now
        )
        notices.append(intake.notice(kind, after, written, now))
    return [notice for notice in notices if notice is not None]


def quotes(after: Message, events: Sequence[MessageEvent], policy: Policy, now: datetime) -> bool:
    """Whether a notice that is called for returns the message, or its header."""
    return bool(owed(after, events, policy, now))


def oversize(
    message: Message,
    limit_octets: int,
    *,
    recipient: str,
    policy: Policy,
    now: datetime,
    numbers: tuple[int, ...] = (),
) -> Notice:
    """Tell somebody of a message that is too large; `numbers` as of `intake.notice`."""
    written = report.oversize(
        message,
        limit_octets,
        recipient=recipient,
        hostname=policy.hostname,
        postmaster=policy.postmaster,
        notice_id=new_id(now),
        now=now,
    )
    return intake.notice("oversize", message, written, now, numbers)


def together(append: Append, notices: Sequence[Notice]) -> tuple[Append, ...]:
    """Return a message's append with those of its notices, to go into one unit."""
    if not notices:
        return (append,)
    told: tuple[Event, ...] = tuple(reported for _, reported in notices)
    with_told = Append(append.stream, append.before, append.events + told, append.at, append.octets)
    return (with_told, *(opened for opened, _ in notices))


def _kept_from(
    after: Message, events: Sequence[MessageEvent], policy: Policy, now: datetime
) -> Iterator[Notice]:
    """Tell each recipient, once, of what was kept back as infected, where that is wanted; never about mail that goes out."""
    if not policy.notify_recipients or after.direction != "inbound" or "infected" in after.reported:
        return
    kept = [e for e in events if isinstance(e, Quarantined) and e.reason in ("infected", "attachment")]
    numbers = {number for event in kept for number in event.numbers}
    for one in after.recipients:
        if one.state == "quarantined" and one.number in numbers and one.address:
            written = kept_back.infected(
                after,
                recipient=one.address,
                hostname=policy.hostname,
                postmaster=policy.postmaster,
                notice_id=new_id(now),
                now=now,
            )
            yield intake.notice("infected", after, written, now, (one.number,))


def _too_large_for(
    after: Message, events: Sequence[MessageEvent], policy: Policy, now: datetime
) -> Iterator[Notice]:
    """Tell each recipient, once, of what was fetched and is too large for the next hop."""
    if after.direction != "inbound" or after.mailbox is None or after.mailbox in policy.oversize_untold:
        return
    limits = {n: e.limit_octets for e in events if isinstance(e, RejectedOversize) for n in e.numbers}
    for one in after.recipients:
        if one.number in limits and one.address and not one.told:
            limit = limits[one.number]
            yield oversize(after, limit, recipient=one.address, policy=policy, now=now, numbers=(one.number,))


def _called_for(
    after: Message, event: MessageEvent, failed: Sequence[Failed], policy: Policy, now: datetime
) -> Notice | None:
    """Tell the postmaster of what failed for good, and of what a client handed in and is too large; never about a notice, nor
    about what could be one.

    Reports to forged senders come in by the thousand. The daily report counts them, and Postfix tells of none either.
    """
    if not isinstance(event, Failed | RejectedOversize) or after.direction != "inbound":
        return None
    if of_ours(after, policy):
        return None
    if isinstance(event, RejectedOversize) and after.mailbox is not None:
        return None
    if isinstance(event, RejectedOversize):
        return oversize(after, event.limit_octets, recipient=policy.postmaster, policy=policy, now=now)
    if after.known_reverse_path == "":
        return None
    written = report.failure(
        after,
        failed,
        hostname=policy.hostname,
        postmaster=policy.postmaster,
        notice_id=new_id(now),
        now=now,
    )
    return intake.notice("failure", after, written, now)
