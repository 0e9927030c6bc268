"""The vocabulary of the log: every event that can happen to a message; those of a mailbox are in `mailbox_events`.

Names are kebab-case, past tense and never change. Adding an optional fact makes a new VERSION and an upcaster in
`codec`; changing a meaning makes a new name. Sizes end in `_octets`, durations in `_ms`, times in `_at` (aware UTC).

Each event has facts and personal facts (addresses, subjects, what the far side wrote). The two are stored apart, so that
personal facts can be erased lawfully while the chain still verifies. Therefore every personal fact has a default, and
nothing that decides a message's state may depend on one: recipients are also named by `numbers`, their places in
the opening event's list, from 0; or in that of `released`, where the first named nobody. Who decided something is a
plain fact, for it must be answered for; why, in a person's words, may hold names and is a personal one.
"""

from __future__ import annotations

from datetime import datetime
from functools import cache
from typing import Annotated, ClassVar, Literal, TypeVar

from msgspec import Meta, Struct, field, structs

from store.mailbox_events import Adopted, PollFailed, PollFinished, PollRecovered, UidlResetSuspected

T = TypeVar("T")
_PERSONAL = Meta(extra={"personal": True})
Personal = Annotated[T, _PERSONAL]  # a personal fact: it is stored apart and may be erased

Direction = Literal["inbound", "outbound", "internal"]
LimitFrom = Literal["config", "next-hop", "listener"]
HeldWhy = Literal["unroutable", "outcome-unknown", "operator", "loop"]
FailedWhy = Literal["rejected", "expired", "bounced-later", "operator"]
ReportKind = Literal["failure", "delay", "success", "oversize", "infected"]


# Structs, not dataclasses: one is made for each step of each message, and a Struct is made several times faster.
class Downloaded(Struct, frozen=True, kw_only=True):
    """A mailbox gave us this message; its octets are durable. Opens a stream."""

    NAME: ClassVar[str] = "downloaded"
    VERSION: ClassVar[int] = 1

    mailbox: str
    uidl: str  # the octets the server sent, each read as one character (ISO 8859-1); "" where it has no UIDL
    size_octets: int  # of what is stored
    listed_octets: int  # what LIST said
    content: str  # sha256 of the octets, hex
    bare_newlines: bool  # a lone CR or LF is in there, and becomes CRLF on the way out
    recipient_count: int
    next_hop: str | None = None  # where it was to go when it came in; the policy of each attempt decides anew
    status_report: bool = False  # by its header a delivery status notification (RFC 3464) from a machine
    policy: str

    reverse_path: Personal[str] = ""
    recipients: Personal[tuple[str, ...]] = ()
    routed_by: Personal[tuple[str, ...]] = ()  # the rule or header that named each recipient
    message_id: Personal[str | None] = None
    subject: Personal[str | None] = None
    from_: Personal[str | None] = field(default=None, name="from")
    date: Personal[str | None] = None
    client_ip: Personal[str | None] = None


class Submitted(Struct, frozen=True, kw_only=True):
    """A client handed us this message by SMTP; its octets are durable, and `250` may be said. Opens a stream.

    `direction` is inbound where every recipient is of our own domains. `notify` and `orcpt` are what RCPT said for each
    recipient (RFC 3461), in the order of the recipients, "" for nothing; empty where no RCPT said anything.
    """

    NAME: ClassVar[str] = "submitted"
    VERSION: ClassVar[int] = 1

    direction: Direction
    protocol: str  # RFC 3848: ESMTP, ESMTPS, ESMTPA, ESMTPSA, UTF8SMTP…; SMTP after HELO
    tls: str
    size_octets: int
    content: str
    bare_newlines: bool
    recipient_count: int
    notify: tuple[str, ...] = ()  # "NEVER", or of SUCCESS, FAILURE, DELAY, separated by commas
    ret: Literal["FULL", "HDRS"] | None = None
    smtputf8: bool = False
    automatic: bool = False  # a machine or a list sent it (RFC 3834): nobody is to be answered
    status_report: bool = False  # by its header a delivery status notification (RFC 3464) from a machine
    next_hop: str | None = None  # where it was to go when it came in
    policy: str

    peer: Personal[str] = ""  # address of the client
    helo: Personal[str] = ""
    user: Personal[str | None] = None  # who logged in
    reverse_path: Personal[str] = ""
    recipients: Personal[tuple[str, ...]] = ()
    orcpt: Personal[tuple[str, ...]] = ()
    envid: Personal[str | None] = None
    message_id: Personal[str | None] = None
    subject: Personal[str | None] = None
    from_: Personal[str | None] = field(default=None, name="from")
    date: Personal[str | None] = None


