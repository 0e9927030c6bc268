"""The content of a message as a client sends it after DATA (RFC 5321 section 4.1.1.4), in any cut.

Owns the end of data and the taking out of stuffed dots. Only CRLF "." CRLF ends the content: a lone CR or a lone LF
is an octet like any other and begins no line, or two servers would see two different messages in the same octets. A dot at
the start of a line goes, whatever follows it (RFC 5321 section 4.5.2). Lines may have any length. No work is done line by line.
"""

from __future__ import annotations

import re
from typing import Final

from engine.wire.lines import CRLF, CRLF_BEGINNINGS, LineBuffer, undecided

_STUFFED: Final = b"\r\n."
BEGINNING_OCTETS: Final = 64 * 1024  # its header section, or as much of it as anybody looks for
_A_STUFFED: Final = re.compile(rb"\r\n\.")  # to look for it takes half of what bytes.find or bytes.count take
_END: Final = re.compile(rb"\r\n\.\r\n")


class DataContent:
    """One message's octets, collected into one bytearray that grows as they come.

    To be made right after the DATA line was taken from the buffer: its CRLF is looked at again, for it is the line
    ending in front of a first dot. Content of more than `limit_octets` is read to its end and not kept: `octets` is how it
    began then, `too_large` is true, and `size_octets` goes on counting.
    """

    __slots__ = ("_limit_octets", "_skip", "octets", "size_octets", "too_large")

    def __init__(self, buffer: LineBuffer, *, limit_octets: int) -> None:
        self.octets = bytearray()
        self.size_octets = 0
        self.too_large = False
        self._limit_octets = limit_octets
        self._skip = len(CRLF)
        buffer.start -= self._skip

    def take(self, buffer: LineBuffer) -> bool:
        """Take what belongs to the content; True when its end was found and taken too."""
        octets, start = buffer.octets, buffer.start
        found = _END.search(octets, start)
        if found is not None:
            stop, buffer.start = found.start() + 2, found.end()
        else:
            stop = buffer.start = len(octets) - undecided(octets, start, CRLF_BEGINNINGS)
        if stop > start:
            self._append(octets, start, stop)
        return found is not None

    def _append(self, octets: bytes, start: int, stop: int) -> None:
        skip, self._skip = self._skip, 0
        stuffed = octets.count(_STUFFED, start, stop) if _A_STUFFED.search(octets, start, stop) else 0
        self.size_octets += stop - start - skip - stuffed
        if self.too_large:
            return
        if stuffed:
            self.octets += memoryview(octets[start:stop].replace(_STUFFED, CRLF))[skip:]
        else:
            self.octets += memoryview(octets)[start + skip : stop]
        if self.size_octets > self._limit_octets:
            self.too_large = True
            self.octets = self.octets[:BEGINNING_OCTETS]
