"""Ask the scanners about a message, all that are wanted at once, and say what they said in events.

A scanner that can't be asked says nothing about the message: the event tells when it is asked again, or that the policy let the
message pass. Many wait while a scanner is down, and one of them at a time tries it; of those that wait already nothing is said.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Final

from engine.core import headers
from engine.core.client_ip import helo
from engine.core.policy import Policy
from engine.core.verdict import KILLS, TOO_LARGE_TO_ASK, ScannerPolicy
from engine.ports import Answered, Mail, Octets, ScannerTrouble
from engine.scanner_post import Gate, Resting, ScannerPost
from store.events import Scanned
from store.findings import Finding
from store.life import Message

AGAIN: Final = timedelta(seconds=10)  # after a scanner broke at a message; doubled each time
AHEAD: Final = 2  # messages for each connection of a scanner that have their octets in memory: one is asked about, one is next


class Scanning:
    """All scanners of the gateway. For one event loop."""

    def __init__(self, posts: Mapping[str, ScannerPost], policy: Policy, now: Callable[[], datetime]) -> None:
        self.posts = posts
        self._policy = policy
        self._now = now
        self._seats: dict[tuple[str, ...], asyncio.Semaphore] = {}

    def gate(self, scanner: str) -> Gate:
        """Say whether messages that wait for a scanner may try it; one that is not configured keeps nobody waiting."""
        post = self.posts.get(scanner)
        return "open" if post is None else post.gate()

    def seat(self, scanners: tuple[str, ...]) -> asyncio.Semaphore:
        """Return what to hold while a message is scanned by these: so few have their octets read back into memory.

        Who wants other scanners does not wait behind those who want a slow one.
        """
        if scanners not in self._seats:
            most = max(self.posts[name].connections for name in scanners)
            self._seats[scanners] = asyncio.Semaphore(most * AHEAD)
        return self._seats[scanners]

    def rest(self, scanners: tuple[str, ...]) -> bool:
        """Whether none of these can be asked now."""
        return all(self.posts[name].gate() == "closed" for name in scanners)

    def untried(self, message: Message, scanners: tuple[str, ...]) -> tuple[Scanned, ...]:
        """Return what is to be said while all these rest: nothing of a message that is known to wait for them."""
        said = (
            self._trouble(post, post.resting(), _finding(message, post.name), 0)
            for post in map(self.posts.__getitem__, scanners)
        )
        return tuple(event for event in said if event is not None)

    async def scan(self, message: Message, octets: Octets, scanners: tuple[str, ...]) -> tuple[Scanned, ...]:
        """Return what these scanners say that is news, in this order. Never raises for what a scanner does."""
        mail = mail_of(message, octets)
        if len(scanners) == 1:
            said = [await self._one(self.posts[scanners[0]], message, mail)]
        else:
            asked = (self._one(self.posts[name], message, mail) for name in scanners)
            said = await asyncio.gather(*asked)
        return tuple(event for event in said if event is not None)

    async def close(self) -> None:
        """Close what is kept open."""
        await asyncio.gather(*(post.close() for post in self.posts.values()))

    async def _one(self, post: ScannerPost, message: Message, mail: Mail) -> Scanned | None:
        if (beyond := too_large(post.policy, message.size_octets)) is not None:
            return verdict(post.policy, beyond, 0, self._policy.version)
        finding = _finding(message, post.name)
        began = time.monotonic()
        try:
            answered = await post.ask(mail, killed=finding.killed if finding else 0)
        except ScannerTrouble as trouble:
            return self._trouble(post, trouble, finding, milliseconds(began))
        return verdict(post.policy, answered, milliseconds(began), self._policy.version)

    def _trouble(
        self, post: ScannerPost, trouble: ScannerTrouble, finding: Finding | None, duration_ms: int
    ) -> Scanned | None:
        passes = post.policy.on_error == "pass"
        if isinstance(trouble, Resting):
            if finding is not None and finding.awaited and not passes:
                return None
            duration_ms = 0
        return Scanned(
            scanner=post.name,
            verdict="error",
            duration_ms=duration_ms,
            retry_at=None if passes else self._again(post, trouble, finding.killed if finding else 0),
            blame=trouble.blame,
            policy=self._policy.version,
            detail=trouble.text,
        )

    def _again(self, post: ScannerPost, trouble: ScannerTrouble, killed: int) -> datetime:
        now = self._now()
        if trouble.blame == "message":
            # The last time there is nothing to wait for: it goes into quarantine.
            return now if killed + 1 >= KILLS else now + AGAIN * 2**killed
        return max(post.probe_at or now, now)


def mail_of(message: Message, octets: Octets) -> Mail:
    """Return what a scanner is told of a message."""
    return Mail(
        id=message.id,
        octets=octets,
        reverse_path=message.reverse_path,
        recipients=tuple(r.address for r in message.recipients),
        client_ip=message.peer or message.client_ip,
        helo=message.helo or _helo(message.client_ip, octets),
        user=message.user,
    )


def too_large(policy: ScannerPolicy, size_octets: int) -> Answered | None:
    """Return what to say of a message that is larger than a scanner is asked about, None for no such."""
    limit = policy.max_size_octets
    if limit is None or size_octets <= limit:
        return None
    detail = f"{TOO_LARGE_TO_ASK}{limit} octets up to which this scanner is asked"
    return Answered(verdict="unscannable", detail=detail)


def verdict(
    scanner: ScannerPolicy, answered: Answered, duration_ms: int, policy: str, *, late: bool = False
) -> Scanned:
    """Return the event that records an answer."""
    return Scanned(
        scanner=scanner.name,
        verdict=answered.verdict,
        signature=answered.signature,
        score=answered.score,
        threshold=answered.threshold,
        symbols=answered.symbols,
        engine=answered.engine,
        duration_ms=duration_ms,
        late=late,
        policy=policy,
        detail=answered.detail,
    )


def _finding(message: Message, scanner: str) -> Finding | None:
    return next((f for f in message.findings if f.scanner == scanner), None)


def milliseconds(began: float) -> int:
    """Return how long ago that was, by the monotonic clock."""
    return round((time.monotonic() - began) * 1000)


def _helo(client_ip: str, octets: Octets) -> str:
    """What who handed a message to the provider called itself: that isn't on record, but in the octets."""
    return helo(headers.received(octets), client_ip) if client_ip else ""
