"""One connection to a POP3 server: octets between the transport and `engine.wire.pop3`, and patience.

Owns the transport, the queue of happenings nobody took yet, the time-outs and the flow control. Knows no
mailbox and no login. Uses the transport directly: a chunk of a megabyte is one call, not one for each line.

Memory is bounded: reading pauses while more than UNTAKEN_OCTETS_LIMIT of complete messages wait to be
taken, and when the reply that is being collected has outgrown what was granted, until `granted` says that
there is room for more of it. Once the conversation is broken the connection is closed, and `next` says
`Broken` for ever.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final, cast

from engine.adapters import pop3_trouble
from engine.adapters.pop3_access import MailboxAccess
from engine.ports import FIRST_OCTETS
from engine.wire.pop3 import Pop3
from engine.wire.pop3_commands import Command
from engine.wire.pop3_replies import Broken, Challenged, Happening, Replied

UNTAKEN_OCTETS_LIMIT: Final = (
    8 * 1024 * 1024
)  # twice a window of RETRs; more comes only where LIST understates
UNTAKEN_OCTETS_ENOUGH: Final = UNTAKEN_OCTETS_LIMIT // 2  # reading goes on below this
STEP_OCTETS_LIMIT: Final = 8 * 1024 * 1024  # what is granted at once may come to nothing
CLOSE_SECONDS: Final = 2.0  # for the far side's part in closing; nothing depends on it
WATCH_SECONDS: Final = (
    1.0  # how often patience is looked at: time-outs are of minutes, one timer does for all
)


class Pop3Connection(asyncio.Protocol):
    """The octets' side of a session. Made inside a running loop."""

    def __init__(self, patience: MailboxAccess) -> None:
        self.link = Pop3()
        self.idle_seconds = patience.idle_seconds
        self.on_arrival: Callable[[], None] | None = None
        # Called with the command whose reply has outgrown what was granted, and with how much to grant.
        self.on_outgrown: Callable[[Command, int], None] | None = None
        self._patience = patience
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._closed = self._loop.create_future()
        self._happenings: deque[Happening] = deque()
        self._waiter: asyncio.Future[None] | None = None
        self._untaken_octets = 0
        self._full = False  # too much is untaken
        self._granted_octets = FIRST_OCTETS  # of the reply that is being collected
        self._outgrown = False  # and more has been asked for
        self._paused_at: float | None = None
        self._heard_at = self._loop.time()  # the last octet, or the command that a reply is due to since
        self._reply_began_at: float | None = None
        self._watch: asyncio.TimerHandle | None = None

    # What the session asks for.

    @property
    def transport(self) -> asyncio.Transport:
        assert self._transport is not None, "the connection was made"
        return self._transport

    @property
    def untaken(self) -> int:
        """How many happenings wait to be taken."""
        return len(self._happenings)

    @property
    def broken(self) -> Broken | None:
        """How the conversation broke, if it did."""
        last = self._happenings[-1] if self._happenings else None
        return last if isinstance(last, Broken) else None

    def send(self, *commands: Command) -> None:
        """Write commands, in one write. Nothing is written on a broken connection: `next` says so."""
        if self.broken is None:
            self.write(b"".join([self.line(command) for command in commands]))

    def line(self, command: Command) -> bytes:
        """The octets of a command whose reply is now due; the caller writes them."""
        if not self.link.outstanding:
            self._heard_at = self._loop.time()
        return self.link.send(command)

    def write(self, octets: bytes) -> None:
        """Write octets, unless the connection is broken."""
        if self.broken is None:
            self.transport.write(octets)

    async def next(self) -> Happening:
        """What happened next; waits for it."""
        while not self._happenings:
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        happening = self._happenings[0]
        if not isinstance(happening, Broken):
            self._happenings.popleft()
            if isinstance(happening, Replied) and happening.body is not None:
                self._taken(len(happening.body))
        return happening

    async def ask(self, command: Command) -> Replied | Challenged:
        """Send one command and wait for what comes. Raises SourceTrouble where the conversation breaks."""
        self.send(command)
        return await self.answered()

    async def answered(self) -> Replied | Challenged:
        """The reply that is due. Raises SourceTrouble where the conversation breaks."""
        happening = await self.next()
        if isinstance(happening, Broken):
            raise pop3_trouble.of_broken(happening)
        assert isinstance(happening, Replied | Challenged), "there is one greeting"
        return happening

    def granted(self, command: Command, octets: int) -> None:
        """Collect so much of the reply to a command; for what was asked for by `on_outgrown`."""
        self._outgrown = False
        if self.link.collected is command:
            self._granted_octets = octets
        self._go_on()

    def secured(self, transport: asyncio.Transport) -> None:
        """Go on over this transport: the handshake behind STLS is done."""
        self._transport = transport
        self.link.tls_started()

    def abort(self, text: str = "the connection was given up") -> None:
        """Close at once, without a word."""
        self._arrived(self.link.end(text))
        if self._transport is not None:
            self._transport.abort()

    async def close(self) -> None:
        """Close in good order, or at once where the far side does not play its part."""
        if self._transport is None:
            return
        self._transport.close()
        try:
            await asyncio.wait_for(asyncio.shield(self._closed), CLOSE_SECONDS)
        except TimeoutError:
            self._transport.abort()

    # What the loop calls.

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport = cast("asyncio.Transport", transport)  # uvloop has its own kind
        self._transport = transport
        self._heard_at = self._loop.time()
        self._look()

    def data_received(self, data: bytes) -> None:
        happenings = self.link.feed(data)
        now = self._heard_at = self._loop.time()
        unfinished_octets = self.link.unfinished_octets
        if not unfinished_octets:
            self._reply_began_at = None
        elif happenings or self._reply_began_at is None:
            self._reply_began_at = now
            self._granted_octets = FIRST_OCTETS
        if happenings:
            self._arrived(happenings)
        if unfinished_octets > self._granted_octets and not self._outgrown:
            self._ask_for_more(unfinished_octets)

    def eof_received(self) -> None:
        self._arrived(self.link.end("the server closed the connection"))

    def connection_lost(self, exc: Exception | None) -> None:
        if self._watch is not None:
            self._watch.cancel()
        reason = f": {exc}" if exc is not None else ""
        self._arrived(self.link.end("the connection was lost" + reason))
        if not self._closed.done():
            self._closed.set_result(None)

    # Happenings, memory and patience.

    def _arrived(self, happenings: list[Happening]) -> None:
        for happening in happenings:
            self._happenings.append(happening)
            if isinstance(happening, Replied) and happening.body is not None:
                self._untaken_octets += len(happening.body)
        if self._waiter is not None and happenings and not self._waiter.done():
            self._waiter.set_result(None)
        if self.broken is not None:
            self.transport.abort()
        elif self._untaken_octets > UNTAKEN_OCTETS_LIMIT:
            self._full = True
            self._pause()
        if self.on_arrival is not None and happenings:
            self.on_arrival()

    def _taken(self, octets: int) -> None:
        self._untaken_octets -= octets
        if self._full and self._untaken_octets <= UNTAKEN_OCTETS_ENOUGH:
            self._full = False
            self._go_on()

    def _ask_for_more(self, unfinished_octets: int) -> None:
        command = self.link.collected
        if command is None or self.on_outgrown is None:
            return
        self._outgrown = True
        self._pause()
        self.on_outgrown(command, _ample(command, unfinished_octets))

    def _pause(self) -> None:
        if self._paused_at is None:
            self._paused_at = self._loop.time()
            self.transport.pause_reading()

    def _go_on(self) -> None:
        """Read again, once nothing speaks against it."""
        if self._paused_at is None or self._full or self._outgrown:
            return
        paused_seconds = self._loop.time() - self._paused_at
        self._paused_at = None
        self._heard_at += paused_seconds  # our own pause is not held against the server
        if self._reply_began_at is not None:
            self._reply_began_at += paused_seconds
        if not self.transport.is_closing():
            self.transport.resume_reading()

    def _look(self) -> None:
        """Look whether the server still deserves patience, and again in a while."""
        text = self._out_of_patience()
        if text is not None:
            self.abort(text)
            return
        period_seconds = min(WATCH_SECONDS, self.idle_seconds / 4, self._patience.grace_seconds / 4)
        self._watch = self._loop.call_later(period_seconds, self._look)

    def _out_of_patience(self) -> str | None:
        if self._paused_at is not None or not self.link.awaited:
            return None
        now = self._loop.time()
        if now - self._heard_at > self.idle_seconds:
            return f"the server was silent for {self.idle_seconds:g} s"
        if self._reply_began_at is None:
            return None
        beyond_seconds = now - self._reply_began_at - self._patience.grace_seconds
        if self.link.unfinished_octets < beyond_seconds * self._patience.least_octets_per_second:
            return f"the server sends less than {self._patience.least_octets_per_second} octets a second"
        return None


def _ample(command: Command, octets: int) -> int:
    """How much to ask for, once so many octets of a reply have come.

    As much again, in bounded steps, but no more than is listed: what was granted and never comes is kept from
    all others. Beyond the listed size the end is near: some servers count a line ending as one octet.
    """
    listed_octets = min(command.listed_octets or command.limit_octets, command.limit_octets)
    if octets < listed_octets:
        return min(octets + min(octets, STEP_OCTETS_LIMIT), listed_octets)
    return octets + min(octets // 8, STEP_OCTETS_LIMIT)
