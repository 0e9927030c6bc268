"""What a refusal means beyond no: too large for that server, or spam in its opinion. Pure."""

from __future__ import annotations

import re
from functools import lru_cache

from engine.core.outcome import Reply

# RFC 1870 section 6.1 and RFC 3463 section 3.4: too large for the server, now and always.
TOO_LARGE_CODE = 552
TOO_LARGE_ENHANCED = "5.3.4"
# RFC 5321 section 4.2.3 has the same code for a mailbox that is full, in just these words.
_OF_SIZE = re.compile(r"\bsize\b|\btoo (?:large|big|long)\b|\blarger\b", re.IGNORECASE)
_OF_ROOM = re.compile(r"storage|quota|mailbox|full\b|space", re.IGNORECASE)


def too_large(reply: Reply) -> bool:
    """Whether the next hop says that the message is larger than it takes."""
    if reply.enhanced is not None:
        return reply.permanent and reply.enhanced == TOO_LARGE_ENHANCED
    of_size = _OF_SIZE.search(reply.text) is not None and _OF_ROOM.search(reply.text) is None
    return reply.code == TOO_LARGE_CODE and reply.scope == "message" and of_size


def as_spam(reply: Reply, patterns: tuple[str, ...]) -> str | None:
    """Return the first pattern that a refusal for good fits as a whole, None where it is none of these.

    `*` stands for any run of characters, `?` for one; case aside. A refusal of the gateway itself is none: it says nothing
    of the message.
    """
    if not reply.permanent:
        return None
    said = " ".join(reply.said.split())
    return next((pattern for pattern in patterns if _compiled(pattern).fullmatch(said)), None)


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> re.Pattern[str]:
    """Each part is taken where it first fits, and never again elsewhere: no reply takes long, whatever the pattern."""
    first, *others = (re.escape(part).replace(r"\?", ".") for part in pattern.split("*"))
    if not others:
        return re.compile(first, re.IGNORECASE)
    *inner, last = others
    searched = "".join(f"(?>.*?{part})" for part in inner if part)
    return re.compile(f"{first}{searched}.*{last}", re.IGNORECASE)
