"""The parts of a message, read in two ways: by the MIME parser, and by looking for whatever is like a part.

Mail programs differ in where they see parts: boundaries that are odd, doubled or never end, fields that come twice, headers
that a text pretends to have. The second way knows no structure: whatever follows a line that begins with two hyphens, and
has a MIME field, is a part. It finds what the parser's rules hide, and needs neither memory nor time to speak of.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from email.message import Message
from email.parser import BytesParser
from email.policy import compat32
from typing import Final

from engine.attachment_reader.fields import Part, fields_in, value_of

DEPTH: Final = 100  # of messages in messages, by the second way
HEADER_OCTETS: Final = 1 << 20

_DELIMITER = re.compile(rb"[\r\n]--[^\r\n]*+")
_EMPTY_LINE = re.compile(rb"\r\n\r\n|\n\n|\r\r|\n\r\n")


def parsed(octets: bytes) -> tuple[list[Part], set[str]]:
    """Return the parts that the parser sees, those of messages within too, and what it found wrong.

    Raises RecursionError and MemoryError for what is nested too deep and what is too much.
    """
    found: list[Part] = []
    wrong: set[str] = set()
    waiting: list[Message] = [BytesParser(policy=compat32).parsebytes(octets)]
    while waiting:
        message = waiting.pop()
        wrong.update(type(defect).__name__.removesuffix("Defect") for defect in message.defects)
        payload = message.get_payload()
        if isinstance(payload, list):
            waiting += [part for part in payload if isinstance(part, Message)]
            content = f"{message.preamble or ''}\n{message.epilogue or ''}"
        else:
            content = payload if isinstance(payload, str) else ""
        found.append(Part(_fields(message), _octets(content)))
    return found, wrong


def _fields(message: Message) -> tuple[tuple[str, str], ...]:
    fields = ((name.strip().lower(), value) for name, value in message.raw_items())
    return tuple((name, value_of(_octets(value))) for name, value in fields if name.startswith("content-"))


def _octets(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def likely(octets: bytes) -> Iterator[Part]:
    """Yield whatever is like a part."""
    start = 0
    for delimiter in _DELIMITER.finditer(octets):
        yield from _part(octets, start, delimiter.start())
        start = delimiter.end()
    yield from _part(octets, start, len(octets))


def _part(octets: bytes, start: int, end: int) -> Iterator[Part]:
    """Yield the part between two delimiters, and the messages that begin within it."""
    for _ in range(DEPTH):
        limit = min(end, start + HEADER_OCTETS)
        empty = _EMPTY_LINE.search(octets, start, limit)
        body = empty.end() if empty else limit
        fields = fields_in(octets[start:body])
        if not fields:
            return
        part = Part(fields, octets[body:end])
        yield part
        if not any("message" in value.lower() for value in part.values("content-type")):
            return
        start = body


def is_one_text(part: Part) -> bool:
    """Whether a part by itself is nothing but a text: then there is no second way to read it."""
    values = part.values("content-type")
    return not values or (len(values) == 1 and values[0].lower().startswith("text/"))
