"""One recipient of a message, and what each event about it makes of it. Part of the fold in `life`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Literal

from msgspec import Struct
from msgspec.structs import replace

from store.events import (
    Attempted,
    Deferred,
    Delivered,
    Discarded,
    Failed,
    Held,
    HeldWhy,
    RedeliveryRequested,
    RejectedOversize,
    Relayed,
    Released,
    Scanned,
    Submitted,
)

State = Literal[
    "received",
    "deferred",
    "held",
    "quarantined",
    "outcome-unknown",
    "delivered",
    "relayed",
    "failed",
    "rejected-oversize",
    "discarded",
]

# The open states, the one that needs a person's attention most first.
ATTENTION: tuple[State, ...] = ("outcome-unknown", "quarantined", "held", "deferred", "received")
# The fates, the one that a message with several takes as its own first: of two that are good the one that says less.
FATES: tuple[State, ...] = ("failed", "rejected-oversize", "relayed", "delivered", "discarded")
ACCEPTED: frozenset[State] = frozenset({"delivered", "relayed"})

# What named a recipient where it was no header and no rule: a client, a person with a file, a person with a replay.
BY_CLIENT, BY_FILE, BY_REPLAY = "RCPT TO", "import", "replay"


# Structs, not dataclasses: they are copied at every event, and a Struct is copied ten times faster.
class Recipient(Struct, frozen=True, kw_only=True):
    """One forward-path of a message and what became of it so far."""

    number: int
    address: str  # "" once erased
    routed_by: str = ""
    state: State = "received"
    next_hop: str | None = None
    reply: str | None = None
    attempts: int = 0
    unknown_attempts: int = 0  # how many got no answer to the final dot: possible duplicates
    first_tried_at: datetime | None = None
    retry_at: datetime | None = None
    notify: str = ""  # what the client asked to be told (RFC 3461), "" for nothing
    orcpt: str = ""
    held_why: HeldWhy | Literal["quarantined"] | None = None  # until a person, or `held_until`, lets it go on
    held_until: datetime | None = None
    via: str | None = None  # the next hop that a person named instead of the routes
    bound_for: str | None = (
        None  # since a person had it go on, and until it is tried: where to, "" for not known yet
    )
    forced: bool = False  # to be sent to again although it has it
    listed: bool = False  # in a digest that it got
    ordered_at: datetime | None = None  # when a person wanted it to go on, until it is tried or put off
    told: bool = False  # that it is too large

    @property
    def held(self) -> bool:
        """Whether it is kept until somebody lets it go on, or its time comes."""
        return self.held_why is not None

    @property
    def in_flight(self) -> bool:
        """Whether it is being handed over, or was when the gateway was cut off: no answer is on record."""
        return self.state == "outcome-unknown" and self.retry_at is None and not self.held

    @property
    def open(self) -> bool:
        """Whether there is no fate yet."""
        return self.state in ATTENTION


def recipients_of(
    count: int, addresses: tuple[str, ...], routed_by: tuple[str, ...]
) -> tuple[Recipient, ...]:
    """Return the recipients an opening event names; the addresses and what routed them may have been erased."""
    blank = ("",) * count
    pairs = zip(range(count), (*addresses, *blank), (*routed_by, *blank), strict=False)
    return tuple(Recipient(number=n, address=address, routed_by=by) for n, address, by in pairs)


def submitted_recipients(event: Submitted) -> tuple[Recipient, ...]:
    """Return the recipients of a submission, with what each RCPT said."""
    blank = ("",) * event.recipient_count
    rows = zip(
        range(event.recipient_count),
        (*event.recipients, *blank),
        (*event.notify, *blank),
        (*event.orcpt, *blank),
        strict=False,
    )
    return tuple(
        Recipient(number=n, address=address, routed_by=BY_CLIENT, notify=notify, orcpt=orcpt)
        for n, address, notify, orcpt in rows
    )


def each(
    recipients: tuple[Recipient, ...], numbers: tuple[int, ...], change: Callable[[Recipient], Recipient]
) -> tuple[Recipient, ...]:
    """Return recipients with those of these numbers changed."""
    if len(recipients) == 1:  # nearly always
        only = recipients[0]
        return (change(only),) if only.number in numbers else recipients
    touched = frozenset(numbers)
    return tuple(change(r) if r.number in touched else r for r in recipients)


def attempted(recipient: Recipient, event: Attempted, at: datetime) -> Recipient:
    """Return a recipient that is about to be handed over."""
    return replace(
        recipient,
        state="outcome-unknown",  # until an answer is on record
        next_hop=event.next_hop,
        bound_for=None,
        attempts=recipient.attempts + 1,
        first_tried_at=recipient.first_tried_at or at,
        retry_at=None,
        held_why=None,
        held_until=None,
        ordered_at=None,
    )


def taken(recipient: Recipient, event: Delivered | Relayed, fate: State) -> Recipient:
    """Return a recipient for whom a next hop took responsibility."""
    return replace(recipient, state=fate, next_hop=event.next_hop, reply=event.reply, retry_at=None)


def refused(recipient: Recipient, event: RejectedOversize) -> Recipient:
    """Return a recipient for whom the message is too large."""
    next_hop = event.next_hop or recipient.next_hop
    return replace(
        recipient,
        state="rejected-oversize",
        next_hop=next_hop,
        reply=event.reply,
        retry_at=None,
        held_why=None,
        held_until=None,
    )


def deferred(recipient: Recipient, event: Deferred) -> Recipient:
    """Return a recipient that is tried again later."""
    return replace(
        recipient,
        state="outcome-unknown" if event.unknown else "deferred",
        next_hop=event.next_hop,
        bound_for=None,
        reply=event.reply,
        unknown_attempts=recipient.unknown_attempts + event.unknown,
        retry_at=event.retry_at,
        held_why=None,
        held_until=None,
        ordered_at=None,
    )


def held(recipient: Recipient, event: Held) -> Recipient:
    """Return a recipient that is held: an outcome nobody knows stays in sight as such."""
    unknown = event.why == "outcome-unknown"
    return replace(
        recipient,
        state="outcome-unknown" if unknown or recipient.state == "outcome-unknown" else "held",
        unknown_attempts=recipient.unknown_attempts + unknown,
        retry_at=None,
        held_why=event.why,
        held_until=event.until,
        ordered_at=None,
    )


def unscanned(recipient: Recipient, event: Scanned) -> Recipient:
    """Return a recipient whose message waits until a scanner can be asked again."""
    if recipient.held or recipient.in_flight or not recipient.open:
        return recipient
    state: State = "outcome-unknown" if recipient.state == "outcome-unknown" else "deferred"
    return replace(recipient, state=state, reply=f"{event.scanner}: {event.detail}", retry_at=event.retry_at)


def quarantined(recipient: Recipient, reply: str | None) -> Recipient:
    """Return a recipient from whom the message is kept until a person decides."""
    return replace(
        recipient,
        state="quarantined",
        reply=reply or recipient.reply,
        retry_at=None,
        held_why="quarantined",
        held_until=None,
        listed=False,
        ordered_at=None,
    )


def requested_again(recipient: Recipient, event: RedeliveryRequested, at: datetime) -> Recipient:
    """Return a recipient to whom the message is to be delivered again; one that has it only by force."""
    if recipient.state in ACCEPTED and not event.force:
        return recipient
    tried = recipient.attempts > 0
    return replace(
        recipient,
        state="deferred" if tried else "received",
        retry_at=at if tried else None,
        held_why=None,
        held_until=None,
        via=event.next_hop,
        bound_for=event.bound_for or "",
        forced=event.force,
        ordered_at=at if event.operator is not None else None,
    )


def released(recipient: Recipient, event: Released, at: datetime) -> Recipient:
    """Return a recipient that was held and goes on: it is due now."""
    if not recipient.held or not recipient.open:
        return recipient
    tried = recipient.state == "outcome-unknown" or recipient.attempts > 0
    going: State = "deferred" if tried else "received"
    return replace(
        recipient,
        state="outcome-unknown" if recipient.state == "outcome-unknown" else going,
        retry_at=at if tried else None,
        held_why=None,
        held_until=None,
        bound_for=event.bound_for or "",
        ordered_at=at,
    )


def given_up(recipient: Recipient, event: Failed | Discarded) -> Recipient:
    """Return a recipient that is not tried again. What the far side said last stays in sight."""
    if isinstance(event, Discarded):
        return replace(recipient, state="discarded", retry_at=None)
    return replace(
        recipient,
        state="failed",
        reply=event.reply if event.reason != "operator" else event.reply or recipient.reply,
        next_hop=event.next_hop or recipient.next_hop,
        retry_at=None,
    )
