"""Commands sent ahead of their replies, within a window.

Owns how far ahead (RFC 2449 section 6.6), and that commands which become possible together leave in one
write. Where the server does not announce PIPELINING the next command leaves when the last reply has come,
while the caller still works on it. Knows nothing of messages: replies come out in the order of the
commands.

    async with Pipeline(connection, commands, count, admit) as replies:
        reply = await replies.next()         # once for each of so many commands

To leave before the last reply closes the connection: replies nobody waits for are under way, and nothing can
be told apart from them any more. `finished` says which it was.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from types import TracebackType
from typing import Final, Self

from engine.adapters import pop3_trouble
from engine.adapters.pop3_connection import Pop3Connection
from engine.ports import FIRST_OCTETS, SourceTrouble
from engine.wire.pop3_commands import Command
from engine.wire.pop3_replies import Broken, Replied

# With a round trip of 50 ms, 512 mails of 4 KiB in flight make 10,000 mails and 40 MB a second, and 4 MiB
# of larger ones 80 MB a second: more than the far side gives. A window of 4 MiB for each session still lets
# 40 of them run within 256 MiB, what each message costs beside its octets included.
WINDOW_COMMANDS: Final = 512
WINDOW_OCTETS: Final = 4 * 1024 * 1024


class Pipeline:
    """One run of commands, `count` in all; each is made when its turn comes, for there may be a million.

    `admit` is awaited before each command is sent, for the octets that LIST says but at most FIRST_OCTETS, and
    again each time the reply has outgrown what was granted; nothing is read meanwhile.
    """

    def __init__(
        self,
        connection: Pop3Connection,
        commands: Iterable[Command],
        count: int,
        admit: Callable[[Command, int], Awaitable[None]] | None = None,
    ) -> None:
        self._connection = connection
        self._commands = commands
        self._admit = admit
        self._left = count
        self._ahead = 0  # sent, and their replies not taken
        self._ahead_octets = 0
        self._stalled = False
        self._room = asyncio.Event()
        self._unwritten: list[bytes] = []
        self._slipped_in: deque[Command] = deque()  # not sent yet
        self._sender: asyncio.Task[None] | None = None
        self._growth: asyncio.Task[None] | None = None  # the reply at the head waits for room

    @property
    def finished(self) -> bool:
        """Whether the reply to each command was taken."""
        return self._left == 0

    async def __aenter__(self) -> Self:
        self._connection.on_arrival = self._nudge
        if self._admit is not None:
            self._connection.on_outgrown = self._outgrown
        self._sender = asyncio.create_task(self._send_all())
        self._sender.add_done_callback(self._ended)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._connection.on_arrival = self._connection.on_outgrown = None
        if not self.finished:
            self._connection.abort("the session was left with replies under way, so it is of no use any more")
        self._give_up()
        await asyncio.wait(self._tasks())

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
        if self._slipped_in:
            self._send_slipped_in()
        self._nudge()
        return happening

    def slip_in(self, *commands: Command) -> None:
        """Have these answered as well, before any that was not sent yet. They wait for no room and are not admitted."""
        self._left += len(commands)
        self._slipped_in.extend(commands)
        self._send_slipped_in()

    def _send_slipped_in(self) -> None:
        while self._slipped_in and self._free() and self._connection.broken is None:
            self._ahead += 1
            self._unwritten.append(self._connection.line(self._slipped_in.popleft()))
        self._flush()

    async def _send_all(self) -> None:
        for command in self._commands:
            while not self._may_send(command):
                await self._stall()
            self._ahead += 1
            self._ahead_octets += command.listed_octets
            if self._admit is not None:
                octets = command.listed_octets
                await self._admit(command, octets if octets < FIRST_OCTETS else FIRST_OCTETS)
            while self._slipped_in or not self._free():  # it was slipped in meanwhile
                await self._stall()
            if self._connection.broken is not None:
                return
            if not self._unwritten:
                # Should `admit` wait before the window is full, what is admitted leaves nonetheless.
                asyncio.get_running_loop().call_soon(self._flush)
            self._unwritten.append(self._connection.line(command))
        self._flush()

    async def _stall(self) -> None:
        self._flush()
        self._stalled = True
        self._room.clear()
        await self._room.wait()
        self._stalled = False

    def _flush(self) -> None:
        if self._unwritten:
            self._connection.write(b"".join(self._unwritten))
            self._unwritten.clear()

    def _may_send(self, command: Command) -> bool:
        """Whether the window has room. One command always may: a message may be larger than the window."""
        if self._slipped_in or not self._free():
            return False
        fits = self._ahead < WINDOW_COMMANDS and self._ahead_octets + command.listed_octets <= WINDOW_OCTETS
        return fits or not self._ahead

    def _free(self) -> bool:
        """Whether the server takes a command now."""
        link = self._connection.link
        return link.pipelining or not link.outstanding

    def _nudge(self) -> None:
        """Wake the sender where it is worth a write: in sequence at once, else when half the window is free.

        Once the conversation is broken nobody waits for `admit` any more: what it would give then, nobody
        would give back.
        """
        if self._connection.broken is not None:
            self._give_up()
        if not self._stalled:
            return
        link = self._connection.link
        half_free = self._ahead <= WINDOW_COMMANDS // 2 and self._ahead_octets <= WINDOW_OCTETS // 2
        if half_free or (not link.pipelining and not link.outstanding):
            self._room.set()

    def _outgrown(self, command: Command, octets: int) -> None:
        self._growth = asyncio.create_task(self._grow(command, octets))
        self._growth.add_done_callback(self._ended)

    async def _grow(self, command: Command, octets: int) -> None:
        assert self._admit is not None, "nothing outgrows what is not measured"
        await self._admit(command, octets)
        self._connection.granted(command, octets)

    def _tasks(self) -> list[asyncio.Task[None]]:
        return [task for task in (self._sender, self._growth) if task is not None]

    def _give_up(self) -> None:
        for task in self._tasks():
            task.cancel()

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A failing `admit` ends the session: commands may be under way whose replies nobody will take."""
        failed = task.cancelled() or task.exception() is not None
        if failed and not self.finished:
            self._connection.abort("the session was given up")

    def _failure(self, broken: Broken) -> BaseException:
        for task in self._tasks():
            if task.done() and not task.cancelled() and (error := task.exception()) is not None:
                return error
        trouble: SourceTrouble = pop3_trouble.of_broken(broken)
        return trouble
