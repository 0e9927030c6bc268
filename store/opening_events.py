"""What opens the stream of a message, in the vocabulary of the log (`events`, where these names are imported from)."""

from __future__ import annotations

from typing import ClassVar, Literal

from msgspec import Struct, field

from store.personal import Personal

Direction = Literal["inbound", "outbound", "internal"]
LimitFrom = Literal["config", "next-hop", "listener"]
ReportKind = Literal[
    "failure",
    "delay",
    "success",
    "oversize",
    "infected",
    "scanner-down",
    "scanner-up",
    "mailbox-failing",
    "mailbox-suspended",
    "mailbox-recovered",
    "next-hop-down",
    "next-hop-up",
    "disk-full",
    "disk-free",
    "store-back",
    "daily",
    "digest",
    "rescan",
]


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
    automatic: bool = False  # a machine or a list sent it (RFC 3834)
    status_report: bool = False  # by its header a delivery status notification (RFC 3464) from a machine
    pushed: bool = (
        False  # by a client that may send to our own domains only: from outside, whatever its sender says
    )
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


class Imported(Struct, frozen=True, kw_only=True):
    """A person handed us this message in a file and named its recipients; its octets are durable. Opens a stream."""

    NAME: ClassVar[str] = "imported"
    VERSION: ClassVar[int] = 1

    direction: Direction  # as of a submission
    size_octets: int
    content: str
    bare_newlines: bool
    recipient_count: int
    automatic: bool = False
    status_report: bool = False
    next_hop: str | None = None  # where it was to go when it came in
    operator: str
    policy: str

    file: Personal[str] = ""  # as it was named, and which message of it
    reason: Personal[str] = ""
    reverse_path: Personal[str] = ""
    recipients: Personal[tuple[str, ...]] = ()
    message_id: Personal[str | None] = None
    subject: Personal[str | None] = None
    from_: Personal[str | None] = field(default=None, name="from")
    date: Personal[str | None] = None


class RejectedOversize(Struct, frozen=True, kw_only=True):
    """Too large: never retrieved, or refused to the client that submits it (these open a stream); or for a next hop later on.

    Only a later one has `numbers`. What its source and its header said is in it as well: who follows these events
    needs no other.
    """

    NAME: ClassVar[str] = "rejected-oversize"
    VERSION: ClassVar[int] = 1

    mailbox: str | None = None  # the source, where this opens the stream; a client's `peer` is the other one
    uidl: str | None = None
    direction: Direction = "inbound"
    size_octets: int
    limit_octets: int
    limit_from: LimitFrom
    next_hop: str | None = None  # whose limit it is, where it is a next hop's
    recipient_count: int = 0
    numbers: tuple[int, ...] = ()  # the recipients for whom it is too large, where it was here already
    tried: bool = True  # False: its next hop was known to take less, and was not asked
    policy: str

    peer: Personal[str] = ""  # as in `submitted`
    helo: Personal[str] = ""
    user: Personal[str | None] = None
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
    about: str  # the message it speaks of, or the first of them; "" for none
    concerns: str | None = None  # the scanner, mailbox or next hop that it speaks of
    size_octets: int
    content: str
    recipient_count: int

    reverse_path: Personal[str] = ""
    recipients: Personal[tuple[str, ...]] = ()
    message_id: Personal[str | None] = None
    subject: Personal[str | None] = None
    from_: Personal[str | None] = field(default=None, name="from")
    date: Personal[str | None] = None
