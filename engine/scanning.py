"""Ask the scanners about a message, all that are wanted at once, and say what they said in events.

A scanner that can't be asked says nothing about the message: the event tells when it is asked again, or that the policy let the
message pass. Many wait while a scanner is down, and one of them at a time tries it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from typing import Final

from engine.core import headers
from engine.core.client_ip import helo
from engine.core.policy import Policy
from engine.core.verdict import ScannerPolicy
from engine.ports import Answered, Mail, Octets, ScannerTrouble
from engine.scanner_post import Gate, ScannerPost
from store.events import Scanned
from store.life import Message

AGAIN: Final = timedelta(seconds=10)  # after a scanner broke at a message; doubled each time

logger = logging.getLogger("mailgate.scan")


class Scanning:
    """All scanners of the gateway. For one event loop."""

    def __init__(self, posts: Mapping[str, ScannerPost], policy: Policy, now: Callable[[], datetime]) -> None:
        self._posts = posts
        self._policy = policy
        self._now = now

    def gate(self, scanner: str) -> Gate:
        """Say whether messages that wait for a scanner may try it; one that is not configured keeps nobody waiting."""
        post = self._posts.get(scanner)
        return "open" if post is None else post.gate()

    async def scan(self, message: Message, octets: Octets, scanners: tuple[str, ...]) -> tuple[Scanned, ...]:
        """Return what these scanners say, in this order. Never raises for what a scanner does."""
        mail = Mail(
            id=message.id,
            octets=octets,
            reverse_path=message.reverse_path,
            recipients=tuple(r.address for r in message.recipients),
            client_ip=message.peer or message.client_ip,
            helo=message.helo or _helo(message.client_ip, octets),
            user=message.user,
        )
        if len(scanners) == 1:
            return (await self._one(self._posts[scanners[0]], message, mail),)
        asked = (self._one(self._posts[name], message, mail) for name in scanners)
        return tuple(await asyncio.gather(*asked))

    async def close(self) -> None:
        """Close what is kept open."""
        await asyncio.gather(*(post.adapter.close() for post in self._posts.values()))

    async def _one(self, post: ScannerPost, message: Message, mail: Mail) -> Scanned:
        limit = post.policy.max_size_octets
        if limit is not None and message.size_octets > limit:
            detail = f"larger than the {limit} octets that it is asked about"
            return self._event(post.policy, Answered(verdict="unscannable", detail=detail), 0)
        if post.gate() == "closed":
            return self._untried(post)
        async with post.places:
            if post.gate() == "closed":  # it fell while we waited
                return self._untried(post)
            return await self._asked(post, message, mail)

    async def _asked(self, post: ScannerPost, message: Message, mail: Mail) -> Scanned:
        finding = next((f for f in message.findings if f.scanner == post.name), None)
        killed = finding.killed if finding else 0
        was_up = post.failures == 0
        began = time.monotonic()
        try:
            answered = await post.ask(mail, suspect=killed > 0)
        except ScannerTrouble as trouble:
            if was_up and post.failures:
                logger.error("scanner %s is down: %s", post.name, trouble.text)
            return self._trouble(post, trouble, killed, _milliseconds(began))
        if not was_up:
            logger.info("scanner %s is up again", post.name)
        return self._event(post.policy, answered, _milliseconds(began))

    def _event(self, policy: ScannerPolicy, answered: Answered, duration_ms: int) -> Scanned:
        return Scanned(
            scanner=policy.name,
            verdict=answered.verdict,
            signature=answered.signature,
            score=answered.score,
            threshold=answered.threshold,
            symbols=answered.symbols,
            engine=answered.engine,
            duration_ms=duration_ms,
            policy=self._policy.version,
            detail=answered.detail,
        )

    def _untried(self, post: ScannerPost) -> Scanned:
        return self._trouble(post, ScannerTrouble(f"it is down: {post.trouble}"), 0, 0)

    def _trouble(self, post: ScannerPost, trouble: ScannerTrouble, killed: int, duration_ms: int) -> Scanned:
        now = self._now()
        again = now + AGAIN * 2 ** min(killed, 8)
        if post.gate() != "open":  # the whole scanner rests
            again = max(post.probe_at or now, now)
        return Scanned(
            scanner=post.name,
            verdict="error",
            duration_ms=duration_ms,
            retry_at=None if post.policy.on_error == "pass" else again,
            blame=trouble.blame,
            policy=self._policy.version,
            detail=trouble.text,
        )


def _milliseconds(began: float) -> int:
    return round((time.monotonic() - began) * 1000)


def _helo(client_ip: str, octets: Octets) -> str:
    """What who handed a message to the provider called itself: that isn't on record, but in the octets."""
    return helo(headers.received(octets), client_ip) if client_ip else ""
