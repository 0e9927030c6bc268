"""What a scanner says where that is no answer."""

from __future__ import annotations

from typing import Final

MOST_SHOWN_CHARACTERS: Final = 200  # of what the far side wrote, in an event or to a person


class Rubbish(Exception):
    """The far side doesn't speak the protocol; what it says on this connection can't be trusted."""


def shown(octets: bytes | bytearray | str, most_characters: int = MOST_SHOWN_CHARACTERS) -> str:
    """Return the beginning of what was said, in one line: what can't be printed as "?"."""
    text = octets if isinstance(octets, str) else octets[: 4 * most_characters].decode("utf-8", "replace")
    text = "".join(c if c.isprintable() else "?" for c in text.strip())
    return text if len(text) <= most_characters else text[: most_characters - 1] + "…"
