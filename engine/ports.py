"""What the engine needs of the outside world, in its own words.

The only types that adapters and the engine's loops share. Nothing here opens a socket. A port never raises for
what the far side says about one message: refusals are values. Trouble with a whole session is `SourceTrouble`.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal, Protocol

from msgspec import Struct

from engine.core.listing import Lacking, Offer
from engine.core.outcome import Answer, LeftOut, NoAnswer, Octets, Outcome, Reply, Transaction

__all__ = [
    "FIRST_OCTETS",
    "Admit",
    "Answer",
    "Answered",
    "Greeting",
    "Lacking",
    "LeftOut",
    "Mail",
    "NextHop",
    "NextHopTrouble",
    "NoAnswer",
    "NotKept",
    "Octets",
    "Offer",
    "Outcome",
    "Refused",
    "Reply",
    "Retrieved",
    "Scanner",
    "ScannerTrouble",
    "SourceSession",
    "SourceTrouble",
    "Submission",
    "Taking",
    "Transaction",
    "TroubleKind",
]

TroubleKind = Literal["connect", "tls", "auth", "in-use", "login-delay", "protocol"]

# How much of a reply may come before more room is asked for: some reads' worth, so that only a few messages need a
# second asking, and hundreds of servers may fall silent without harm.
FIRST_OCTETS: Final = 256 * 1024

# Waits while memory is short, until there is room for so many octets of this message in all.
Admit = Callable[[Offer, int], Awaitable[None]]


class SourceTrouble(Exception):
    """A whole POP3 session failed; the mailbox is tried again later.

    `kind` is one of the words of the `poll-failed` event; `text` says what the server said or what broke, in one
    line, without secrets. `permanent` is true where waiting won't help and a person must act (RFC 3206 SYS/PERM, AUTH).
    `offer` is the message whose retrieval broke the session, if one did: it is tried last next time.
    """

    def __init__(
        self, kind: TroubleKind, text: str, *, permanent: bool = False, offer: Offer | None = None
    ) -> None:
        super().__init__(f"{kind}: {text}")
        self.kind: TroubleKind = kind
        self.text = text
        self.permanent = permanent
        self.offer = offer


@dataclass(frozen=True, slots=True)
class Retrieved:
    """The octets of one offer, dots un-stuffed, line endings as they came."""

    offer: Offer
    octets: Octets


@dataclass(frozen=True, slots=True)
class Refused:
    """The server answered -ERR for this one message; the session goes on."""

    offer: Offer
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """The envelope of a message a client hands us by SMTP, and who that is.

    `protocol` is that of RFC 3848 ("ESMTPS"), `tls` as in `Outcome.tls`. `notify` and `orcpt` have a value for each
    recipient, "" where RCPT said nothing, as it was written (RFC 3461: xtext); both are empty where no RCPT said anything.
    """

    peer: str
    helo: str
    protocol: str
    tls: str
    user: str | None
    reverse_path: str  # without angle brackets; "" for the null reverse-path
    recipients: tuple[str, ...]
    notify: tuple[str, ...] = ()
    orcpt: tuple[str, ...] = ()
    envid: str | None = None
    ret: Literal["FULL", "HDRS"] | None = None
    smtputf8: bool = False
    pushed: bool = False  # by a client that may send to our own domains only


class NotKept(Exception):
    """A submitted message could not be made durable; nothing of it is kept, and the client has to come again.

    `full` where room is what lacks. The text is for the log; the client hears no more than that.
    """

    def __init__(self, text: str, *, full: bool) -> None:
        super().__init__(text)
        self.full = full


class Holding(Protocol):
    """What one message takes of the memory while it comes in and nobody knows how large it will be."""

    async def reach(self, octets: int) -> None:
        """Wait until there is room for so many octets in all. Raises NotKept where nothing will be kept any more."""
        ...

    def release(self) -> None:
        """Give everything back. May be called again."""
        ...


class Taking(Protocol):
    """Who takes responsibility for what clients submit."""

    def has_room(self) -> bool:
        """Whether there is room for new mail; while there isn't, `take` isn't to be called."""
        ...

    def holding(self) -> Holding:
        """Return what the next message will take of the memory."""
        ...

    async def take(self, submission: Submission, octets: Octets, holding: Holding) -> str:
        """Make a message durable; returns its id. Raises NotKept.

        What is held is given back in any case, even where the caller is cancelled.
        """
        ...

    def rejected(self, submission: Submission, size_octets: int, header: Octets) -> None:
        """Put on record that a message was too large, as far as it was seen: `header` is how it began."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Mail:
    """What a scanner is asked about: the octets as they came in, and the envelope that they came with.

    `client_ip` and `helo` are those of whoever handed the message to us, or to the provider, as far as that is known: a scanner
    that judges clients must judge the real one; "" for unknown.
    """

    id: str
    octets: Octets
    reverse_path: str
    recipients: tuple[str, ...]
    client_ip: str = ""
    helo: str = ""
    user: str | None = None


