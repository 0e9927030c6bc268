"""Notices of the gateway's own that quote messages by the way: nothing on record says which.

What is written about a message is on record there (`reported`). A rescan tells of many messages, though, the daily report of the
one that has waited longest, and of a next hop that is down what it said to one. Where that matters, the text of these notices
is looked through for as long as their octets are kept: they are few, and short.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from sqlalchemy import Connection

from engine.core.daily_report import QUOTED_CHARACTERS
from engine.core.report import short
from store import contents, told
from store.events import Deferred, Event

BY_THE_WAY: Final = frozenset({*told.NEWS, "rescan"})

_WORD = re.compile(r"\w+")


def notices(connection: Connection) -> Iterator[tuple[str, str]]:
    """Yield these notices, oldest first: the stream of each, and what a person reads there."""
    for stream, octets in contents.notices(connection, BY_THE_WAY):
        yield stream, _text(octets)


class Quotable:
    """What of some messages a notice would quote: their ids, and what a next hop said that is down, where that has an address."""

    def __init__(self) -> None:
        self._streams: set[str] = set()
        self._replies: dict[str, str] = {}  # whose each is

    def add(self, stream: str, event: Event) -> None:
        """Take note of what happened to a message."""
        self._streams.add(stream)
        if isinstance(event, Deferred) and event.scope == "next-hop" and "@" in (event.reply or ""):
            # The shortest quotation cuts it so.
            self._replies.setdefault(short(event.reply or "")[: QUOTED_CHARACTERS - 1], stream)

    def quoted(self, text: str) -> Iterator[str]:
        """Yield the messages that a notice quotes."""
        yield from self._streams.intersection(_WORD.findall(text))
        yield from (stream for reply, stream in self._replies.items() if reply in text)


def _text(octets: bytes) -> str:
    from email import message_from_bytes, policy  # slow to import

    body = message_from_bytes(octets, policy=policy.default).get_body(("plain",))
    return "" if body is None else str(body.get_content())
