"""Lines and dot-ended bodies, out of octets that arrive in any cut.

Owns the bounded line buffer and the un-stuffing of dots (RFC 1939 section 3). Every octet of a body is kept
as it came: no line ending is translated, and only a dot that stuffing added is taken out. Never does I/O
and knows no command.

A line that begins with one dot and goes on with something else than a dot is no stuffed line: a server that
follows the RFC cannot send it. It is kept whole, because some servers forget to stuff the first line of a
message.

No work is done line by line: the end and the stuffed dots are looked for with `bytes.find` and
`bytes.replace`, so a body costs the same whether it has one line or a million.
"""

from __future__ import annotations

import re
from typing import Final

CRLF: Final = b"\r\n"
LF: Final = b"\n"

CRLF_TERMINATOR: Final = b"\r\n.\r\n"
_LF_TERMINATOR: Final = re.compile(rb"\n\.\r?\n")

# How a terminator or a stuffed dot may begin at the end of what has arrived; the longest first.
CRLF_BEGINNINGS: Final = (b"\r\n.\r", b"\r\n.", b"\r\n", b"\r")
_LF_BEGINNINGS: Final = (b"\n.\r", b"\n.", b"\n")


class TooLong(Exception):
    """A line or a body went over its limit of `limit_octets`."""

    def __init__(self, limit_octets: int) -> None:
        super().__init__(f"more than {limit_octets} octets")
        self.limit_octets = limit_octets


class LineBuffer:
    """Octets that have arrived and are not yet understood.

    Holds one chunk at a time. What `line` and `DotBody.take` leave behind is bounded by their limits, so
    feeding costs one short copy at most.
    """

    __slots__ = ("octets", "start")

    def __init__(self) -> None:
        self.octets = b""
        self.start = 0  # everything before is used up

    def __len__(self) -> int:
        return len(self.octets) - self.start

    def feed(self, octets: bytes) -> None:
        """Add what has arrived."""
        rest = self.octets[self.start :]
        self.octets = rest + octets if rest else octets
        self.start = 0

    def line(self, limit_octets: int) -> bytes | None:
        """Take the next line, its ending included; None while it is unfinished. Raises TooLong."""
        start = self.start
        end = self.octets.find(b"\n", start, start + limit_octets) + 1
        if not end:
            if len(self) >= limit_octets:
                raise TooLong(limit_octets)
            return None
        self.start = end
        return self.octets[start:end]

    def clear(self) -> None:
        """Forget everything that has arrived."""
        self.octets = b""
        self.start = 0


class DotBody:
    """One multi-line body, collected into one bytearray that grows as octets come.

    To be made right after its status line was taken from the buffer: the line's own ending is looked at
    again, as it is the line ending in front of a terminator that comes first. `line_end` says how this
    server ends lines. Where that is CRLF, only CRLF "." CRLF ends the body; a lone LF begins no line. Where
    the server ends its status line with a bare LF, LF "." LF ends it, with or without a CR before the last
    LF.
    """

    __slots__ = ("_beginnings", "_limit_octets", "_skip", "_stuffed", "line_end", "octets")

    def __init__(self, buffer: LineBuffer, *, line_end: bytes, limit_octets: int) -> None:
        self.octets = bytearray()
        self.line_end = line_end
        self._limit_octets = limit_octets
        self._stuffed = line_end + b".."
        self._beginnings = CRLF_BEGINNINGS if line_end == CRLF else _LF_BEGINNINGS
        self._skip = len(line_end)
        buffer.start -= self._skip

    def take(self, buffer: LineBuffer) -> bool:
        """Take what belongs to the body; True when its end was found and taken too. Raises TooLong."""
        octets, start = buffer.octets, buffer.start
        found = self._end(octets, start)
        if found is None:
            stop = after = len(octets) - undecided(octets, start, self._beginnings)
        else:
            stop, after = found
        if stop > start:
            self._append(octets, start, stop)
        buffer.start = after
        return found is not None

    def _end(self, octets: bytes, start: int) -> tuple[int, int] | None:
        """Where the body ends and where the next reply begins."""
        if self.line_end == CRLF:
            found = octets.find(CRLF_TERMINATOR, start)
            return (found + 2, found + 5) if found >= 0 else None
        match = _LF_TERMINATOR.search(octets, start)
        return (match.start() + 1, match.end()) if match else None

    def _append(self, octets: bytes, start: int, stop: int) -> None:
        if len(self.octets) + stop - start - self._skip > self._limit_octets:
            raise TooLong(self._limit_octets)
        if octets.find(self._stuffed, start, stop) >= 0:
            clean = octets[start:stop].replace(self._stuffed, self._stuffed[:-1])
            self.octets += memoryview(clean)[self._skip :]
        else:
            self.octets += memoryview(octets)[start + self._skip : stop]
        self._skip = 0


def undecided(octets: bytes, start: int, beginnings: tuple[bytes, ...]) -> int:
    """How many octets at the end may be the beginning of something that the next octets decide."""
    for beginning in beginnings:
        if octets.endswith(beginning, start):
            return len(beginning)
    return 0
