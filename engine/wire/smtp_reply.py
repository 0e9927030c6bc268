"""SMTP replies (RFC 5321 section 4.2, enhanced codes of RFC 2034), octets in, whole replies out.

Strict in what ends a line, for a reply may quote what we sent; bounded in every length. Never opens a socket.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache

# RFC 5321 section 4.5.3.1.5 allows 512 octets; servers that quote a whole URL or policy text exceed it. A refusal that is
# taken for no answer would have the message sent again and again.
MOST_LINE_OCTETS = 8192
# An EHLO reply has some 20 lines, a verbose refusal about ten.
MOST_REPLY_LINES = 128
MOST_REPLY_OCTETS = 65_536
# What is kept of a reply's text. Events carry it, and no reason is longer.
MOST_TEXT_CHARACTERS = 2000

_ENHANCED = re.compile(r"([245])\.[0-9]{1,3}\.[0-9]{1,3}(?=\s|$)")


class SmtpFault(Exception):
    """The far side broke the protocol; nothing that it says on this connection can be trusted any more."""


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole reply: `text` is one line, the lines of a long one joined by " / ", control characters shown
    as "?".
    """

    code: int
    text: str

    @property
    def positive(self) -> bool:
        return 200 <= self.code < 300

    @property
    def negative(self) -> bool:
        return self.code >= 400

    @property
    def enhanced(self) -> str | None:
        """The enhanced status code (RFC 3463, RFC 2034), if the text starts with one whose class fits the
        code.
        """
        found = _ENHANCED.match(self.text)
        return found.group() if found and int(found.group(1)) == self.code // 100 else None


def visible(text: str) -> str:
    """`text` in one line: tabs and line ends as spaces, what can't be printed as "?", bounded in length."""
    text = text[: MOST_TEXT_CHARACTERS + 1]
    if not text.isprintable():
        text = "".join(c if c.isprintable() else " " if c in "\t\r\n" else "?" for c in text)
    return text if len(text) <= MOST_TEXT_CHARACTERS else text[: MOST_TEXT_CHARACTERS - 1] + "…"


class ReplyParser:
    """Octets in, whole replies out. Bounded in line, reply and text length; raises `SmtpFault`."""

    __slots__ = ("_code", "_lines", "_octets", "_rest")

    def __init__(self) -> None:
        self._rest = b""
        self._code = b""
        self._lines: list[bytes] = []
        self._octets = 0

    @property
    def between_replies(self) -> bool:
        """True while no part of a reply has arrived."""
        return not self._rest and not self._lines

    def feed(self, octets: bytes) -> list[Reply]:
        """The replies that these octets complete."""
        *lines, self._rest = (self._rest + octets).split(b"\r\n")
        # A reply may quote what we sent. If a lone LF ended a line, a quoted one could forge a reply.
        if len(self._rest) > MOST_LINE_OCTETS or b"\n" in self._rest:
            raise SmtpFault(f"reply line is too long or doesn't end with CRLF: {_sample(self._rest)}")
        return [reply for line in lines if (reply := self._take(line)) is not None]

    def _take(self, line: bytes) -> Reply | None:
        code, mark = line[:3], line[3:4]
        if not (len(code) == 3 and code.isdigit() and code[:1] in b"2345" and mark in (b"", b" ", b"-")) or (
            len(line) > MOST_LINE_OCTETS or b"\n" in line
        ):
            raise SmtpFault(f"not a reply line: {_sample(line)}")
        if self._lines and code != self._code:
            raise SmtpFault(f"reply starts with {self._code.decode()} and goes on with: {_sample(line)}")
        self._code = code
        self._lines.append(line[4:])
        self._octets += len(line)
        if len(self._lines) > MOST_REPLY_LINES or self._octets > MOST_REPLY_OCTETS:
            raise SmtpFault(f"reply is longer than {MOST_REPLY_LINES} lines or {MOST_REPLY_OCTETS} octets")
        if mark == b"-":
            return None
        lines, self._lines, self._octets = self._lines, [], 0
        return _reply(code, tuple(lines))


@lru_cache(maxsize=256)  # a server says the same few things all day
def _reply(code: bytes, lines: tuple[bytes, ...]) -> Reply:
    return Reply(int(code), _joined(lines))


def _sample(line: bytes) -> str:
    return visible(line[:80].decode("utf-8", "replace"))


def _joined(lines: tuple[bytes, ...]) -> str:
    """The lines in one; an enhanced code that each line repeats is kept once."""
    texts = [line.decode("utf-8", "replace").strip() for line in lines]
    found = _ENHANCED.match(texts[0])
    if found and len(texts) > 1:
        texts[1:] = [text.removeprefix(found.group()).strip() for text in texts[1:]]
    return visible(" / ".join(text for text in texts if text))
