"""clamd's protocol, as its manual page has it: commands with z, ended and answered by NUL.

One question a connection. An IDSESSION would save a connection, which takes a fifth of the quarter of a millisecond that
clamd needs for a small message; but then a late answer could meet the next message, and a reload of the signatures would
find sessions open. Never opens a socket.

aioclamd does no better: it knows no unix sockets, looks for an answer only after it sent everything, and so loses "size
limit exceeded", and takes the end of the connection for an answer without a finding.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from engine.wire.rubbish import Rubbish, shown

PIECE_OCTETS: Final = 64 * 1024
MOST_REPLY_OCTETS: Final = 4096  # one line with one name
TOO_LARGE: Final = "INSTREAM size limit exceeded"  # StreamMaxLength


@dataclass(frozen=True, slots=True)
class Nothing:
    """It found nothing."""


@dataclass(frozen=True, slots=True)
class Found:
    """It found this. Heuristics are findings, too: what looks like a bomb, or is encrypted where clamd.conf minds that."""

    name: str


@dataclass(frozen=True, slots=True)
class TooLarge:
    """It stopped at StreamMaxLength."""

    text: str


@dataclass(frozen=True, slots=True)
class Failed:
    """It could not scan, and says why."""

    text: str


@dataclass(frozen=True, slots=True)
class Unknown:
    """It is no answer to INSTREAM."""

    text: str


Verdict = Nothing | Found | TooLarge | Failed | Unknown


def command(name: str) -> bytes:
    """A command without content: PING or VERSION."""
    return b"z" + name.encode("ascii") + b"\0"


def instream(octets: bytes | bytearray | memoryview) -> Iterator[bytes]:
    """INSTREAM with a message, in the pieces to send. A small one comes whole."""
    view = memoryview(octets)
    lead = command("INSTREAM")
    for at in range(0, len(view), PIECE_OCTETS):
        piece = view[at : at + PIECE_OCTETS]
        end = bytes(4) if at + PIECE_OCTETS >= len(view) else b""
        yield b"".join((lead, len(piece).to_bytes(4, "big"), piece, end))
        lead = b""
    if lead:
        yield lead + bytes(4)


class ReplyReader:
    """Takes what comes in; `reply` is there once it is whole."""

    def __init__(self) -> None:
        self.reply: str | None = None
        self._had = bytearray()

    def feed(self, octets: bytes) -> bool:
        """Take octets, b"" for the end of the connection; True once the reply is whole. Raises Rubbish."""
        self._had += octets
        end = self._had.find(0)
        if end < 0:
            if len(self._had) > MOST_REPLY_OCTETS:
                raise Rubbish(f"a reply without end: {shown(self._had)}")
            return False
        if end != len(self._had) - 1:
            raise Rubbish(f"more than a reply: {shown(self._had)}")
        self.reply = shown(self._had[:end], MOST_REPLY_OCTETS)
        return True


def verdict(reply: str) -> Verdict:
    """What a reply to INSTREAM means."""
    if reply == "stream: OK":
        return Nothing()
    if reply.startswith("stream: ") and reply.endswith(" FOUND"):
        return Found(shown(reply.removeprefix("stream: ").removesuffix(" FOUND")))
    if reply.startswith(TOO_LARGE):
        return TooLarge(shown(reply))
    if reply.endswith("ERROR") or reply == "COMMAND READ TIMED OUT":
        return Failed(shown(reply.removesuffix("ERROR")))
    return Unknown(shown(reply))
