"""That a message was erased; part of the vocabulary in `events`."""

from __future__ import annotations

from typing import ClassVar

from msgspec import Struct

from store.personal import Personal


class Erased(Struct, frozen=True, kw_only=True):
    """What was personal is gone: the personal facts of these events of its stream, with their salts, and the octets.

    What happened, and when, stays: so does every state.
    """

    NAME: ClassVar[str] = "erased"
    VERSION: ClassVar[int] = 1

    revisions: tuple[int, ...]  # of the events that were redacted
    octets: bool  # whether there were any to delete
    operator: str

    reason: Personal[str] = ""
