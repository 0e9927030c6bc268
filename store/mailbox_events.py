"""What can happen to a mailbox, in the vocabulary of the log (`events`). State changes only: an idle poll leaves no event."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

MAILBOX_PREFIX = "mailbox-"

PollTrouble = Literal["connect", "tls", "auth", "in-use", "login-delay", "protocol"]


def mailbox_stream(name: str) -> str:
    """Return the stream of a mailbox."""
    return MAILBOX_PREFIX + name


@dataclass(frozen=True, slots=True, kw_only=True)
class PollFailed:
    """Mailbox: polls fail since now. Recorded once, not for each poll."""

    NAME: ClassVar[str] = "poll-failed"
    VERSION: ClassVar[int] = 1

    mailbox: str
    kind: PollTrouble
    permanent: bool  # waiting won't help, a person must act
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PollRecovered:
    """Mailbox: a poll went through again."""

    NAME: ClassVar[str] = "poll-recovered"
    VERSION: ClassVar[int] = 1

    mailbox: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PollFinished:
    """Mailbox: a poll that found something new. Idle polls leave no event."""

    NAME: ClassVar[str] = "poll-finished"
    VERSION: ClassVar[int] = 1

    mailbox: str
    listed: int
    downloaded: int
    oversize: int
    refused: int  # -ERR to RETR; tried again next time
    downloaded_octets: int
    duration_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Adoption:
    """One UIDL taken as seen. `message` is the stream it is known as, if it is."""

    uidl: str
    size_octets: int
    message: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Adopted:
    """Mailbox: these UIDLs are taken as seen without a download."""

    NAME: ClassVar[str] = "adopted"
    VERSION: ClassVar[int] = 1

    mailbox: str
    uidls: tuple[Adoption, ...]
    operator: str  # who asked; "mailgate" where it recognised the octets itself
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UidlResetSuspected:
    """Mailbox: known messages came back under other UIDLs. Nothing is fetched until a person adopts the listing."""

    NAME: ClassVar[str] = "uidl-reset-suspected"
    VERSION: ClassVar[int] = 1

    mailbox: str
    listed: int
    vanished: int  # known UIDLs that are gone
    alike: int  # unknown ones of the same size as a vanished one
