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
from typing import ClassVar, Literal

from msgspec import Struct

from store.erasure_events import Erased as Erased
from store.mailbox_events import (
    Adopted,
    MarkedAsDeleted,
    PollFailed,
    PollFinished,
    PollRecovered,
    UidlResetSuspected,
)
from store.opening_events import Direction as Direction
from store.opening_events import Downloaded as Downloaded
from store.opening_events import Generated as Generated
from store.opening_events import Imported as Imported
from store.opening_events import LimitFrom as LimitFrom
from store.opening_events import RejectedOversize as RejectedOversize
from store.opening_events import ReportKind as ReportKind
from store.opening_events import Submitted as Submitted
from store.personal import Personal as Personal
from store.personal import personal_facts as personal_facts
from store.retention_events import Kept as Kept
from store.retention_events import KeptNoLonger as KeptNoLonger
from store.scan_events import Blame as Blame
from store.scan_events import Quarantined as Quarantined
from store.scan_events import QuarantinedWhy as QuarantinedWhy
from store.scan_events import RedeliveryRequested as RedeliveryRequested
from store.scan_events import Scanned as Scanned
from store.scan_events import Verdict as Verdict

HeldWhy = Literal["unroutable", "outcome-unknown", "operator", "loop"]
FailedWhy = Literal["rejected", "expired", "bounced-later", "operator"]


# Structs, not dataclasses: one is made for each step of each message, and a Struct is made several times faster.
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

    A message that had no recipient has these from now on: the current rules name them. `bound_for` is the one next hop
    that all of them were to go to then; None for several, or none.
    """

    NAME: ClassVar[str] = "released"
    VERSION: ClassVar[int] = 1

    numbers: tuple[int, ...] = ()
    bound_for: str | None = None
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
    tags: tuple[str, ...] = ()  # names of the header fields put in front that tell what was found
    renamed: tuple[str, ...] = ()  # names of fields in the header that would have passed for ours
    policy: str

    recipients: Personal[tuple[str, ...]] = ()
    rule: Personal[str] = ""  # which route chose this next hop: its pattern may be an address


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
    """It goes nowhere for these recipients, and nobody is told: an operator decided so, or a rule.

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
    """Somebody was told: `report` is the stream of the message that says it.

    `numbers` are the recipients who were told themselves, where it was not the sender or the postmaster.
    """

    NAME: ClassVar[str] = "reported"
    VERSION: ClassVar[int] = 1

    kind: ReportKind
    report: str
    numbers: tuple[int, ...] = ()


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


class ContentsPurged(Struct, frozen=True, kw_only=True):
    """The octets are no longer kept; what happened stays on record. `reason` is the rule that says so."""

    NAME: ClassVar[str] = "contents-purged"
    VERSION: ClassVar[int] = 1

    reason: str
    policy: str


MessageEvent = (
    Downloaded
    | Submitted
    | Imported
    | RejectedOversize
    | Generated
    | Scanned
    | Quarantined
    | Held
    | Released
    | Attempted
    | Delivered
    | Relayed
    | Deferred
    | Failed
    | Discarded
    | Reported
    | RedeliveryRequested
    | RemovedFromSource
    | ContentsPurged
    | Kept
    | KeptNoLonger
    | Erased
)
MailboxEvent = (
    PollFailed
    | PollRecovered
    | PollFinished
    | MarkedAsDeleted
    | Adopted
    | UidlResetSuspected
    | RemovedFromSource
)
Event = MessageEvent | MailboxEvent