class Answered(Struct, frozen=True, kw_only=True, array_like=True, tag=1):
    """A scanner's answer. `threshold` is the score from which it says spam by itself."""

    verdict: Literal["clean", "infected", "spam", "unscannable"]
    signature: str | None = None
    score: float | None = None
    threshold: float | None = None
    symbols: tuple[str, ...] = ()
    engine: str = ""
    detail: str = ""


class ScannerTrouble(Exception):
    """No verdict could be had; the text says why, in one line.

    `blame` is "message" where the scanner broke in the middle of this one, and "scanner" where it could not be asked at all.
    """

    def __init__(self, text: str, blame: Literal["scanner", "message"] = "scanner") -> None:
        super().__init__(text)
        self.text = text
        self.blame: Literal["scanner", "message"] = blame


class Scanner(Protocol):
    """A program that looks for viruses or spam. Time-outs are whoever asks's to keep: every call may be cancelled."""

    name: str

    async def scan(self, mail: Mail) -> Answered:
        """Ask about one message. Raises ScannerTrouble."""
        ...

    async def ping(self) -> None:
        """Return if it is well. Raises ScannerTrouble."""
        ...

    async def version(self) -> str:
        """Return what it calls itself, with the version of its signatures where it says so. Raises ScannerTrouble."""
        ...

    async def close(self) -> None:
        """Close what is kept open."""
        ...


class SourceSession(Protocol):
    """One logged-in POP3 session."""

    capabilities: frozenset[str]
    passed_over: int  # messages left out of the last listing, for a broken line
    lacking: tuple[Lacking, ...]  # some of them

    async def listing(self, admit: Callable[[int], Awaitable[None]] | None = None) -> tuple[Offer, ...]:
        """LIST and UIDL, put together. UIDLs may repeat.

        `admit` is awaited each time a reply outgrows FIRST_OCTETS or what was last asked for, with the octets wanted
        for both. Without it only the replies' own limits hold.
        """
        ...

    def retrieve(self, offers: Sequence[Offer], admit: Admit) -> AsyncGenerator[Retrieved | Refused, None]:
        """RETR each offer, in order; pipelined where the server offers it.

        `admit` is awaited before the RETR of an offer is sent, for what LIST says but at most FIRST_OCTETS, and again
        each time the reply outgrows FIRST_OCTETS or what it was last asked for: nothing is read meanwhile. What comes
        beyond the listed size may go FIRST_OCTETS too far unasked.
        """
        ...

    async def top(self, offer: Offer, admit: Admit) -> bytes | None:
        """The header section by TOP n 0, or None where the server has no TOP or refuses. `admit` as in `retrieve`."""
        ...

    async def delete(self, offers: Sequence[Offer]) -> tuple[Refused, ...]:
        """DELE each; returns what was refused, the rest is marked. Nothing is removed before `quit` returned None."""
        ...

    async def quit(self) -> SourceTrouble | None:
        """QUIT, and close. None for +OK, which commits the deletions (RFC 1939 section 6); else what came of it."""
        ...

    async def abort(self) -> None:
        """Close without QUIT: deletions are undone."""
        ...


@dataclass(frozen=True, slots=True)
class Greeting:
    """What a next hop says of itself after EHLO, behind TLS where TLS is used."""

    banner: str
    address: str
    extensions: tuple[str, ...]  # as the EHLO reply lists them, upper case keyword first
    size_octets: int | None  # EHLO SIZE; None where it is absent or 0 (RFC 1870: no fixed limit)
    tls: str


class NextHopTrouble(Exception):
    """No greeting could be had; the text says why, in one line, without secrets."""


class NextHop(Protocol):
    """A server we hand messages to."""

    name: str

    async def hand_over(self, transaction: Transaction, before_dot: Callable[[], Awaitable[None]]) -> Outcome:
        """Try to hand one message over.

        `before_dot` is awaited after the next hop said 354 and before the final dot is sent; if it raises, the
        connection is dropped without the dot and the exception goes on. Never raises for what the far side does.
        """
        ...

    async def greet(self) -> Greeting:
        """Connect, EHLO, TLS and AUTH as configured. Raises NextHopTrouble."""
        ...

    async def close(self) -> None:
        """QUIT and close every kept connection."""
        ...
