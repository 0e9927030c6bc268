"""Ask the scanners about a message, all that are wanted at once, and say what they said in events.

A scanner that can't be asked says nothing about the message: the event tells when it is asked again, or that the policy let the
message pass. Many wait while a scanner is down, and one of them at a time tries it; of those that wait already nothing is said.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Final

from engine.asking import Asking, Killed, Said, Troubled, resting
from engine.core.policy import Policy
from engine.core.verdict import KILLS, TOO_LARGE_TO_ASK, ScannerPolicy
from engine.ports import Answered, Mail, Octets
from engine.scanner_standing import Gate, ScannerStanding
from store.events import Scanned
from store.findings import Finding
from store.life import Message

AGAIN: Final = timedelta(seconds=10)  # after a scanner broke at a message; doubled each time
# Messages for each connection of a scanner that have their octets in memory: of large ones one is asked about and one is next. Of
# small ones many are ready, so that many go on together: measured, that costs the gateway a tenth less.
AHEAD: Final = 2
AHEAD_OF_SMALL: Final = 16
SMALL_OCTETS: Final = 64 << 10

logger = logging.getLogger("mailgate.scan")


class Scanning:
    """All scanners of the gateway. For one event loop."""

    def __init__(self, asking: Asking, policy: Policy, now: Callable[[], datetime]) -> None:
        self.posts = asking.posts
        self._asking = asking
        self._policy = policy
        self._now = now
        self._seats: dict[tuple[tuple[str, ...], bool], asyncio.Semaphore] = {}

    def begin(self) -> None:
        """Get ready: there will be messages to scan."""
        self._asking.begin()

    def gate(self, scanner: str) -> Gate:
        """Say whether messages that wait for a scanner may try it; one that is not configured keeps nobody waiting."""
        post = self.posts.get(scanner)
        return "open" if post is None else post.gate()

    def seat(self, scanners: tuple[str, ...], size_octets: int) -> asyncio.Semaphore:
        """Return what to hold while a message is scanned by these: so few have their octets read back into memory.

        Who wants other scanners does not wait behind those who want a slow one.
        """
        small = size_octets <= SMALL_OCTETS
        if (scanners, small) not in self._seats:
            most = max(self.posts[name].connections for name in scanners)
            ahead = AHEAD_OF_SMALL if small else AHEAD
            self._seats[scanners, small] = asyncio.Semaphore(most * ahead)
        return self._seats[scanners, small]

    def rest(self, scanners: tuple[str, ...]) -> bool:
        """Whether none of these can be asked now."""
        return all(self.posts[name].gate() == "closed" for name in scanners)

    def untried(self, message: Message, scanners: tuple[str, ...]) -> tuple[Scanned, ...]:
        """Return what is to be said while all these rest: nothing of a message that is known to wait for them."""
        said = (
            self._trouble(post, resting(post), _finding(message, post.name))
            for post in map(self.posts.__getitem__, scanners)
        )
        return tuple(event for event in said if event is not None)

    async def scan(self, message: Message, octets: Octets, scanners: tuple[str, ...]) -> tuple[Scanned, ...]:
        """Return what these scanners say that is news, in this order. Never raises for what a scanner does."""
        said: dict[str, Said] = {}
        questions: list[Killed] = []
        for name in scanners:
            beyond = too_large(self.posts[name].policy, message.size_octets)
            if beyond is not None:
                said[name] = Said(beyond)
            else:
                questions.append((name, _killed(message, name)))
        if questions:
            answers = await self._asked(message, octets, tuple(questions))
            said |= {name: one for (name, _), one in zip(questions, answers, strict=True)}
        news = [self._heard(self.posts[name], said[name], message) for name in scanners]
        return tuple([event for event in news if event is not None])

    async def _asked(
        self, message: Message, octets: Octets, questions: tuple[Killed, ...]
    ) -> tuple[Said, ...]:
        try:
            return await self._asking.ask(mail_of(message, octets), questions)
        except Exception as error:  # a fault of ours, in one message, must not end the work on the others
            logger.exception("%s: asking broke", message.id)
            trouble = Troubled(f"asking broke: {type(error).__name__}: {error}", "message")
            return tuple(Said(trouble) for _ in questions)

    async def close(self) -> None:
        """Close what is kept open."""
        await self._asking.close()

    def _heard(self, post: ScannerStanding, said: Said, message: Message) -> Scanned | None:
        if isinstance(said.what, Answered):
            return verdict(post.policy, said.what, said.duration_ms, self._policy.version)
        return self._trouble(post, said, _finding(message, post.name))

    def _trouble(self, post: ScannerStanding, said: Said, finding: Finding | None) -> Scanned | None:
        trouble = said.what
        assert isinstance(trouble, Troubled)
        passes = post.policy.on_error == "pass"
        if trouble.resting and finding is not None and finding.awaited and not passes:
            return None
        return Scanned(
            scanner=post.name,
            verdict="error",
            duration_ms=0 if trouble.resting else said.duration_ms,
            retry_at=None if passes else self._again(post, trouble, finding.killed if finding else 0),
            blame=trouble.blame,
            policy=self._policy.version,
            detail=trouble.text,
        )

    def _again(self, post: ScannerStanding, trouble: Troubled, killed: int) -> datetime:
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
        recipients=tuple([r.address for r in message.recipients]),
        client_ip=message.peer or message.client_ip,
        helo=message.helo,
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


def _killed(message: Message, scanner: str) -> int:
    finding = _finding(message, scanner) if message.findings else None
    return finding.killed if finding else 0


def _finding(message: Message, scanner: str) -> Finding | None:
    return next((f for f in message.findings if f.scanner == scanner), None)
