"""LIST and UIDL read line by line (RFC 1939 sections 5 and 7).

Owns what becomes of a line that is not as it should be: it costs that one message its place in this
session, never the session. A number whose line is broken, or that comes twice with different facts, maps to
None; a line without a readable number is only counted. UIDLs are kept as they came, octet by octet.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Generic, TypeVar

OFFERS_LIMIT: Final = 1_000_000  # some 200 MB as values; no mailbox in use comes near
UIDL_LINE_OCTETS_LIMIT: Final = (
    64 * 1024
)  # RFC 1939 says 70 characters; servers send hashes, paths and message ids
NUMBER_DIGITS_LIMIT: Final = 10
SIZE_DIGITS_LIMIT: Final = 18  # fits a signed 64-bit integer

Fact = TypeVar("Fact", int, bytes)


class TooManyOffers(Exception):
    """The listing has more lines than OFFERS_LIMIT."""


@dataclass(frozen=True, slots=True)
class Numbered(Generic[Fact]):
    """One listing: message number to size or UIDL, in the server's order; None where the line is broken."""

    facts: dict[int, Fact | None]
    unreadable: int  # lines without a readable number


def sizes_of(body: bytes | bytearray, line_end: bytes) -> Numbered[int]:
    """LIST: sizes in octets. What stands behind the size is passed over. Raises TooManyOffers."""
    facts: dict[int, int | None] = {}
    unreadable = 0
    for line in _lines(body, line_end):
        words = line.split(None, 2)
        number = _number(words[0]) if words else None
        if number is None:
            unreadable += 1
            continue
        good = len(words) > 1 and words[1].isdigit() and len(words[1]) <= SIZE_DIGITS_LIMIT
        size = int(words[1]) if good else None
        facts[number] = size if facts.get(number, size) == size else None
    return Numbered(facts, unreadable)


def uidls_of(body: bytes | bytearray, line_end: bytes) -> Numbered[bytes]:
    """UIDL: everything behind the first space, verbatim. Raises TooManyOffers."""
    facts: dict[int, bytes | None] = {}
    unreadable = 0
    for line in _lines(body, line_end):
        digits, _, rest = line.partition(b" ")
        number = _number(digits)
        if number is None:
            unreadable += 1
            continue
        uidl = rest if rest and len(line) <= UIDL_LINE_OCTETS_LIMIT else None
        facts[number] = uidl if facts.get(number, uidl) == uidl else None
    return Numbered(facts, unreadable)


def _lines(body: bytes | bytearray, line_end: bytes) -> list[bytes]:
    if body.count(line_end) > OFFERS_LIMIT:
        raise TooManyOffers(f"more than {OFFERS_LIMIT} messages are listed")
    lines = bytes(body).split(line_end)
    if lines[-1] == b"":
        lines.pop()
    return lines


def _number(digits: bytes) -> int | None:
    if not digits.isdigit() or len(digits) > NUMBER_DIGITS_LIMIT:
        return None
    return int(digits) or None
