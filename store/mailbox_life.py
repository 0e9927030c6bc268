"""What the events of a mailbox's stream add up to, and what it was seen to hold. Pure and total, as `life` is."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Literal, assert_never

from msgspec import Struct
from msgspec.structs import replace

from store.errors import Damaged
from store.events import Event, MailboxEvent, RemovedFromSource
from store.mailbox_events import (
    Adopted,
    MarkedAsDeleted,
    PollFailed,
    PollFinished,
    PollRecovered,
    PollTrouble,
    UidlResetSuspected,
    Undeleted,
    Withheld,
)
from store.recipient import State


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
    withheld: tuple[Withheld, ...] = ()  # listed and not to be had; of very many, some
    more_withheld: int = 0  # so many others
    # Messages that the last QUIT deleted, unless it is on record that they left; and those that may have another's octets.
    marked: tuple[str, ...] = ()
    undeleted: tuple[Undeleted, ...] = ()  # what the server refuses to delete; of very many, some
    more_undeleted: int = 0  # so many others

    @property
    def withholds(self) -> int:
        """How many messages it lists that are not to be had."""
        return len(self.withheld) + self.more_withheld


class Known(Struct, frozen=True, kw_only=True):
    """A UIDL a mailbox was seen to hold, and the message it is; `state` is that message's."""

    uidl: bytes
    size_octets: int  # as listed
    stream: str | None  # None: adopted without a download
    state: State | None
    content: str | None
    opened_at: datetime | None
    gone: bool
    told: bool = (
        False  # too large, and each notice about it has reached its reader; False unless that was asked
    )


def evolve_mailbox(mailbox: Mailbox, event: MailboxEvent, at: datetime) -> Mailbox:
    """Add one event to a mailbox."""
    mailbox = replace(mailbox, revision=mailbox.revision + 1)
    match event:
        case PollFailed():
            return replace(
                mailbox,
                health="suspended" if mailbox.health == "suspended" else "failing",
                since=at if mailbox.health == "ok" else mailbox.since,  # also where it fails otherwise now
                kind=event.kind,
                permanent=event.permanent,
                text=event.text,
            )
        case PollRecovered():
            return replace(mailbox, health="ok", since=at, kind=None, permanent=False, text=None)
        case PollFinished():
            return replace(
                mailbox,
                last_new_at=at if event.downloaded or event.oversize else mailbox.last_new_at,
                downloaded=mailbox.downloaded + event.downloaded,
                withheld=event.withheld,
                more_withheld=event.more_withheld,
            )
        case MarkedAsDeleted():
            return replace(
                mailbox, marked=event.marked, undeleted=event.refused, more_undeleted=event.more_refused
            )
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


def fold_mailbox(name: str, events: Iterable[tuple[Event, datetime]]) -> Mailbox:
    """Add up a mailbox's events, oldest first."""
    mailbox = Mailbox(name=name)
    for event, at in events:
        if not isinstance(event, MailboxEvent):
            raise Damaged(f"mailbox {name}: {event.NAME} is no mailbox's event")
        mailbox = evolve_mailbox(mailbox, event, at)
    return mailbox
