"""The octets of a message on their way into DATA: measured, line endings put right, dots stuffed.

Owns `Survey` (what MAIL FROM has to say about the content, RFC 1870 and RFC 6152) and `Stuffing` (RFC 5321
section 4.5.2, chunk by chunk). Both take chunks of any size, cut anywhere, and keep at most two octets
between them. All work is done by the search functions of `bytes`; no line is ever touched by itself. Never
changes anything but a lone CR or a lone LF, which become CRLF (RFC 5321 section 2.3.8), and never decides
anything about 8-bit content.
"""

from __future__ import annotations

import re

_TO_STUFF = re.compile(rb"\r\n\.")  # to look for it first takes half of what bytes.replace takes
_EMPTY_LINES = (b"\n\r", b"\n\n", b"\r\r")  # as they are sent: a lone CR or LF ends a line, too

# Where the header section is looked for. Exchange refuses more than 256 KiB of header lines; a message whose
# section is longer is taken to have no UTF-8 in it that matters.
MOST_HEADER_OCTETS = 256 * 1024


class Survey:
    """What is true of content as it will be sent: feed it every chunk, in order, then read.

    `size_octets` counts line endings as CRLF and the missing last one, but no stuffed dots (RFC 1870
    section 3). With `clean` the content is known to have no lone CR or LF, which saves three passes.
    """

    __slots__ = ("_clean", "_ends", "_last", "_octets", "_pairs", "eight_bit")

    def __init__(self, *, clean: bool = False) -> None:
        self._clean = clean
        self._octets = 0
        self._ends = 0
        self._pairs = 0
        self._last = b""
        self.eight_bit = False

    def feed(self, chunk: bytes | bytearray) -> None:
        """Take the next chunk."""
        if not chunk:
            return
        self._octets += len(chunk)
        if not self._clean:
            self._count_ends(chunk)
        self._last = bytes(chunk[-1:])
        if not self.eight_bit:
            self.eight_bit = not chunk.isascii()

    def _count_ends(self, chunk: bytes | bytearray) -> None:
        self._ends += chunk.count(b"\r") + chunk.count(b"\n")
        self._pairs += chunk.count(b"\r\n")
        if self._last == b"\r" and chunk.startswith(b"\n"):
            self._pairs += 1

    @property
    def lone_line_ends(self) -> int:
        """How many CR without LF and LF without CR there are."""
        return self._ends - 2 * self._pairs

    @property
    def size_octets(self) -> int:
        """Octets between the reply to DATA and the final dot, dots not yet stuffed."""
        complete = self._last in (b"", b"\r", b"\n")
        return self._octets + self.lone_line_ends + (0 if complete else 2)


class Stuffing:
    """Content to DATA octets: dots doubled at the start of lines, a missing last CRLF added.

    With `mend` true a lone CR or LF becomes CRLF; pass False only where a survey found none, which saves
    three passes. `feed` every chunk, then `finish`; the final dot itself isn't part of it.
    """

    __slots__ = ("_held", "_mend", "_tail")

    def __init__(self, *, mend: bool) -> None:
        self._mend = mend
        self._tail = b"\r\n"
        self._held = b""

    def feed(self, chunk: bytes) -> bytes:
        """What to send for this chunk; may be empty while a CR waits for what follows it."""
        return self._stuffed(self._mended(chunk) if self._mend else chunk)

    def finish(self) -> bytes:
        """What is still to be sent so that the content ends with CRLF; empty content stays empty."""
        held, self._held = self._held, b""
        if held:
            return b"\r\n"
        if self._tail.endswith(b"\r\n"):
            return b""
        return b"\r\n"

    def _mended(self, chunk: bytes) -> bytes:
        chunk = self._held + chunk
        self._held = b"\r" if chunk.endswith(b"\r") else b""
        if self._held:
            chunk = chunk[:-1]
        return chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n").replace(b"\n", b"\r\n")

    def _stuffed(self, chunk: bytes) -> bytes:
        if not chunk:
            return chunk
        stuffed = chunk.replace(b"\r\n.", b"\r\n..") if _TO_STUFF.search(chunk) else chunk
        if chunk.startswith(b".") and self._tail == b"\r\n":
            stuffed = b"." + stuffed
        elif chunk.startswith(b"\n.") and self._tail.endswith(b"\r"):
            stuffed = b"\n." + stuffed[1:]
        self._tail = (self._tail + chunk[-2:])[-2:]
        return stuffed


def utf8_header_section(start: bytes) -> bool:
    """Whether the header section holds raw UTF-8 (RFC 6532), which wants SMTPUTF8.

    `start` is the first `MOST_HEADER_OCTETS` of what will be sent. Octets above 127 that aren't UTF-8 are
    an old fault that SMTPUTF8 doesn't cover.
    """
    lines = b"\n" + start  # so that an empty one stands behind the end of a line wherever it is
    ends = [at for at in map(lines.find, _EMPTY_LINES) if at >= 0]
    section = lines[: min(ends)] if ends else lines
    if section.isascii():
        return False
    if not ends and len(start) >= MOST_HEADER_OCTETS:
        return False
    try:
        section.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True
