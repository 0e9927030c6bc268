"""The operator's will, as one value the decisions read.

Taken from the configuration anew at each start; the current policy decides at each attempt, whatever was
current when the message came in. Its version is recorded with every decision.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Literal

from engine.core import direct
from engine.core.holding import HoldRule
from engine.core.routing import RouteRule
from engine.core.verdict import ScannerPolicy

DOUBLINGS = 32  # a second becomes a century: every cap is reached before
UNRECORDED = "(not recorded)"  # in place of a subject
JITTER = 0.1  # of the interval, so that what was deferred together does not come back together


@dataclass(frozen=True, slots=True, kw_only=True)
class HopPolicy:
    """What is decided about one next hop."""

    on_unknown: Literal["retry", "hold"] = "retry"
    max_size_octets: int | None = None
    spam_refusals: tuple[str, ...] = ()  # patterns of refusals of incoming mail that say spam


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """How long the octets of a closed message are kept, and how long a message may stay in quarantine."""

    contents: timedelta = timedelta(days=30)
    quarantined: timedelta = timedelta(days=30)


@dataclass(frozen=True, slots=True, kw_only=True)
class Policy:
    """All that decides. Durations are exact; `version` names the configuration it came from."""

    version: str
    hostname: str
    postmaster: str
    domains: tuple[str, ...]
    routes: tuple[RouteRule, ...] = ()
    holds: tuple[HoldRule, ...] = ()
    hops: Mapping[str, HopPolicy] = field(default_factory=dict)
    scanners: tuple[ScannerPolicy, ...] = ()  # in the order in which they are heard
    notify_recipients: bool = False  # of what was kept from them as infected
    oversize_untold: frozenset[str] = (
        frozenset()
    )  # the mailboxes of whose mail that is too large nobody is told
    retention: Retention = Retention()
    first: timedelta = timedelta(minutes=5)
    cap: timedelta = timedelta(hours=1)
    give_up_after: timedelta = timedelta(days=5)
    warn_after: timedelta = timedelta(hours=4)  # then whoever sent it is told that it waits
    subjects: bool = True  # whether they go on record

    def on_record(self, subject: str | None) -> str | None:
        """Return what goes on record of a message's subject."""
        return subject if subject is None or self.subjects else UNRECORDED

    def scanner(self, name: str) -> ScannerPolicy | None:
        """Return what is decided about a scanner, None where it is not configured."""
        return next((s for s in self.scanners if s.name == name), None)

    def hop(self, name: str | None) -> HopPolicy | None:
        """Return what is decided about a next hop, None where it is not configured. All of direct delivery shares one."""
        found = self.hops.get(name or "")
        if found is None and name is not None and direct.is_direct(name):
            return self.hops.get(direct.MX)
        return found


def longest_backoff(policy: Policy) -> timedelta:
    """Return the longest wait that `backoff` gives."""
    return policy.cap * (1 + JITTER)


def backoff(policy: Policy, failures: int, jitter: float) -> timedelta:
    """Return how long to wait after the given number of failures in a row (1 for the first).

    `jitter` is a random number from 0 to 1.
    """
    doublings = min(max(failures, 1) - 1, DOUBLINGS)
    doubled_seconds = policy.first.total_seconds() * 2**doublings
    spread = 1 + JITTER * (2 * jitter - 1)
    return timedelta(seconds=min(doubled_seconds, policy.cap.total_seconds()) * spread)
