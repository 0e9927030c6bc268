"""What can go wrong with the store, said so that a person knows what to do."""

from __future__ import annotations


class StoreError(Exception):
    """The store can't do what was asked; the text is one line for a person."""


class StoreUnreachable(StoreError):
    """The database can't be opened or has gone away; nothing was changed."""


class StoreFull(StoreUnreachable):
    """There is no room for more; nothing was changed."""


class NeedsUpgrade(StoreError):
    """The store's schema is older than this program; the text names the command that moves it."""


class Conflict(StoreError):
    """Somebody else appended to the stream first: read it again and decide anew (optimistic concurrency)."""

    def __init__(self, stream: str, expected: int) -> None:
        super().__init__(f"stream {stream}: not at revision {expected} any more")
        self.stream = stream
        self.expected = expected


class LeaseLost(StoreError):
    """The lease ran out and somebody else holds the stream now; nothing was changed."""

    def __init__(self, stream: str, fence: int) -> None:
        super().__init__(f"stream {stream}: lease {fence} is no longer held")
        self.stream = stream
        self.fence = fence


class UnknownEvent(StoreError):
    """An event newer than this program: upgrade the program; the log is never guessed at."""

    def __init__(self, name: str, version: int) -> None:
        super().__init__(f"event {name!r} version {version} is newer than this program: upgrade mailgate")


class Damaged(StoreError):
    """What is stored is not what was written: restore a backup and find out why."""


class ProofError(StoreError):
    """A seal, a key or a bundle is not what it was taken for; the store is in order."""
