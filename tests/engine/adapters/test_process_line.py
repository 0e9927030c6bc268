"""The line between the two processes: all that is said is heard, in order, large bodies too; its end is noticed."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from msgspec import DecodeError

from engine.adapters.listener_words import Ready, encoded, from_listener
from engine.adapters.process_line import PIECE_OCTETS, Line
from engine.ports import Octets
from engine.wire.frames import FrameFault, Frames

BODY_LIMIT = 40 << 20
PATIENCE_SECONDS = 30.0  # only ends a hung test


class End:
    """One end of a line, and what it heard."""

    def __init__(self) -> None:
        self.heard: list[tuple[bytes, Octets]] = []
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()
        self.line: Line

    async def meet(self, end: socket.socket) -> None:
        end.setblocking(False)
        frames = Frames(head_limit=1_000, body_limit=BODY_LIMIT)
        self.line = Line(frames, self.hear, self.lost.set_result)
        await self.line.open(end)

    def hear(self, head: bytes, body: Octets) -> None:
        self.heard.append((head, body))

    async def until(self, count: int) -> None:
        async with asyncio.timeout(PATIENCE_SECONDS):
            while len(self.heard) < count:
                await asyncio.sleep(0)


class Strict(End):
    """Takes words of the listener only."""

    def hear(self, head: bytes, body: Octets) -> None:
        from_listener(head)
        super().hear(head, body)


@asynccontextmanager
async def a_line(there: End) -> AsyncIterator[End]:
    here = End()
    for end, one in zip(socket.socketpair(), (here, there), strict=True):
        await one.meet(end)
    yield here
    here.line.close()
    async with asyncio.timeout(PATIENCE_SECONDS):
        await there.lost


async def test_what_is_said_is_heard_in_its_order() -> None:
    there = End()
    async with a_line(there) as here:
        said = [
            (b"%d" % n, bytes([n]) * size)
            for n, size in enumerate((0, 10, PIECE_OCTETS, 3_000_000, 5, 35 << 20))
        ]
        for head, body in said:
            here.line.say(head, bytearray(body))
        here.line.say(b"last")
        there.line.say(b"the other way")
        await there.until(7)
        await here.until(1)
        assert [(head, bytes(body)) for head, body in there.heard] == [*said, (b"last", b"")]
        assert here.heard == [(b"the other way", b"")]


async def test_what_is_said_in_one_turn_goes_out_in_one_piece() -> None:
    here, (ours, its) = End(), socket.socketpair()
    await here.meet(ours)
    for number in range(10):
        here.line.say(b"%d" % number, b"body")
    await asyncio.sleep(0.05)
    its.setblocking(True)
    assert len(its.recv(10_000)) == 10 * (8 + 1 + 4)
    its.close()
    async with asyncio.timeout(PATIENCE_SECONDS):
        await here.lost


async def test_the_end_of_the_other_is_noticed_and_nothing_is_said_any_more() -> None:
    there = End()
    async with a_line(there) as here:
        there.line.close()
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert await here.lost is None
        here.line.say(b"nobody hears this")
        assert there.heard == []


async def test_what_makes_no_sense_ends_the_line() -> None:
    for octets in (b"\xff" * 8, b"\0\0\0\1\0\0\0\0\xc1"):
        there = Strict()
        (ours, its) = socket.socketpair()
        await there.meet(ours)
        with its:
            its.sendall(octets)
            async with asyncio.timeout(PATIENCE_SECONDS):
                assert isinstance(await there.lost, FrameFault | DecodeError)


async def test_words_arrive_as_they_were_said() -> None:
    there = Strict()
    async with a_line(there) as here:
        here.line.say(encoded(Ready()))
        await there.until(1)
        assert from_listener(there.heard[0][0]) == Ready()