class RejectedOversize(Struct, frozen=True, kw_only=True):
    """Larger than the next hop takes, so never retrieved (opens a stream), or refused for its size later on."""

    NAME: ClassVar[str] = "rejected-oversize"
    VERSION: ClassVar[int] = 1

    mailbox: str | None = None  # the source, where this opens the stream
    uidl: str | None = None
    size_octets: int
    limit_octets: int
    limit_from: LimitFrom
    next_hop: str | None = None  # whose limit it is, where it is a next hop's
    recipient_count: int = 0
    policy: str

    reverse_path: Personal[str] = ""
    recipients: Personal[tuple[str, ...]] = ()
    routed_by: Personal[tuple[str, ...]] = ()
    message_id: Personal[str | None] = None
    subject: Personal[str | None] = None
    from_: Personal[str | None] = field(default=None, name="from")
    date: Personal[str | None] = None
    reply: Personal[str | None] = None


class Generated(Struct, frozen=True, kw_only=True):
    """The gateway itself wrote this message: a notice or a report. Opens a stream."""

    NAME: ClassVar[str] = "generated"
    VERSION: ClassVar[int] = 1

    kind: ReportKind
    about: str  # the message it speaks of
    size_octets: int
    content: str
    recipient_count: int

    reverse_path: Personal[str] = ""
    recipients: Personal[tuple[str, ...]] = ()
    message_id: Personal[str | None] = None
    subject: Personal[str | None] = None
    from_: Personal[str | None] = field(default=None, name="from")
    date: Personal[str | None] = None


class Held(Struct, frozen=True, kw_only=True):
    """Kept until a person, or `until`, lets it go on. No numbers means the whole message.

    A person who holds it is the `operator`, for a `reason`.
    """

    NAME: ClassVar[str] = "held"
    VERSION: ClassVar[int] = 1

    why: HeldWhy
    rule: str  # what made us hold it, without personal facts
    until: datetime | None = None
    numbers: tuple[int, ...] = ()
    operator: str | None = None
    policy: str

    reason: Personal[str] = ""


class Released(Struct, frozen=True, kw_only=True):
    """A person let go on what was held for these recipients; no numbers means for all of them.

    A message that had no recipient has these from now on: the current rules name them.
    """

    NAME: ClassVar[str] = "released"
    VERSION: ClassVar[int] = 1

    numbers: tuple[int, ...] = ()
    operator: str
    policy: str

    recipients: Personal[tuple[str, ...]] = ()
    routed_by: Personal[tuple[str, ...]] = ()  # the rule that named each, where nobody was named before
    reason: Personal[str] = ""


class Attempted(Struct, frozen=True, kw_only=True):
    """We are about to hand these recipients over. Durable before the final dot; no answer on record means nobody knows."""

    NAME: ClassVar[str] = "attempted"
    VERSION: ClassVar[int] = 1

    numbers: tuple[int, ...]
    next_hop: str
    attempt: int  # of the message, 1 for the first
    rule: str  # which route chose this next hop
    policy: str

    recipients: Personal[tuple[str, ...]] = ()


class Delivered(Struct, frozen=True, kw_only=True):
    """The home server took responsibility for these recipients, or a later report says that they have it.

    Of a recipient that a later `report` names, only one that was relayed changes.
    """

    NAME: ClassVar[str] = "delivered"
    VERSION: ClassVar[int] = 1

    numbers: tuple[int, ...]
    next_hop: str
    attempt: int
    address: str  # of the server that took it
    tls: str
    code: int | None  # None where a report gives none
    duration_ms: int
    dsn: bool = False  # it was told what the client wants reported, and reports that itself (RFC 3461)
    report: str | None = None  # the stream of the report that says so

    recipients: Personal[tuple[str, ...]] = ()
    reply: Personal[str | None] = None


