"""What the events of one stream add up to.

Pure and total: `evolve` never refuses, for what has happened has happened. The read tables are a rendering of this fold and
the engine decides on it, so that there is one meaning of each event.

A recipient is *open* until it has a fate; a message is open while a recipient is, or while it has none and was not
rejected as oversize.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Literal, assert_never

from msgspec import Struct
from msgspec.structs import replace

from store.events import (
    Adopted,
    Attempted,
    Deferred,
    Delivered,
    Direction,
    Downloaded,
    Event,
    Failed,
    Generated,
    Held,
    HeldWhy,
    MailboxEvent,
    MessageEvent,
    PollFailed,
    PollFinished,
    PollRecovered,
    PollTrouble,
    RejectedOversize,
    Relayed,
    RemovedFromSource,
    Reported,
    UidlResetSuspected,
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
# The fates, the one that a message with several takes as its own first.
FATES: tuple[State, ...] = ("failed", "rejected-oversize", "delivered", "relayed", "discarded")
ACCEPTED: frozenset[State] = frozenset({"delivered", "relayed"})


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
    held: bool = False  # until a person, or the message's `held_until`, lets it go on

    @property
    def open(self) -> bool:
        """Whether there is no fate yet."""
        return self.state in ATTENTION


class Message(Struct, frozen=True, kw_only=True):
    """A message as its events tell it."""

    id: str
    revision: int  # of the last event
    direction: Direction
    opened_at: datetime
    changed_at: datetime
    closed_at: datetime | None = None
    mailbox: str | None = None
    uidl: str | None = None
    reverse_path: str = ""
    recipients: tuple[Recipient, ...] = ()
    message_id: str | None = None
    subject: str | None = None
    sender: str | None = None
    size_octets: int = 0
    listed_octets: int = 0
    content: str | None = None  # sha256; None where the octets were never here
    bare_newlines: bool = False
    attempts: int = 0
    held_why: HeldWhy | None = None
    held_until: datetime | None = None
    oversize: bool = False
    first_hop: str | None = None  # where it was to go when it came in
    about: str | None = None  # a generated message: which one it speaks of
    reported: tuple[str, ...] = ()  # the kinds of report sent about this one
    removed: bool = False  # the mailbox no longer holds it

    @property
    def state(self) -> State:
        """The state of the open recipient that needs attention most, else the fate."""
        if self.oversize:
            return "rejected-oversize"
        if len(self.recipients) == 1:
            return self.recipients[0].state
        states = {recipient.state for recipient in self.recipients}
        if not states:
            return "held" if self.held_why else "received"
        return next(state for state in (*ATTENTION, *FATES) if state in states)

    @property
    def open(self) -> bool:
        """Whether something is still to happen."""
        return self.state in ATTENTION

    @property
    def due_at(self) -> datetime | None:
        """When to look at it again, None for never without a person."""
        times = [due for recipient in self.recipients if (due := due_at(recipient, self)) is not None]
        return min(times, default=None)

    @property
    def lane(self) -> str:
        """The next hop that the recipient due first was last tried at, or was to go to when it came in; "" for unknown."""
        due = [(at, r.next_hop) for r in self.recipients if (at := due_at(r, self)) is not None]
        return min(due, key=lambda pair: pair[0])[1] or self.first_hop or "" if due else ""


class Mailbox(Struct, frozen=True, kw_only=True):
    """A mailbox as its events tell it."""

    name: str
    revision: int = -1
    health: Literal["ok", "failing", "suspended"] = "ok"
    since: datetime | None = None
    kind: PollTrouble | None = None
    permanent: bool = False
    text: str | None = None
    last_new_at: datetime | None = None
    downloaded: int = 0  # messages so far


class Known(Struct, frozen=True, kw_only=True):
    """A UIDL a mailbox was seen to hold, and the message it is; `state` is that message's."""

    uidl: bytes
    size_octets: int  # as listed
    stream: str | None  # None: adopted without a download
    state: State | None
    content: str | None
    opened_at: datetime | None
    gone: bool


