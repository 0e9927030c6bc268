"""What the events of one stream add up to.

Pure and total: `evolve` never refuses, for what has happened has happened. The read tables are a rendering of this fold and
the engine decides on it, so that there is one meaning of each event.

A recipient is *open* until it has a fate; a message is open while a recipient is, or while it has none and was not
rejected as oversize.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime
from typing import Any, Literal, assert_never

from msgspec import Struct
from msgspec.structs import replace

from store.events import (
    Attempted,
    Deferred,
    Delivered,
    Direction,
    Discarded,
    Downloaded,
    Event,
    Failed,
    Generated,
    Held,
    HeldWhy,
    MessageEvent,
    RejectedOversize,
    Relayed,
    Released,
    RemovedFromSource,
    Reported,
    Submitted,
)
from store.recipient import (
    ATTENTION,
    FATES,
    Recipient,
    State,
    attempted,
    deferred,
    given_up,
    held,
    recipients_of,
    released,
    submitted_recipients,
)

DOMAIN_HOP = "mx:"  # what the name of a next hop begins with that is all mail servers of a domain; no other has a colon


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
    resumed_at: datetime | None = None  # when it last goes on, or went on, after it was held
    fate: State | None = None  # of a message that has no recipient
    oversize: bool = False
    user: str | None = None  # who logged in to submit it
    peer: str = ""  # the address of the client that submitted it
    helo: str = ""
    protocol: str = ""  # that it was submitted by; "" for one that was not
    envid: str | None = None
    ret: Literal["FULL", "HDRS"] | None = None
    smtputf8: bool = False
    automatic: bool = False  # nobody is to be answered
    status_report: bool = False  # a machine reports what became of a message
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
            return self.fate or ("held" if self.held_why else "received")
        return next(state for state in (*ATTENTION, *FATES) if state in states)

    @property
    def going_since(self) -> datetime:
        """From when on it is tried: the time for which a person held it back is not held against it."""
        return self.resumed_at or self.opened_at

    @property
    def open(self) -> bool:
        """Whether something is still to happen."""
        return self.state in ATTENTION

    @property
    def due_at(self) -> datetime | None:
        """When to look at it again, None for never without a person."""
        if len(self.recipients) == 1:  # nearly always
            return due_at(self.recipients[0], self)
        times = [due for recipient in self.recipients if (due := due_at(recipient, self)) is not None]
        return min(times, default=None)

    @property
    def lane(self) -> str:
        """The next hop that the recipient due first was last tried at, or was to go to when it came in; "" for unknown."""
        due = [(at, r.next_hop) for r in self.recipients if (at := due_at(r, self)) is not None]
        return min(due, key=lambda pair: pair[0])[1] or self.first_hop or "" if due else ""


def evolve(message: Message | None, stream: str, event: MessageEvent, at: datetime) -> Message:
    """Add one event to a message; None is a stream not opened yet."""
    if message is None:
        return _opened(stream, event, at)
    after = _changed(message, event, at)
    closed_at = None if after.open else (message.closed_at or at)
    return replace(after, revision=message.revision + 1, changed_at=at, closed_at=closed_at)


def fold(stream: str, events: Iterable[tuple[Event, datetime]]) -> Message | None:
    """Add up a message's events, oldest first; None for no events."""
    message: Message | None = None
    for event, at in events:
        if not isinstance(event, MessageEvent):
            raise TypeError(f"{event.NAME} is no message's event")
        message = evolve(message, stream, event, at)
    return message


def _opened(stream: str, event: MessageEvent, at: datetime) -> Message:
    match event:
        case Downloaded():
            return _new(
                stream,
                event,
                at,
                direction="inbound",
                mailbox=event.mailbox,
                uidl=event.uidl,
                recipients=recipients_of(event.recipient_count, event.recipients, event.routed_by),
                listed_octets=event.listed_octets,
                content=event.content,
                bare_newlines=event.bare_newlines,
                status_report=event.status_report,
                first_hop=event.next_hop,
            )
        case Submitted():
            return _submitted(stream, event, at)
        case RejectedOversize():
            recipients = recipients_of(event.recipient_count, event.recipients, event.routed_by)
            return _new(
                stream,
                event,
                at,
                direction="inbound",
                closed_at=at,
                mailbox=event.mailbox,
                uidl=event.uidl,
                recipients=tuple(replace(r, state="rejected-oversize") for r in recipients),
                listed_octets=event.size_octets,
                oversize=True,
            )
        case Generated():
            recipients = recipients_of(event.recipient_count, event.recipients, ())
            facts = {"recipients": recipients, "content": event.content, "about": event.about}
            return _new(stream, event, at, direction="internal", **facts)
        case _:
            raise TypeError(f"{event.NAME} opens no stream")


