"""What every stand-in server is made of: a listener on loopback and one conversation a client.

Owns the octets of a conversation (lines, mail content, TLS) and the life of the server. It knows no
protocol: `converse` of a subclass does. It never listens anywhere but on 127.0.0.1 and is no server for
real mail.

RFC 1939 section 3 and RFC 5321 section 4.5.2 (stuffed dots); RFC 2595 section 4 and RFC 3207 section 4.2
(what came before TLS is thrown away).
"""

import asyncio
import ssl
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import cast

# SASL tokens make long lines (RFC 4954 allows 12,288 octets); anything longer is no command.
LINE_LIMIT_OCTETS = 65_536
# A client that sends more than this without end is at fault; the sample mail is far smaller.
CONTENT_LIMIT_OCTETS = 256 * 1024 * 1024
# What may wait unread, so that a server that stops reading makes its client wait too.
READ_AHEAD_OCTETS = 262_144


class Hangup(Exception):
    """The conversation is over: the client left, or said more than a limit allows."""


def stuffed(octets: bytes) -> bytes:
    """The octets with leading dots doubled, ended by CRLF and the final dot.

    Only CRLF begins a line, so a lone LF and what follows it pass untouched. Content that does not end in
    CRLF gets one, as the final dot needs a line of its own.
    """
    lines = octets.replace(b"\r\n.", b"\r\n..")
    if lines.startswith(b"."):
        lines = b"." + lines
    if lines and not lines.endswith(b"\r\n"):
        lines += b"\r\n"
    return lines + b".\r\n"


class Conversation(asyncio.Protocol):
    """One client's connection: octets in by line or by final dot, octets out with backpressure."""

    def __init__(self, opened: Callable[["Conversation"], None], *, held: bool = False) -> None:
        """`held` leaves the first octets unread until `start_tls`: they are the client's TLS greeting.

        Only asyncio's own loop can hold from the start; uvloop may have read by then.
        """
        self.gone = asyncio.Event()
        self.lost = asyncio.Event()
        self.thrown_away_octets = 0
        self._opened = opened
        self._held = held
        self._waiting = bytearray()
        self._news = asyncio.Event()
        self._hungry = False
        self._can_write = asyncio.Event()
        self._can_write.set()
        self._transport: asyncio.Transport

    @property
    def waiting_octets(self) -> int:
        """Octets that came and that nobody has read: more than 0 before a reply means pipelining."""
        return len(self._waiting)

    @property
    def secure(self) -> bool:
        """Whether TLS is on."""
        return self._transport.get_extra_info("ssl_object") is not None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)  # by its methods alone: uvloop has its own class
        if self._held:
            self._transport.pause_reading()
        self._opened(self)

    def data_received(self, data: bytes) -> None:
        self._waiting += data
        if not self._hungry and len(self._waiting) > READ_AHEAD_OCTETS:
            self._transport.pause_reading()
        self._news.set()

    def eof_received(self) -> bool:
        self.gone.set()
        self._news.set()
        return not self.secure

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone.set()
        self.lost.set()
        self._news.set()
        self._can_write.set()

    def pause_writing(self) -> None:
        self._can_write.clear()

    def resume_writing(self) -> None:
        self._can_write.set()

    async def read_line(self) -> bytes:
        """The next line without its CRLF. Raises Hangup."""
        return (await self.read_until(b"\r\n"))[:-2]

    async def read_content(self) -> bytes:
        """What follows DATA up to CRLF . CRLF, un-stuffed, otherwise untouched. Raises Hangup."""
        # The CRLF that ended the DATA line may be the first half of the end mark: an empty message.
        self._waiting[:0] = b"\r\n"
        octets = await self._read_until(b"\r\n.\r\n", CONTENT_LIMIT_OCTETS)
        return octets[:-3].replace(b"\r\n.", b"\r\n")[2:]

    async def read_until(self, mark: bytes) -> bytes:
        """Everything up to and with the mark. Raises Hangup."""
        return await self._read_until(mark, LINE_LIMIT_OCTETS)

    async def read_octets(self, count: int) -> bytes:
        """Exactly so many octets. Raises Hangup."""
        await self.wait_for_octets(count)
        octets = bytes(self._waiting[:count])
        del self._waiting[:count]
        return octets

    async def wait_for_octets(self, count: int) -> None:
        """Wait until so many octets are unread; they stay unread. Raises Hangup."""
        while len(self._waiting) < count:
            await self._fill()

    async def write(self, octets: bytes) -> None:
        """Send, and wait while the client is slow to take it. Raises Hangup."""
        if self._transport.is_closing():
            raise Hangup
        self._transport.write(octets)
        await self._can_write.wait()
        if self.lost.is_set():
            raise Hangup

    async def start_tls(self, context: ssl.SSLContext, reply: bytes = b"") -> None:
        """Send the reply that allows TLS, throw away what came early, and shake hands. Raises Hangup."""
        if self.gone.is_set():
            raise Hangup
        self._transport.pause_reading()
        self.thrown_away_octets += len(self._waiting)
        self._waiting.clear()
        self._transport.write(reply)
        loop = asyncio.get_running_loop()
        try:
            transport = await loop.start_tls(self._transport, self, context, server_side=True)
        except (OSError, asyncio.CancelledError) as failure:
            self._transport.abort()
            self.connection_lost(None)
            if isinstance(failure, asyncio.CancelledError):
                raise
            raise Hangup from failure
        if transport is None:  # the client left within the handshake
            self.connection_lost(None)
            raise Hangup
        self._transport = transport

    def close(self) -> None:
        """Send what is still to be sent, then close."""
        self._transport.close()

    def abort(self) -> None:
        """Close at once."""
        self._transport.abort()

    async def _read_until(self, mark: bytes, limit_octets: int) -> bytes:
        searched = 0
        while (at := self._waiting.find(mark, searched)) < 0:
            searched = max(0, len(self._waiting) - len(mark) + 1)
            if len(self._waiting) > limit_octets:
                raise Hangup
            await self._fill()
        end = at + len(mark)
        octets = bytes(self._waiting[:end])
        del self._waiting[:end]
        return octets

    async def _fill(self) -> None:
        if self.gone.is_set():
            raise Hangup
        self._hungry = True
        self._transport.resume_reading()
        self._news.clear()
        try:
            await self._news.wait()
        finally:
            self._hungry = False


