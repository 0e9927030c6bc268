"""One scanner as the worker sees it: up, resting, or to be probed; how many may ask it at once; and who is to blame.

When the scanner as a whole is to blame it rests, longer each time; then one message probes it while the others wait. Whether
a message broke it is told apart by asking about a sample that is good for sure: who can't answer that is not well, and who can
is up. However many messages break it, they say nothing about it: whoever wrote them may have meant to stop all mail. A
message at which it broke is a suspect: asked about only after that sample, never beside another suspect, and in the end
alone, so that nothing innocent is taken for it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Final, Literal

from engine.core.verdict import KILLS, ScannerPolicy
from engine.ports import Answered, Mail, Scanner, ScannerTrouble
from engine.scanner_standing import ScannerStanding

CHECK_SECONDS: Final = 10.0  # for the sample: a scanner that takes longer is of no use
ALONE_SECONDS: Final = 5.0  # for which others stand back at most: what crashes a scanner does so at once

# What mail usually has, so that whoever breaks at that breaks at this: a text, a page with a link, a file, which is larger
# than what goes into a buffer where the disk is full.
SAMPLE: Final = Mail(
    id="check",
    octets=b"\r\n".join(
        (
            b"From: Postmaster <postmaster@example.com>",
            b"To: <postmaster@example.com>",
            b"Subject: check",
            b"Date: Thu, 01 Jan 2026 00:00:00 +0000",
            b"Message-ID: <check@example.com>",
            b"MIME-Version: 1.0",
            b"Content-Type: multipart/mixed; boundary=part",
            b"",
            b"--part",
            b"Content-Type: text/plain; charset=utf-8",
            b"",
            b"Are you well? See https://www.example.com/ for more.",
            b"--part",
            b"Content-Type: text/html; charset=utf-8",
            b"",
            b'<html><body><p>Are you <a href="https://www.example.com/">well</a>?</p></body></html>',
            b"--part",
            b"Content-Type: application/octet-stream; name=check.bin",
            b"Content-Transfer-Encoding: base64",
            b"Content-Disposition: attachment; filename=check.bin",
            b"",
            *[b"QXJlIHlvdSB3ZWxsPyBBcmUgeW91IHdlbGw/IEFyZSB5b3Ugd2VsbD8gQXJlIHlvdSB3ZWxsPyAg"] * 800,
            b"--part--",
            b"",
        )
    ),
    reverse_path="",
    recipients=(),
)

logger = logging.getLogger("mailgate.scan")


class ScannerPost(ScannerStanding):
    """A scanner that is asked here, with its standing.

    `timeout_seconds` is for one question, waiting for a place aside. For one event loop.
    """

    def __init__(
        self,
        adapter: Scanner,
        policy: ScannerPolicy,
        *,
        connections: int,
        timeout_seconds: float,
        now: Callable[[], datetime],
    ) -> None:
        super().__init__(policy, connections=connections, now=now)
        self.adapter = adapter
        self._timeout_seconds = timeout_seconds
        self._places = asyncio.Semaphore(connections)
        self._suspects = asyncio.Lock()
        self._others_may = asyncio.Event()
        self._others_may.set()
        self._asking = 0
        self._nobody_asks = asyncio.Event()
        self._nobody_asks.set()
        self._checking: asyncio.Task[None] | None = None

    async def ask(self, mail: Mail, *, killed: int) -> Answered:
        """Ask about one message. Raises ScannerTrouble, with the blame where it belongs; Resting where it is down.

        `killed` counts how often it broke at this message before.
        """
        if self.gate() == "closed":
            raise self.resting()
        if not killed:
            async with self._places:
                await self._others_may.wait()
                return await self._ask(mail, suspect=False)
        async with self._suspects, self._places:
            if killed < KILLS - 1:
                return await self._ask(mail, suspect=True)
            async with self._alone():
                return await self._ask(mail, suspect=True)

    async def close(self) -> None:
        """Close what is kept open."""
        if self._checking is not None:
            self._checking.cancel()
            await asyncio.gather(self._checking, return_exceptions=True)
        await self.adapter.close()

    async def _ask(self, mail: Mail, *, suspect: bool) -> Answered:
        gate = self.gate()
        if gate == "closed":  # it fell while we waited
            raise self.resting()
        self.probing = self.probing or gate == "probe"
        self._asking += 1
        self._nobody_asks.clear()
        try:
            if suspect or gate == "probe":
                await self._check()
                self.up()  # the others need not wait for what it says of this one
            answered = await self._within(self.adapter.scan(mail), self._timeout_seconds, "message")
        except ScannerTrouble as trouble:
            raise await self._blamed(trouble, mail.id) from None
        finally:
            self._asking -= 1
            if not self._asking:
                self._nobody_asks.set()
            if gate == "probe":
                self.probing = False
        self.up()
        return answered

    @asynccontextmanager
    async def _alone(self) -> AsyncIterator[None]:
        """Ask about nothing else beside, for some seconds: whatever breaks it then, it is no other."""
        self._others_may.clear()
        try:
            await self._nobody_asks.wait()
            enough = asyncio.get_running_loop().call_later(ALONE_SECONDS, self._others_may.set)
            try:
                yield
            finally:
                enough.cancel()
        finally:
            self._others_may.set()

    async def _blamed(self, trouble: ScannerTrouble, message: str) -> ScannerTrouble:
        """Find out whose failure it was, and take note of it."""
        if trouble.blame == "scanner":
            self.fell(trouble, message)
            return trouble
        try:
            await self._check()
        except ScannerTrouble as sick:
            self.fell(sick, message)
            if isinstance(trouble, _NoAnswer):
                return ScannerTrouble(trouble.text, "scanner")
        return trouble

    async def _check(self) -> None:
        """Raise ScannerTrouble unless it is well. Many may want to know at once, and it is asked once."""
        if self._checking is None or self._checking.done():
            self._checking = asyncio.create_task(self._ask_sample())
            self._checking.add_done_callback(_looked_at)
        await asyncio.shield(self._checking)

    async def _ask_sample(self) -> None:
        seconds = min(self._timeout_seconds, CHECK_SECONDS)
        try:
            await self._within(self.adapter.scan(SAMPLE), seconds, "scanner")
        except ScannerTrouble as trouble:
            raise ScannerTrouble(trouble.text, "scanner") from None

    async def _within(
        self, asking: Awaitable[Answered], seconds: float, blame: Literal["scanner", "message"]
    ) -> Answered:
        try:
            async with asyncio.timeout(seconds):
                return await asking
        except TimeoutError:
            raise _NoAnswer(f"no answer within {seconds:g} s", blame) from None
        except ScannerTrouble:
            raise
        except Exception as error:  # a fault of ours, in one message, must not end the work on the others
            logger.exception("%s: asking broke", self.name)
            raise ScannerTrouble(f"asking broke: {type(error).__name__}: {error}", blame) from None


class _NoAnswer(ScannerTrouble):
    """It took too long."""


def _looked_at(check: asyncio.Task[None]) -> None:
    """Whoever wanted to know may be gone by now."""
    if not check.cancelled():
        check.exception()
