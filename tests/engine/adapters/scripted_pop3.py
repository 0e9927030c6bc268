"""A POP3 server's end of a conversation, turn by turn, in the hands of a test."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from engine.adapters.pop3_source import MailboxAccess, Pop3Session
from engine.ports import Offer, Refused, Retrieved, SourceTrouble

PATIENCE_SECONDS = 20.0  # a test that waits longer has failed


SECRET = "s3cret words"


class Peer:
    """The server's end of one connection, in the hands of a test."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def hear(self) -> bytes:
        """The next command line, without CRLF; empty at the end."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            line = await self.reader.readline()
        assert line == b"" or line.endswith(b"\r\n")
        return line.removesuffix(b"\r\n")

    async def expect(self, *commands: bytes) -> None:
        for command in commands:
            assert await self.hear() == command

    async def say(self, octets: bytes) -> None:
        self.writer.write(octets)
        await self.writer.drain()

    async def talk(self, *turns: tuple[bytes, bytes]) -> None:
        for command, reply in turns:
            await self.expect(command)
            await self.say(reply)

    async def log_in(self, *capabilities: bytes) -> None:
        """The part of a session that most tests do not care for."""
        capa = b"".join(line + b"\r\n" for line in (b"+OK", *capabilities, b"."))
        await self.say(b"+OK ready\r\n")
        await self.talk(
            (b"CAPA", capa),
            (b"USER anna", b"+OK\r\n"),
            (b"PASS " + SECRET.encode(), b"+OK\r\n"),
            (b"CAPA", capa),
        )

    async def until_closed(self) -> bytes:
        """Wait until the client has gone; what it still sent."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            try:
                return await self.reader.read()
            except ConnectionError:
                return b""


Conversation = Callable[[Peer], Awaitable[None]]


@asynccontextmanager
async def server(*conversations: Conversation, tls: ssl.SSLContext | None = None) -> AsyncIterator[int]:
    """A server on loopback: one conversation for each connection. What a conversation asserts fails the
    test.
    """
    waiting = list(conversations)
    tasks: list[asyncio.Task[None]] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await waiting.pop(0)(Peer(reader, writer))
        finally:
            writer.close()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tasks.append(asyncio.get_running_loop().create_task(serve(reader, writer)))

    listener = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls, limit=1024 * 1024)
    try:
        async with asyncio.timeout(2 * PATIENCE_SECONDS):  # whatever waits too long in the test fails there
            yield listener.sockets[0].getsockname()[1]
        async with asyncio.timeout(PATIENCE_SECONDS):
            await asyncio.gather(*tasks)
    finally:
        listener.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def access(port: int, secret: str = SECRET, **changes: Any) -> MailboxAccess:
    async def fetch() -> str:
        return secret

    settings: dict[str, Any] = {"host": "127.0.0.1", "tls": "none", "username": "anna", **changes}
    return MailboxAccess(port=port, secret=fetch, **settings)


async def freely(offer: Offer, octets: int) -> None:
    """Admit everything."""


async def all_of(session: Pop3Session, offers: Sequence[Offer]) -> list[Retrieved | Refused]:
    async with asyncio.timeout(PATIENCE_SECONDS):
        return [happened async for happened in session.retrieve(offers, freely)]


async def trouble_of(waiting: Awaitable[Any]) -> SourceTrouble:
    with pytest.raises(SourceTrouble) as caught:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await waiting
    assert SECRET not in str(caught.value)
    return caught.value


def offers_of(count: int, size_octets: int = 5) -> list[Offer]:
    return [Offer(number, size_octets, b"u%d" % number) for number in range(1, count + 1)]


def mail(number: int, octets: int = 100) -> bytes:
    line = b"%06d %s\r\n" % (number, b"x" * 70)
    return line * max(1, octets // len(line))


async def answer_retrs(peer: Peer, count: int, octets: int = 100) -> None:
    for number in range(1, count + 1):
        await peer.expect(b"RETR %d" % number)
        await peer.say(b"+OK\r\n" + mail(number, octets) + b".\r\n")


def on_uvloop(*tests: Coroutine[Any, Any, None]) -> None:
    """Run tests once more, on the other event loop."""
    try:
        uvloop = pytest.importorskip("uvloop")
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            for test in tests:
                runner.run(test)
    finally:
        for test in tests:
            test.close()
