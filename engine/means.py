"""What every part of a gateway works with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeVar

from sqlalchemy import Connection

from engine.core.policy import Policy
from engine.journal import Journal
from engine.outage import Outage

T = TypeVar("T")


class Read(Protocol):
    """Runs a function with a reading connection, off the event loop."""

    async def __call__(self, function: Callable[[Connection], T]) -> T:
        """Return what the function returns. Raises StoreError."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Means:
    """The store to read and to append to, the policy and the clock, and where it is said that the store is away."""

    journal: Journal
    read: Read
    policy: Policy
    outage: Outage
    now: Callable[[], datetime]
