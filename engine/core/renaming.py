"""Fields that came in from outside and would pass for our own verdict, renamed in what goes out.

Owns: which names are ours, finding them in a header section, and the beginning of a message with them renamed. Only a name
changes, by a prefix: values, order, folding and everything else stay, and nothing behind the header is looked at.

Lines are told apart as the next hop will see them: a lone CR or LF ends a line too, for it goes out as CRLF. A line that is no
field does not end the header here, though it does for some readers: a field too many is renamed rather than one too few.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from engine.core.headers import Octets

OLD: Final = b"X-Old-"
SUBJECT: Final = "Subject"
# No server takes a header so large: Exchange refuses 256 KiB, Postfix cuts it off at 100 KiB.
SEARCHED_OCTETS: Final = 1 << 20
FIRST_LOOK_OCTETS: Final = 8 * 1024
# Whose an Authentication-Results field is, is read as far as this; behind it each is taken for ours.
READ_OCTETS: Final = 64 * 1024
# On record as facts, and written by a stranger: a few, and short.
NAMED: Final = 20
NAME_LIMIT_CHARACTERS: Final = 64

_EMPTY_LINES = (b"\n\r", b"\n\n", b"\r\r")  # the end of a line, and at once the end of the next
_END = rb"(?:\r\n?+|\n)"
_NAMED = (
    # What belongs in no name is dropped by some readers: a byte order mark before it, a NUL behind it.
    rb"(?:[^!-~ \t\r\n][^!-~\r\n]*+)?+"
    rb"((?:x-spam-|x-mailgate-|x-ms-exchange-organization-|x-ms-exchange-crosstenant-)[!-9;-~]*+"
    rb"|x-virus-status|authentication-results|subject"
    rb")[^!-~\r\n]*+(?:" + _END + rb"[ \t][^!-~\r\n]*+)*+:"
)
# Found several times faster behind one octet than behind one of two; a lone CR is rare.
_BEHIND_LF = re.compile(rb"\n" + _NAMED, re.IGNORECASE)
_BEHIND_ANY = re.compile(rb"[\r\n]" + _NAMED, re.IGNORECASE)
_VALUE = re.compile(rb"[^\r\n]*+(?:" + _END + rb"[ \t][^\r\n]*+)*+")
_IN_COMMENT = re.compile(rb"\\.|[()]", re.DOTALL)
_AUTHSERV_ID = re.compile(rb'"((?:[^"\\]|\\.)*+)"|([^ \t\r\n;()"]++)', re.DOTALL)


@dataclass(frozen=True, slots=True)
class Beginning:
    """The first octets of a message as they go out, and the rest, which is as it came: not copied."""

    octets: bytes
    rest: Octets
    renamed: tuple[str, ...] = ()
    has_subject: bool = False


def beginning(octets: Octets, *, hostname: str, subject_prefix: bytes = b"") -> Beginning:
    """Return a message with what would pass for ours renamed, and `subject_prefix` (ASCII) before its topmost subject.

    `hostname` is the authserv-id under which Authentication-Results would be ours (RFC 8601 section 5).
    """
    line = b"\n" + section(octets)  # so that each field stands behind the end of a line
    parts: list[bytes] = []
    renamed: dict[str, str] = {}
    at, has_subject = 1, False
    candidate = _BEHIND_LF if line.count(b"\r") == line.count(b"\r\n") else _BEHIND_ANY
    for found in candidate.finditer(line):
        name = found[1].lower()
        if name == b"subject":
            if found.start(1) != found.start() + 1 or found[0][1 + len(name) :].strip(b" \t\r\n") != b":":
                continue  # to most it is no subject: the prefix would be lost there
            if subject_prefix and not has_subject:
                parts.append(
                    line[at : found.end()] + _before_subject(subject_prefix, line[found.end() :][:1])
                )
                at = found.end()
            has_subject = True
        elif name != b"authentication-results" or _is_ours(line, found.end(), hostname):
            parts.append(line[at : found.start(1)] + OLD)
            at = found.start(1)
            shown = found[1].decode("ascii")[:NAME_LIMIT_CHARACTERS]
            renamed.setdefault(shown.lower(), shown)
    rest = memoryview(octets)[at - 1 :] if parts else octets
    return Beginning(b"".join(parts), rest, tuple(renamed.values())[:NAMED], has_subject)


def section(octets: Octets) -> bytes:
    """The header section as the next hop will see it, without the empty line; at most SEARCHED_OCTETS of it."""
    for limit in (FIRST_LOOK_OCTETS, SEARCHED_OCTETS):
        head = bytes(octets[:limit])
        if head.startswith((b"\r", b"\n")):
            return b""
        end = len(head)
        for empty in _EMPTY_LINES:
            found = head.find(empty, 0, end)
            end = found + 1 if found >= 0 else end
        if end < len(head) or len(octets) <= limit:
            break
    return head[:end]


def _before_subject(prefix: bytes, follows: bytes) -> bytes:
    """White space on both sides, as an encoded word behind it needs (RFC 2047 section 5)."""
    return b" " + prefix + (b"" if follows in (b"", b" ", b"\t", b"\r", b"\n") else b" ")


def _is_ours(line: bytes, at: int, hostname: str) -> bool:
    """Whether the authserv-id of the value there is our name, case aside."""
    if at >= READ_OCTETS:
        return True
    found = _VALUE.match(line, at, READ_OCTETS)
    assert found is not None  # nothing at all fits, too
    identity = _AUTHSERV_ID.match(found[0], _behind_comments(found[0]))
    if found.end() == READ_OCTETS and (identity is None or identity.end() == len(found[0])):
        return True
    if identity is None:
        return False
    written = identity[2] if identity[1] is None else re.sub(rb"\\(.)", rb"\1", identity[1])
    return written.lower().rstrip(b".") == hostname.lower().rstrip(".").encode()


def _behind_comments(value: bytes) -> int:
    """Where the first word begins behind white space and comments (RFC 5322 section 3.2.2)."""
    at = 0
    while at < len(value):
        if value[at] in b" \t\r\n":
            at += 1
        elif value[at] == ord("("):
            at = next(_comment_ends(value, at), len(value))
        else:
            break
    return at


def _comment_ends(value: bytes, at: int) -> Iterator[int]:
    """Where the comment that begins there ends; nothing where it never does."""
    depth = 0
    for found in _IN_COMMENT.finditer(value, at):
        depth += {b"(": 1, b")": -1}.get(found[0], 0)
        if depth == 0:
            yield found.end()
