"""The process that listens, without its process: what it hands over, what it answers, and what it does without a gateway."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import pytest

from engine.adapters.listener_words import (
    HEAD_OCTETS,
    Finish,
    FromListener,
    Granted,
    Handed,
    Kept,
    Refused,
    ToListener,
    Waiver,
    Wish,
    encoded,
    from_listener,
)
from engine.adapters.process_line import Line
from engine.core.policy import Policy
from engine.free_space import FreeSpace
from engine.porter import GONE, GONE_SECONDS, Porter
from engine.ports import NotKept, Octets, Submission
from engine.wire.frames import Frames

PATIENCE_SECONDS = 30.0  # only ends a hung test
LETTER = b"Subject: hello\r\n\r\nhello\r\n"
POLICY = Policy(
    version="p", hostname="gate.example.com", postmaster="p@example.com", domains=("example.com",)
)
SUBMISSION = Submission(
    peer="127.0.0.1",
    helo="home.example",
    protocol="ESMTP",
    tls="none",
    user=None,
    reverse_path="anna@example.com",
    recipients=("bob@customer.example",),
)


class Gateway:
    """The other end of the line: hears, and says what a test wants it to."""

    def __init__(self) -> None:
        self.heard: asyncio.Queue[tuple[FromListener, bytes]] = asyncio.Queue()
        self.line: Line

    async def meet(self, end: socket.socket) -> None:
        end.setblocking(False)
        frames = Frames(head_limit=HEAD_OCTETS, body_limit=1 << 20)
        self.line = Line(frames, self._hear, lambda _error: None)
        await self.line.open(end)

    def _hear(self, head: bytes, body: Octets) -> None:
        self.heard.put_nowait((from_listener(head), bytes(body)))

    def say(self, word: ToListener) -> None:
        self.line.say(encoded(word))

    async def hears(self) -> tuple[FromListener, bytes]:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self.heard.get()


@asynccontextmanager
async def met(space: FreeSpace | None = None) -> AsyncIterator[tuple[Porter, Gateway]]:
    ours, its = socket.socketpair()
    gateway = Gateway()
    await gateway.meet(ours)
    porter = Porter(
        POLICY,
        space or FreeSpace(None, lambda _: 0),
        lambda: datetime(2026, 3, 1, tzinfo=UTC),
        limit_octets=1_000,
    )
    await porter.meet(its)
    yield porter, gateway
    gateway.line.close()
    async with asyncio.timeout(PATIENCE_SECONDS):
        await porter.finish


async def test_a_message_has_its_id_once_the_gateway_has_kept_it() -> None:
    async with met() as (porter, gateway):
        taking = asyncio.create_task(porter.take(SUBMISSION, bytearray(LETTER), porter.holding()))
        handed, body = await gateway.hears()
        assert isinstance(handed, Handed)
        assert body == LETTER
        submitted = handed.opening.submitted
        assert (submitted.content, submitted.size_octets) == (sha256(LETTER).hexdigest(), len(LETTER))
        assert (submitted.subject, submitted.recipients) == ("hello", SUBMISSION.recipients)
        assert not taking.done()
        gateway.say(Kept(handed.number + 1))  # of which nobody knows
        gateway.say(Kept(handed.number))
        assert await taking == handed.opening.stream


async def test_what_the_gateway_could_not_keep_is_not_kept() -> None:
    async with met() as (porter, gateway):
        taking = asyncio.create_task(porter.take(SUBMISSION, LETTER, porter.holding()))
        handed, _ = await gateway.hears()
        assert isinstance(handed, Handed)
        gateway.say(Refused(handed.number, "disk full", full=True))
        with pytest.raises(NotKept, match="disk full") as caught:
            await taking
        assert caught.value.full


async def test_memory_is_wished_for_once_and_waived_once() -> None:
    async with met() as (porter, gateway):
        holding = porter.holding()
        holding.release()
        reaching = asyncio.create_task(holding.reach(100))
        wish, _ = await gateway.hears()
        assert wish == Wish(1, 100)
        gateway.say(Granted(1, 200))
        await reaching
        await holding.reach(200)  # within what was granted
        for _ in range(2):
            holding.release()
        waiting = asyncio.create_task(porter.holding().reach(50))
        assert (await gateway.hears())[0] == Waiver(1)
        assert (await gateway.hears())[0] == Wish(2, 50)
        waiting.cancel()
        await asyncio.wait([waiting])


async def test_what_can_not_be_put_in_words_gives_its_memory_back(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_words(word: FromListener) -> bytes:
        if isinstance(word, Handed):
            raise TypeError("no words for it")
        return encoded(word)

    async with met() as (porter, gateway):
        holding = porter.holding()
        reaching = asyncio.create_task(holding.reach(100))
        await gateway.hears()
        gateway.say(Granted(1, 100))
        await reaching
        monkeypatch.setattr("engine.porter.encoded", no_words)
        with pytest.raises(TypeError, match="no words"):
            await porter.take(SUBMISSION, LETTER, holding)
        assert (await gateway.hears())[0] == Waiver(1)


async def test_who_goes_away_while_waiting_for_memory_waives_it() -> None:
    async with met() as (porter, gateway):
        holding = porter.holding()
        waiting = asyncio.create_task(holding.reach(50))
        await gateway.hears()
        waiting.cancel()
        await asyncio.wait([waiting])
        holding.release()
        assert (await gateway.hears())[0] == Waiver(1)
        gateway.say(Granted(1, 100))  # too late: nobody waits


async def test_what_is_granted_goes_with_the_message() -> None:
    async with met() as (porter, gateway):
        holding = porter.holding()
        reaching = asyncio.create_task(holding.reach(len(LETTER)))
        await gateway.hears()
        gateway.say(Granted(1, 2 * len(LETTER)))
        await reaching
        taking = asyncio.create_task(porter.take(SUBMISSION, LETTER, holding))
        assert isinstance((await gateway.hears())[0], Handed)
        gateway.say(Kept(1))
        await taking
        gateway.line.say(encoded(Finish(3.0)))
        assert await porter.finish == 3.0
        assert gateway.heard.empty()


async def test_without_a_gateway_nothing_is_kept_and_it_ends() -> None:
    async with met() as (porter, gateway):
        pending = [
            asyncio.create_task(porter.take(SUBMISSION, LETTER, porter.holding())),
            asyncio.create_task(porter.holding().reach(100)),
        ]
        for _ in pending:
            await gateway.hears()
        gateway.line.close()
        for waiting in pending:
            with pytest.raises(NotKept, match=GONE):
                await waiting
        with pytest.raises(NotKept, match=GONE):
            await porter.take(SUBMISSION, LETTER, porter.holding())
        assert await porter.finish == GONE_SECONDS


async def test_below_the_floor_nothing_is_handed_over(tmp_path: Path) -> None:
    async with met(FreeSpace(tmp_path, lambda total: total + 1)) as (porter, gateway):
        assert not porter.has_room()
        with pytest.raises(NotKept) as caught:
            await porter.take(SUBMISSION, LETTER, porter.holding())
        assert caught.value.full
        assert gateway.heard.empty()
