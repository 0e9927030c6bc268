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


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """Whether new mail would be kept, as far as one knows without any. To be asked from any thread.

    `commits` says what the last commit failed with, `shortage` how little room there is; None where it is well. `refuses`:
    whether clients are refused for a shortage.
    """

    commits: Callable[[], str | None] = lambda: None
    shortage: Callable[[], str | None] = lambda: None
    refuses: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Configured:
    """What monitoring tells of by name. The store also knows what was configured once, and in what trouble that was left."""

    mailboxes: tuple[str, ...] = ()
    hops: tuple[str, ...] = ()
    webhooks: tuple[str, ...] = ()
