"""A message as its events tell it: what the fold in `life` makes, and what follows from it."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Literal

from msgspec import Struct

from store.events import Direction, HeldWhy, QuarantinedWhy
from store.findings import Finding
from store.recipient import ATTENTION, FATES, Recipient, State

DOMAIN_HOP = "mx:"  # what the name of a next hop begins with that is all mail servers of a domain; no other has a colon
LOCAL = "local"  # as a protocol: a person gave it in a file
SCAN_LANE = "scan:"  # what the lane of a message begins with that waits for a scanner, whose name follows

NOW_LANE = "now:"  # what the lane of a message begins with that a person wants tried now; its place follows


def place_of(lane: str) -> str:
    """Return whom a lane's messages wait for."""
    return lane.removeprefix(NOW_LANE)


Facts = dict[str, Any]  # of a message, by the name of the field: those that an event changes


class Message(Struct, frozen=True, kw_only=True):
    """What is known of one message. It is open while a recipient is, or while it has none and was not refused."""

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
    resumed_at: datetime | None = None  # when a person last let it go on, or wanted it delivered again
    resumes_at: datetime | None = None  # when it last goes on, or went on, by itself after it was held
    findings: tuple[Finding, ...] = ()  # the last verdict of each scanner
    awaiting_since: datetime | None = None  # a scanner that can't be asked now
    awaited_for: timedelta = timedelta(0)  # scanners, before that, since it goes on
    quarantined_why: QuarantinedWhy | None = None  # when last it was, also after it went on
    quarantined_by: str = ""  # the rule that says so
    quarantined_at: datetime | None = None
    released_by: str | None = None  # who let it go on last after it was in quarantine
    released_at: datetime | None = None
    replays: tuple[str, ...] = ()  # that it was part of
    client_ip: str = ""  # of who handed it to the provider, as far as the header tells
    fate: State | None = None  # of a message that has no recipient
    oversize: bool = False  # it never was here
    user: str | None = None  # who logged in to submit it
    peer: str = ""  # the address of the client that submitted it
    helo: str = ""
    protocol: str = ""  # that it was handed in by, `LOCAL` from a file; "" for one that was not
    envid: str | None = None
    ret: Literal["FULL", "HDRS"] | None = None
    smtputf8: bool = False
    automatic: bool = False  # a machine or a list sent it
    pushed: bool = False  # its sender may be anybody: by a client that may not relay, or in a file
    status_report: bool = False  # a machine reports what became of a message
    first_hop: str | None = None  # where it was to go when it came in
    hops: tuple[str, ...] = ()  # every next hop where it was to go or was tried
    about: str | None = None  # a generated message: which one it speaks of
    reported: tuple[str, ...] = ()  # the kinds of report sent about this one
    removed: bool = False  # the mailbox no longer holds it
    purged_at: datetime | None = None  # when its octets were dropped
    purged_by: str = ""  # the rule that says so
    erased_at: datetime | None = None  # when what was personal of it was, last
    exempt_since: datetime | None = None  # from retention and erasure, by a person
    exempt_by: str = ""
    exempt_for: str = ""  # the reason

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
    def known_reverse_path(self) -> str | None:
        """The reverse-path, None where it was erased: it is not the null one then.

        Also of a message as it stood before that: its recipients have no address any more.
        """
        nameless = bool(self.recipients) and not self.recipients[0].address
        return None if nameless or self.erased_at is not None else self.reverse_path

    @property
    def kept(self) -> bool:
        """Whether its octets are here: they came, and were not dropped since."""
        return self.content is not None and self.purged_at is None

    def resumed(self, now: datetime) -> datetime | None:
        """When it last went on after it was held, None for never; for whom it is held until later doesn't count."""
        return max((at for at in (self.resumed_at, self.resumes_at) if at and at <= now), default=None)

    def going_since(self, now: datetime) -> datetime:
        """From when on it is tried: the time for which it was held back, or our scanners did so, is not held against it."""
        return (self.resumed(now) or self.opened_at) + self.awaited_for

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
    def awaited(self) -> str | None:
        """The scanner that could not say anything about it and is to be asked again."""
        for finding in self.findings:
            if finding.awaited:
                return finding.scanner
        return None

    @property
    def ordered_at(self) -> datetime | None:
        """When a person last wanted it to go on, unless it was tried or put off since."""
        if len(self.recipients) == 1:  # nearly always
            return self.recipients[0].ordered_at
        return max((r.ordered_at for r in self.recipients if r.ordered_at and r.open), default=None)

    @property
    def lane(self) -> str:
        """With whom it is claimed: all that wait at its place, but those apart that a person wants tried now."""
        place = self.place
        if self.ordered_at is None or not place or place.startswith(SCAN_LANE):
            return place
        return NOW_LANE + place

    @property
    def place(self) -> str:
        """Whom it waits for: a scanner, or the next hop, tried there last or bound for it since; "" for unknown.

        Also "" where its recipients wait for several next hops: none of them waits until another's next hop is up.
        """
        if (scanner := self.awaited) is not None and self.open:
            return SCAN_LANE + scanner
        if len(self.recipients) == 1:  # nearly always
            only = self.recipients[0]
            return "" if due_at(only, self) is None else waits_at(only, self)
        hops = {waits_at(r, self) for r in self.recipients if due_at(r, self) is not None}
        return hops.pop() if len(hops) == 1 else ""


def waits_at(recipient: Recipient, message: Message) -> str:
    """Return the next hop that a recipient without a fate waits for, "" for one not known yet."""
    if recipient.bound_for is not None:
        return recipient.bound_for
    return recipient.next_hop or message.first_hop or ""


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
