"""What the postmaster hears of: at once where it is in trouble, and each day how it is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Watched:
    """The parts of a gateway that are configured, by name.

    `hops` are the next hops that are not of direct delivery: foreign servers are down all the time. `shortage` says how little
    room there is where the store is, None for enough.
    """

    mailboxes: tuple[str, ...]
    hops: tuple[str, ...]
    shortage: Callable[[], str | None]
