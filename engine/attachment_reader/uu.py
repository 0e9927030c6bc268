"""Files within a text, without MIME: uuencode, its base64 kin (POSIX), and the first line of yEnc. Never raises."""

from __future__ import annotations

import re
from binascii import Error, a2b_base64, a2b_uu
from collections.abc import Iterator
from itertools import pairwise

_BEGIN = re.compile(rb"(?:\A|[\r\n])begin(-base64)?[ \t]+[0-7]{3,4}[ \t]+([^\r\n]{1,2000})(?=[\r\n]|\Z)")
_YENC = re.compile(rb"(?:\A|[\r\n])=ybegin[ \t][^\r\n]{0,500}?[ \t]name=([^\r\n]{1,2000})")
_END = re.compile(rb"(?:\A|[\r\n])(?:end|====)[ \t]*(?:[\r\n]|\Z)")


def files(text: bytes) -> Iterator[tuple[str, bytes]]:
    """Yield the name and the content of each file; b"" for the content of yEnc, which is not read."""
    if b"begin" not in text:
        return
    begins = [*_BEGIN.finditer(text), None]
    for found, following in pairwise(begins):
        assert found is not None
        yield _name(found[2]), _content(text, found, following.start() if following else len(text))
    for found in _YENC.finditer(text):
        yield _name(found[1]), b""


def _content(text: bytes, found: re.Match[bytes], limit: int) -> bytes:
    end = _END.search(text, found.end(), limit)
    coded = text[found.end() : end.start() if end else limit]
    return _base64(coded) if found[1] else _uudecoded(coded)


def _name(octets: bytes) -> str:
    return octets.decode("utf-8", "replace").strip()


def _base64(coded: bytes) -> bytes:
    try:
        return a2b_base64(coded + b"==")
    except Error:
        return b""


def _uudecoded(coded: bytes) -> bytes:
    return b"".join(_line(line) for line in coded.splitlines() if line)


def _line(line: bytes) -> bytes:
    try:
        return a2b_uu(line)
    except Error:  # too long, as some encoders write it
        length = (((line[0] - 32) & 63) * 4 + 5) // 3
        try:
            return a2b_uu(line[:length])
        except Error:
            return b""