class Relayed(Struct, frozen=True, kw_only=True):
    """A smart host or a foreign server took responsibility for these recipients."""

    NAME: ClassVar[str] = "relayed"
    VERSION: ClassVar[int] = 1

    numbers: tuple[int, ...]
    next_hop: str
    attempt: int
    address: str
    tls: str
    code: int
    duration_ms: int
    dsn: bool = False  # it was told what the client wants reported, and reports that itself (RFC 3461)

    recipients: Personal[tuple[str, ...]] = ()
    reply: Personal[str | None] = None


class Deferred(Struct, frozen=True, kw_only=True):
    """Not now: tried again at `retry_at`.

    `scope` is who is to blame; with `next-hop` the whole next hop is resting. `unknown` says the final dot got no
    answer: the next attempt may make a duplicate. `tried` is false where the next hop was known to be down.
    """

    NAME: ClassVar[str] = "deferred"
    VERSION: ClassVar[int] = 1

    numbers: tuple[int, ...]
    next_hop: str
    attempt: int
    retry_at: datetime
    scope: Literal["next-hop", "message", "recipient"]
    code: int | None  # None where there was no answer
    address: str = ""  # of the server that said so
    unknown: bool = False
    tried: bool = True
    policy: str

    recipients: Personal[tuple[str, ...]] = ()
    reply: Personal[str | None] = None


class Failed(Struct, frozen=True, kw_only=True):
    """No further try for these recipients; the octets are kept. No numbers means a message that has no recipient.

    A person who decided so is the `operator`; why is the `comment`, which the sender is not told. With reason
    `bounced-later` a `report` said so after the next hop took it; only a recipient that was relayed changes.
    """

    NAME: ClassVar[str] = "failed"
    VERSION: ClassVar[int] = 1

    numbers: tuple[int, ...]
    reason: FailedWhy
    next_hop: str | None
    attempt: int
    code: int | None
    operator: str | None = None
    address: str = ""  # of the server that said so
    report: str | None = None  # the stream of the report that says so
    policy: str

    recipients: Personal[tuple[str, ...]] = ()
    reply: Personal[str | None] = None
    comment: Personal[str] = ""


class Discarded(Struct, frozen=True, kw_only=True):
    """It goes nowhere for these recipients, and nobody is told: an operator decided so, or a rule. The octets are kept.

    No numbers means a message that has no recipient.
    """

    NAME: ClassVar[str] = "discarded"
    VERSION: ClassVar[int] = 1

    numbers: tuple[int, ...] = ()
    operator: str | None = None
    rule: str | None = None
    policy: str

    recipients: Personal[tuple[str, ...]] = ()
    reason: Personal[str] = ""


class Reported(Struct, frozen=True, kw_only=True):
    """Somebody was told: `report` is the stream of the message that says it."""

    NAME: ClassVar[str] = "reported"
    VERSION: ClassVar[int] = 1

    kind: ReportKind
    report: str


class RemovedFromSource(Struct, frozen=True, kw_only=True):
    """The mailbox no longer holds it.

    Confirmed by +OK to QUIT after our DELE, or because a later listing no longer shows it. In the mailbox's own
    stream for a UIDL that was adopted without a download.
    """

    NAME: ClassVar[str] = "removed-from-source"
    VERSION: ClassVar[int] = 1

    mailbox: str
    uidl: str
    confirmed_by: Literal["quit", "listing"]


MessageEvent = (
    Downloaded
    | Submitted
    | RejectedOversize
    | Generated
    | Held
    | Released
    | Attempted
    | Delivered
    | Relayed
    | Deferred
    | Failed
    | Discarded
    | Reported
    | RemovedFromSource
)
MailboxEvent = PollFailed | PollRecovered | PollFinished | Adopted | UidlResetSuspected | RemovedFromSource
Event = MessageEvent | MailboxEvent


@cache
def personal_facts(kind: type[Event]) -> frozenset[str]:
    """Return the names of the fields of an event that are personal facts."""
    return frozenset(f.name for f in structs.fields(kind) if _PERSONAL in getattr(f.type, "__metadata__", ()))