def _submitted(stream: str, event: Submitted, at: datetime) -> Message:
    return _new(
        stream,
        event,
        at,
        direction=event.direction,
        recipients=submitted_recipients(event),
        content=event.content,
        bare_newlines=event.bare_newlines,
        user=event.user,
        peer=event.peer,
        helo=event.helo,
        protocol=event.protocol,
        envid=event.envid,
        ret=event.ret,
        smtputf8=event.smtputf8,
        automatic=event.automatic,
        status_report=event.status_report,
        first_hop=event.next_hop,
    )


def _new(
    stream: str, event: Downloaded | Submitted | RejectedOversize | Generated, at: datetime, **facts: Any
) -> Message:
    """Return a message with what every opening event tells, and with the facts of this one."""
    return Message(
        id=stream,
        revision=0,
        opened_at=at,
        changed_at=at,
        reverse_path=event.reverse_path,
        message_id=event.message_id,
        subject=event.subject,
        sender=event.from_,
        size_octets=event.size_octets,
        **facts,
    )


def _changed(message: Message, event: MessageEvent, at: datetime) -> Message:
    match event:
        case Attempted():
            touched = _each(message, event.numbers, lambda r: attempted(r, event, at))
            return replace(touched, attempts=event.attempt)
        case Delivered() | Relayed():
            fate: State = "delivered" if isinstance(event, Delivered) else "relayed"
            return _each(
                message,
                _meant(message, event),
                lambda r: replace(r, state=fate, next_hop=event.next_hop, reply=event.reply, retry_at=None),
            )
        case Deferred():
            return _each(message, event.numbers, lambda r: deferred(r, event))
        case Failed() | Discarded():
            fate = "failed" if isinstance(event, Failed) else "discarded"
            settled = _each(message, _meant(message, event), lambda r: given_up(r, event))
            return settled if message.recipients else replace(settled, fate=fate)
        case Held():
            numbers = event.numbers or tuple(r.number for r in message.recipients if r.open)
            kept = _each(message, numbers, lambda r: held(r, event))
            resumed_at = event.until or message.resumed_at
            return replace(kept, held_why=event.why, held_until=event.until, resumed_at=resumed_at)
        case Released():
            return _released(message, event, at)
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
        case Downloaded() | Submitted() | Generated():
            raise TypeError(f"{event.NAME} in the middle of stream {message.id}")
        case _:
            assert_never(event)


def _released(message: Message, event: Released, at: datetime) -> Message:
    if not message.recipients:
        named = recipients_of(len(event.numbers), event.recipients, event.routed_by)
        return replace(message, recipients=named, held_why=None, held_until=None, resumed_at=at)
    numbers = event.numbers or tuple(r.number for r in message.recipients)
    going = _each(message, numbers, lambda r: released(r, at))
    left = next((r for r in going.recipients if r.held and r.open), None)
    return replace(
        going,
        held_why=left.held_why if left else None,
        held_until=left.held_until if left else None,
        resumed_at=at,
    )


def _meant(message: Message, event: Delivered | Relayed | Failed | Discarded) -> tuple[int, ...]:
    """Whom it concerns. A report that comes later has a say on those that were relayed, and on nobody else."""
    if isinstance(event, Relayed | Discarded) or event.report is None:
        return event.numbers
    return tuple(r.number for r in message.recipients if r.number in event.numbers and r.state == "relayed")


def _each(message: Message, numbers: tuple[int, ...], change: Callable[[Recipient], Recipient]) -> Message:
    touched = frozenset(numbers)
    return replace(
        message, recipients=tuple(change(r) if r.number in touched else r for r in message.recipients)
    )


def due_at(recipient: Recipient, message: Message) -> datetime | None:
    """Return when to look at a recipient again, None for never without a person."""
    if recipient.held and recipient.open:
        return recipient.held_until
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
