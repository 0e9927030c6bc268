"""What comes out of a POP3 conversation: happenings, status lines, response codes, capabilities.

Owns how a status line is read (RFC 1939 section 3, RFC 2449 sections 5 and 8). Judges nobody: what a
refusal means is for the caller.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

from engine.wire.lines import CRLF
from engine.wire.pop3_commands import Command

TEXT_CHARACTERS_LIMIT: Final = 300  # of a server's words in an error or an event; more is noise

Capabilities = Mapping[str, tuple[str, ...]]

_CODE: Final = re.compile(rb"(?:\+OK|-ERR)\s+\[([A-Za-z][A-Za-z0-9/_-]*)[^\]\r\n]*\]")
_STATUS: Final = re.compile(rb"\A(?:\+OK|-ERR)[ \t]*")


@dataclass(frozen=True, slots=True)
class Greeted:
    """The server's first line. `timestamp` is for APOP, None where the server offers none."""

    ok: bool
    line: bytes
    timestamp: bytes | None = None


@dataclass(frozen=True, slots=True)
class Replied:
    """The reply to `command`, whole. Replies come in the order of their commands.

    `body` is the multi-line part without dots and terminator, its line endings as they came; None for a
    single line. `line_end` is how the server ended the status line.
    """

    command: Command
    ok: bool
    line: bytes
    body: bytearray | None = field(default=None, repr=False)
    line_end: bytes = CRLF


@dataclass(frozen=True, slots=True)
class Challenged:
    """The server asks for the next SASL response; `octets` are without base64."""

    command: Command
    octets: bytes


@dataclass(frozen=True, slots=True)
class Broken:
    """The conversation is over and nothing after it can be trusted.

    `command` is the one to blame, if one is. `lost` is true where the connection failed, false where the
    server broke the protocol.
    """

    command: Command | None
    text: str
    lost: bool


Happening = Greeted | Replied | Challenged | Broken


def text_of(line: bytes) -> str:
    """A status line in words: without +OK or -ERR, in one line, printable, cut to a readable length."""
    words = _STATUS.sub(b"", line).strip().decode("utf-8", "replace")
    text = "".join(letter if letter.isprintable() else "?" for letter in words[: TEXT_CHARACTERS_LIMIT + 1])
    return text if len(text) <= TEXT_CHARACTERS_LIMIT else text[:TEXT_CHARACTERS_LIMIT] + "…"


def code_of(line: bytes) -> str | None:
    """The response code of a status line in upper case, e.g. "SYS/TEMP"; None without one (RFC 2449 section
    8).
    """
    found = _CODE.match(line)
    return found.group(1).decode("ascii").upper() if found else None


def capabilities_of(body: bytes | bytearray) -> Capabilities:
    """The lines of a CAPA reply: upper-case keyword to arguments (RFC 2449 section 5)."""
    lines = (line.split() for line in bytes(body).decode("utf-8", "replace").splitlines())
    return {words[0].upper(): tuple(words[1:]) for words in lines if words}
