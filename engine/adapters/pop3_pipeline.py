"""Commands sent ahead of their replies, within a window.

Owns how far ahead (RFC 2449 section 6.6), and that commands which become possible together leave in one
write. Where the server does not announce PIPELINING the next command leaves when the last reply has come,
while the caller still works on it. Knows nothing of messages: replies come out in the order of the
commands.

    async with Pipeline(connection, commands, admit) as replies:
        reply = await replies.next()         # once for each command

To leave before the last reply closes the connection: replies nobody waits for are under way, and nothing can
be told apart from them any more. `finished` says which it was.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Final, Self

from engine.adapters import pop3_trouble
from engine.adapters.pop3_connection import Pop3Connection
from engine.ports import SourceTrouble
from engine.wire.pop3_commands import Command
from engine.wire.pop3_replies import Broken, Replied

# With a round trip of 50 ms, 512 mails of 4 KiB in flight make 10,000 mails and 40 MB a second, and 4 MiB
# of larger ones 80 MB a second: more than the far side gives. A window of 4 MiB for each session still lets
# 60 of them run within 256 MiB.
WINDOW_COMMANDS: Final = 512
WINDOW_OCTETS: Final = 4 * 1024 * 1024


class Pipeline:
    """One run of commands. `admit` is awaited before each command is sent."""

    def __init__(
        self,
        connection: Pop3Connection,
        commands: Sequence[Command],
        admit: Callable[[Command], Awaitable[None]] | None = None,
    ) -> None:
        self._connection = connection
        self._commands = commands
        self._admit = admit
        self._left = len(commands)
        self._ahead = 0  # sent, and their replies not taken
        self._ahead_octets = 0
        self._stalled = False
        self._room = asyncio.Event()
        self._unwritten: list[bytes] = []
        self._sender: asyncio.Task[None] | None = None

    @property
    def finished(self) -> bool:
        """Whether the reply to each command was taken."""
        return self._left == 0

    async def __aenter__(self) -> Self:
        self._connection.on_arrival = self._nudge
        self._sender = asyncio.create_task(self._send_all())
        self._sender.add_done_callback(self._sender_ended)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._connection.on_arrival = None
        assert self._sender is not None, "entered"
        if not self.finished:
            self._connection.abort("the session was left with replies under way, so it is of no use any more")
        self._sender.cancel()
        await asyncio.wait([self._sender])

    async def next(self) -> Replied:
        """The next reply. Raises SourceTrouble where the conversation breaks, and what `admit` raised."""
        if self._stalled and not self._connection.untaken:
            self._room.set()  # nothing to do until octets come: a good time to fill the window up
        happening = await self._connection.next()
        if isinstance(happening, Broken):
            raise self._failure(happening)
        assert isinstance(happening, Replied), "no login is under way"
        self._left -= 1
        self._ahead -= 1
        self._ahead_octets -= happening.command.listed_octets
        self._nudge()
        return happening

    async def _send_all(self) -> None:
        for command in self._commands:
            while not self._may_send(command):
                self._flush()
                self._stalled = True
                self._room.clear()
                await self._room.wait()
                self._stalled = False
            self._ahead += 1
            self._ahead_octets += command.listed_octets
            if self._admit is not None:
                await self._admit(command)
            if self._connection.broken is not None:
                return
            if not self._unwritten:
                # Should `admit` wait before the window is full, what is admitted leaves nonetheless.
                asyncio.get_running_loop().call_soon(self._flush)
            self._unwritten.append(self._connection.line(command))
        self._flush()

    def _flush(self) -> None:
        if self._unwritten:
            self._connection.write(b"".join(self._unwritten))
            self._unwritten.clear()

    def _may_send(self, command: Command) -> bool:
        """Whether the window has room. One command always may: a message may be larger than the window."""
        link = self._connection.link
        if link.outstanding and not link.pipelining:
            return False
        fits = self._ahead < WINDOW_COMMANDS and self._ahead_octets + command.listed_octets <= WINDOW_OCTETS
        return fits or not self._ahead

    def _nudge(self) -> None:
        """Wake the sender where it is worth a write: in sequence at once, else when half the window is free.

        Once the conversation is broken the sender ends, also where `admit` keeps it waiting: what it would
        be given then, nobody would give back.
        """
        if self._connection.broken is not None and self._sender is not None:
            self._sender.cancel()
        if not self._stalled:
            return
        link = self._connection.link
        half_free = self._ahead <= WINDOW_COMMANDS // 2 and self._ahead_octets <= WINDOW_OCTETS // 2
        if half_free or (not link.pipelining and not link.outstanding):
            self._room.set()

    def _sender_ended(self, sender: asyncio.Task[None]) -> None:
        """A failing `admit` ends the session: commands may be under way whose replies nobody will take."""
        failed = sender.cancelled() or sender.exception() is not None
        if failed and not self.finished:
            self._connection.abort("the session was given up")

    def _failure(self, broken: Broken) -> BaseException:
        sender = self._sender
        if sender is not None and sender.done() and not sender.cancelled():
            error = sender.exception()
            if error is not None:
                return error
        trouble: SourceTrouble = pop3_trouble.of_broken(broken)
        return trouble
