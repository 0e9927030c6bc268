"""LIST and UIDL read line by line (RFC 1939 sections 5 and 7).

Owns what becomes of a line that is not as it should be: it costs that one message its place in this
session, never the session. A line without a readable number says nothing, and one without a readable fact
says None. UIDLs are kept as they came, octet by octet. Lines are read one after the other and nothing is
gathered: of a million each kind of copy counts.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

OFFERS_LIMIT: Final = 1_000_000  # some 200 MB as values; no mailbox in use comes near
UIDL_LINE_OCTETS_LIMIT: Final = (
    64 * 1024
)  # RFC 1939 says 70 characters; servers send hashes, paths and message ids
NUMBER_DIGITS_LIMIT: Final = 10
SIZE_DIGITS_LIMIT: Final = 18  # fits a signed 64-bit integer

SPLIT_OCTETS: Final = 64 * 1024  # lines are split so many octets at a time


class TooManyOffers(Exception):
    """The listing has more lines than OFFERS_LIMIT."""


def sizes_of(body: bytes | bytearray, line_end: bytes) -> Iterator[tuple[int | None, int | None]]:
    """LIST: of each line the number and the size in octets. What stands behind the size is passed over.

    Raises TooManyOffers.
    """
    for line in _lines(body, line_end):
        words = line.split(None, 2)
        good = len(words) > 1 and words[1].isdigit() and len(words[1]) <= SIZE_DIGITS_LIMIT
        yield _number(words[0]) if words else None, int(words[1]) if good else None


def uidls_of(body: bytes | bytearray, line_end: bytes) -> Iterator[tuple[int | None, bytes | None]]:
    """UIDL: of each line the number and everything behind the first space, verbatim. Raises TooManyOffers."""
    for line in _lines(body, line_end):
        digits, _, rest = line.partition(b" ")
        yield _number(digits), rest if rest and len(line) <= UIDL_LINE_OCTETS_LIMIT else None


def _lines(body: bytes | bytearray, line_end: bytes) -> Iterator[bytes]:
    if body.count(line_end) > OFFERS_LIMIT:
        raise TooManyOffers(f"more than {OFFERS_LIMIT} messages are listed")
    start = 0
    while start < len(body):
        stop = body.rfind(line_end, start, start + SPLIT_OCTETS)
        if stop < 0:
            stop = body.find(line_end, start)
        if stop < 0:
            stop = len(body)
        yield from bytes(body[start:stop]).split(line_end)
        start = stop + len(line_end)


def _number(digits: bytes) -> int | None:
    if not digits.isdigit() or len(digits) > NUMBER_DIGITS_LIMIT:
        return None
    return int(digits) or None