def evolve(message: Message | None, stream: str, event: MessageEvent, at: datetime) -> Message:
    """Add one event to a message; None is a stream not opened yet."""
    if message is None:
        return _opened(stream, event, at)
    after = _changed(message, event, at)
    closed_at = None if after.open else (message.closed_at or at)
    return replace(after, revision=message.revision + 1, changed_at=at, closed_at=closed_at)


def evolve_mailbox(mailbox: Mailbox, event: MailboxEvent, at: datetime) -> Mailbox:
    """Add one event to a mailbox."""
    mailbox = replace(mailbox, revision=mailbox.revision + 1)
    match event:
        case PollFailed():
            return replace(
                mailbox,
                health="suspended" if mailbox.health == "suspended" else "failing",
                since=at,
                kind=event.kind,
                permanent=event.permanent,
                text=event.text,
            )
        case PollRecovered():
            return replace(mailbox, health="ok", since=at, kind=None, permanent=False, text=None)
        case PollFinished():
            return replace(mailbox, last_new_at=at, downloaded=mailbox.downloaded + event.downloaded)
        case Adopted():
            if event.operator == "mailgate":
                return mailbox
            return replace(mailbox, health="ok", since=at, kind=None, permanent=False, text=None)
        case RemovedFromSource():
            return mailbox
        case UidlResetSuspected():
            text = (
                f"{event.alike} of {event.vanished} known messages seem to have come back under other UIDLs"
            )
            return replace(mailbox, health="suspended", since=at, kind=None, permanent=True, text=text)
        case _:
            assert_never(event)


def fold(stream: str, events: Iterable[tuple[Event, datetime]]) -> Message | None:
    """Add up a message's events, oldest first; None for no events."""
    message: Message | None = None
    for event, at in events:
        if not isinstance(event, MessageEvent):
            raise TypeError(f"{event.NAME} is no message's event")
        message = evolve(message, stream, event, at)
    return message


def fold_mailbox(name: str, events: Iterable[tuple[Event, datetime]]) -> Mailbox:
    """Add up a mailbox's events, oldest first."""
    mailbox = Mailbox(name=name)
    for event, at in events:
        if not isinstance(event, MailboxEvent):
            raise TypeError(f"{event.NAME} is no mailbox's event")
        mailbox = evolve_mailbox(mailbox, event, at)
    return mailbox


def _opened(stream: str, event: MessageEvent, at: datetime) -> Message:
    match event:
        case Downloaded():
            return Message(
                id=stream,
                revision=0,
                direction="inbound",
                opened_at=at,
                changed_at=at,
                mailbox=event.mailbox,
                uidl=event.uidl,
                reverse_path=event.reverse_path,
                recipients=_recipients(event.recipient_count, event.recipients, event.routed_by),
                message_id=event.message_id,
                subject=event.subject,
                sender=event.from_,
                size_octets=event.size_octets,
                listed_octets=event.listed_octets,
                content=event.content,
                bare_newlines=event.bare_newlines,
                first_hop=event.next_hop,
            )
        case RejectedOversize():
            recipients = _recipients(event.recipient_count, event.recipients, event.routed_by)
            return Message(
                id=stream,
                revision=0,
                direction="inbound",
                opened_at=at,
                changed_at=at,
                closed_at=at,
                mailbox=event.mailbox,
                uidl=event.uidl,
                reverse_path=event.reverse_path,
                recipients=tuple(replace(r, state="rejected-oversize") for r in recipients),
                message_id=event.message_id,
                subject=event.subject,
                sender=event.from_,
                size_octets=event.size_octets,
                listed_octets=event.size_octets,
                oversize=True,
            )
        case Generated():
            return Message(
                id=stream,
                revision=0,
                direction="internal",
                opened_at=at,
                changed_at=at,
                reverse_path=event.reverse_path,
                recipients=_recipients(event.recipient_count, event.recipients, ()),
                message_id=event.message_id,
                subject=event.subject,
                sender=event.from_,
                size_octets=event.size_octets,
                content=event.content,
                about=event.about,
            )
        case _:
            raise TypeError(f"{event.NAME} opens no stream")