class LoopbackServer(ABC):
    """Listens on 127.0.0.1 and talks with each client in a task of its own.

    An error in a conversation is kept and raised by `stop`, so that it cannot go unseen.
    """

    def __init__(self, *, held: bool = False) -> None:
        self._held = held
        self._listener: asyncio.Server | None = None
        self._conversations: set[Conversation] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @abstractmethod
    async def converse(self, conversation: Conversation) -> None:
        """Talk with one client to the end; the connection is closed afterwards."""

    async def start(self, port: int = 0, host: str = "127.0.0.1") -> int:
        """Listen; returns the port. Give the port of an earlier start to come back at the same place."""
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(
            lambda: Conversation(self._open, held=self._held), host, port
        )
        address: tuple[str, int] = self._listener.sockets[0].getsockname()
        return address[1]

    async def stop(self) -> None:
        """Stop listening and cut every conversation. Raises the first error of a conversation."""
        listener, self._listener = self._listener, None
        if listener is None:
            return
        listener.close()
        for conversation in self._conversations:
            conversation.abort()
        for task in self._tasks:
            task.cancel()
        outcomes = await asyncio.gather(*self._tasks, return_exceptions=True)
        await listener.wait_closed()
        self._tasks.clear()
        self._conversations.clear()
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome

    def _open(self, conversation: Conversation) -> None:
        if self._listener is None:  # accepted by the system while the server stopped
            conversation.abort()
            return
        self._conversations.add(conversation)
        task = asyncio.get_running_loop().create_task(self._serve(conversation))
        self._tasks.add(task)
        task.add_done_callback(self._finished)

    async def _serve(self, conversation: Conversation) -> None:
        try:
            await self.converse(conversation)
        except Hangup:
            pass
        finally:
            conversation.close()
            await conversation.lost.wait()
            self._conversations.discard(conversation)

    def _finished(self, task: asyncio.Task[None]) -> None:
        if task.cancelled() or task.exception() is None:
            self._tasks.discard(task)
