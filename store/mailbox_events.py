"""What can happen to a mailbox, in the vocabulary of the log (`events`). State changes only: an idle poll leaves no event."""

from __future__ import annotations

from datetime import datetime
from typing import ClassVar, Literal

from msgspec import Struct

MAILBOX_PREFIX = "mailbox-"

PollTrouble = Literal["connect", "tls", "auth", "in-use", "login-delay", "protocol"]


def mailbox_stream(name: str) -> str:
    """Return the stream of a mailbox."""
    return MAILBOX_PREFIX + name


class PollFailed(Struct, frozen=True, kw_only=True):
    """Mailbox: polls fail since now. Recorded once, not for each poll."""

    NAME: ClassVar[str] = "poll-failed"
    VERSION: ClassVar[int] = 1

    mailbox: str
    kind: PollTrouble
    permanent: bool  # waiting won't help, a person must act
    text: str


class PollRecovered(Struct, frozen=True, kw_only=True):
    """Mailbox: a poll went through again."""

    NAME: ClassVar[str] = "poll-recovered"
    VERSION: ClassVar[int] = 1

    mailbox: str


# What the listing does not tell of a message, so that it can't be fetched: its UIDL, its size, or even its number.
Lack = Literal["uidl", "size", "line"]


class Withheld(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One message that is listed and not to be had."""

    uidl: str  # "" where the server has no UIDL, or does not tell this one
    size_octets: int  # as listed; 0 where that is not told
    breaks: (
        bool  # the session broke at it, twice running; else the server answered -ERR to RETR, or see `lacks`
    )
    text: str  # what the server said, or what broke, when it was first so
    since: datetime
    lacks: Lack | None = None


class PollFinished(Struct, frozen=True, kw_only=True):
    """Mailbox: a poll that found something new, or found others withheld than before. Idle polls leave no event."""

    NAME: ClassVar[str] = "poll-finished"
    VERSION: ClassVar[int] = 1

    mailbox: str
    listed: int
    downloaded: int
    oversize: int
    refused: int  # -ERR to RETR; tried again next time
    downloaded_octets: int
    duration_ms: int
    broken: bool = False  # the session ended before its time; what was retrieved is durable all the same
    withheld: tuple[Withheld, ...] = ()  # as of now; of very many, some
    more_withheld: int = 0  # so many others


class Undeleted(Struct, frozen=True, kw_only=True):
    """One message that the server refuses to delete: it answered -ERR to DELE."""

    message: str  # its stream
    uidl: str
    size_octets: int
    text: str  # what the server said when it was first so
    since: datetime


class MarkedAsDeleted(Struct, frozen=True, kw_only=True):
    """Mailbox: others are marked as deleted than before, or others the server refuses to delete.

    Recorded before QUIT, so that what is marked is on record whatever becomes of its answer.
    """

    NAME: ClassVar[str] = "marked-as-deleted"
    VERSION: ClassVar[int] = 1

    mailbox: str
    marked: tuple[
        str, ...
    ]  # messages, as of now: QUIT deletes them, or did, unless it is known that it didn't
    refused: tuple[Undeleted, ...] = ()  # as of now; of very many, some
    more_refused: int = 0  # so many others


class Adoption(Struct, frozen=True, kw_only=True):
    """One UIDL taken as seen. `message` is the stream it is known as, if it is."""

    uidl: str
    size_octets: int
    message: str | None = None


class Adopted(Struct, frozen=True, kw_only=True):
    """Mailbox: these UIDLs are taken as seen without a download."""

    NAME: ClassVar[str] = "adopted"
    VERSION: ClassVar[int] = 1

    mailbox: str
    uidls: tuple[Adoption, ...]
    operator: str  # who asked; "mailgate" where it recognised the octets itself
    reason: str


class UidlResetSuspected(Struct, frozen=True, kw_only=True):
    """Mailbox: known messages came back under other UIDLs. Nothing is fetched until a person adopts the listing."""

    NAME: ClassVar[str] = "uidl-reset-suspected"
    VERSION: ClassVar[int] = 1

    mailbox: str
    listed: int
    vanished: int  # known UIDLs that are gone
    alike: int  # unknown ones of the same size as a vanished one