def _changed(message: Message, event: MessageEvent, at: datetime) -> Message:
    match event:
        case Attempted():
            touched = _each(message, event.numbers, lambda r: _attempted(r, event, at))
            return replace(touched, attempts=event.attempt)
        case Delivered() | Relayed():
            fate: State = "delivered" if isinstance(event, Delivered) else "relayed"
            return _each(
                message,
                event.numbers,
                lambda r: replace(r, state=fate, next_hop=event.next_hop, reply=event.reply, retry_at=None),
            )
        case Deferred():
            return _each(message, event.numbers, lambda r: _deferred(r, event))
        case Failed():
            return _each(
                message,
                event.numbers,
                lambda r: replace(
                    r, state="failed", reply=event.reply, next_hop=event.next_hop or r.next_hop, retry_at=None
                ),
            )
        case Held():
            numbers = event.numbers or tuple(r.number for r in message.recipients if r.open)
            kept = _each(message, numbers, lambda r: replace(r, state=_held(event), held=True, retry_at=None))
            return replace(kept, held_why=event.why, held_until=event.until)
        case RejectedOversize():
            numbers = tuple(r.number for r in message.recipients if r.open)
            refused = _each(
                message,
                numbers,
                lambda r: replace(r, state="rejected-oversize", reply=event.reply, retry_at=None),
            )
            return replace(refused, oversize=True)
        case Reported():
            return replace(message, reported=(*message.reported, event.kind))
        case RemovedFromSource():
            return replace(message, removed=True)
        case Downloaded() | Generated():
            raise TypeError(f"{event.NAME} in the middle of stream {message.id}")
        case _:
            assert_never(event)


def _recipients(count: int, addresses: tuple[str, ...], routed_by: tuple[str, ...]) -> tuple[Recipient, ...]:
    blank = ("",) * count
    pairs = zip(range(count), (*addresses, *blank), (*routed_by, *blank), strict=False)
    return tuple(Recipient(number=n, address=address, routed_by=by) for n, address, by in pairs)


def _each(message: Message, numbers: tuple[int, ...], change: Callable[[Recipient], Recipient]) -> Message:
    touched = frozenset(numbers)
    return replace(
        message, recipients=tuple(change(r) if r.number in touched else r for r in message.recipients)
    )


def _attempted(recipient: Recipient, event: Attempted, at: datetime) -> Recipient:
    return replace(
        recipient,
        state="outcome-unknown",  # until an answer is on record
        next_hop=event.next_hop,
        attempts=recipient.attempts + 1,
        first_tried_at=recipient.first_tried_at or at,
        retry_at=None,
        held=False,
    )


def _deferred(recipient: Recipient, event: Deferred) -> Recipient:
    return replace(
        recipient,
        state="outcome-unknown" if event.unknown else "deferred",
        next_hop=event.next_hop,
        reply=event.reply,
        unknown_attempts=recipient.unknown_attempts + event.unknown,
        retry_at=event.retry_at,
        held=False,
    )


def _held(event: Held) -> State:
    return "outcome-unknown" if event.why == "outcome-unknown" else "held"


def due_at(recipient: Recipient, message: Message) -> datetime | None:
    """Return when to look at a recipient again, None for never without a person."""
    if recipient.held and recipient.open:
        return message.held_until
    match recipient.state:
        case "received":
            return message.opened_at
        case "deferred":
            return recipient.retry_at
        case "outcome-unknown":
            # Without a time it was attempted and no answer is on record: look at once who was cut off.
            return recipient.retry_at or message.changed_at
        case _:
            return None
