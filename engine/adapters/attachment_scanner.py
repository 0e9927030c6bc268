"""Attachment rules as a scanner: processes of our own read the messages, and answer in a frame each (`attachment_reader`).

To parse a large message takes seconds, and a hostile one may take more than there is: neither may happen in the gateway's own
process. A reader is started when it is needed, kept for the next message, and killed when nobody waits for its answer any more.
"""

from __future__ import annotations

import asyncio
import math
import sys
from importlib.metadata import version
from typing import Final

import msgspec

from engine.adapters.child_process import environment
from engine.attachment_reader.frames import ANSWER_OCTETS, LENGTH, Answer, Task
from engine.core.attachments import Octets, Rules, is_plain
from engine.ports import Answered, Mail, ScannerTrouble

NAMED: Final = 3  # files that are named; more are counted
CHUNK_OCTETS: Final = 256 * 1024
LARGE_OCTETS: Final = (
    8 << 20
)  # a process that read so much keeps much memory: the next message gets another one
MESSAGES: Final = 10_000  # of one process
# What Python takes, and what the parser does for each octet of a message: measured, 9 where it is base64. Short lines take
# more, and where the parser gives up the message is read without it.
BASE_MEMORY_OCTETS: Final = 128 << 20
MEMORY_FOR_EACH_OCTET: Final = 12
GRACE_SECONDS: Final = 5  # after which a reader whose gateway is gone ends itself


class AttachmentScanner:
    """A scanner of kind "attachments". As many processes as messages at a time, which is the caller's to limit."""

    def __init__(
        self, name: str, rules: Rules, *, archives: bool, timeout_seconds: float, max_octets: int
    ) -> None:
        self.name = name
        self._rules = rules
        self._task = Task(
            names=rules.names,
            types=rules.types,
            archives=archives,
            memory_octets=BASE_MEMORY_OCTETS + MEMORY_FOR_EACH_OCTET * max_octets,
            seconds=math.ceil(timeout_seconds) + GRACE_SECONDS,
        )
        self._engine = f"mailgate {version('mailgate')}"
        self._idle: list[_Reader] = []
        self._ending: set[asyncio.Task[int]] = set()

    async def scan(self, mail: Mail) -> Answered:
        """Look for files that the rules mean. Raises ScannerTrouble."""
        if is_plain(mail.octets, self._rules):
            return Answered(verdict="clean", engine=self._engine)
        return self._verdict(await self._read(mail.octets))

    async def ping(self) -> None:
        """Return if a process can be started and answers. Raises ScannerTrouble."""
        await self._read(b"\r\n")

    async def version(self) -> str:
        """Return what this is. Raises ScannerTrouble where no process can be started."""
        await self.ping()
        return self._engine

    async def close(self) -> None:
        """End the processes that wait for work."""
        while self._idle:
            self._end(self._idle.pop())
        await asyncio.gather(*self._ending)

    def _verdict(self, answer: Answer) -> Answered:
        if answer.rule is not None:
            more = len(answer.files) - NAMED
            detail = ", ".join(answer.files[:NAMED]) + (f" and {more} more" if more > 0 else "")
            return Answered(verdict="infected", signature=answer.rule, detail=detail, engine=self._engine)
        if answer.unread:
            return Answered(verdict="unscannable", detail=answer.unread, engine=self._engine)
        detail = f"MIME: {', '.join(answer.wrong)}" if answer.wrong else ""
        return Answered(verdict="clean", detail=detail, engine=self._engine)

    async def _read(self, octets: Octets) -> Answer:
        """Have a message read. One process that waited may have died meanwhile: that says nothing about the message."""
        if self._idle:
            try:
                return await self._read_by(self._idle.pop(), octets)
            except ScannerTrouble:
                pass
        return await self._read_by(await self._started(), octets)

    async def _started(self) -> _Reader:
        reader = _Reader()
        try:
            await reader.start(self._task)
        except BaseException:
            self._end(reader)
            raise
        return reader

    async def _read_by(self, reader: _Reader, octets: Octets) -> Answer:
        try:
            answer = await reader.ask(octets)
        except BaseException:  # nobody waits for its answer any more, or it has none
            self._end(reader)
            raise
        if reader.octets > LARGE_OCTETS or reader.messages >= MESSAGES:
            self._end(reader)
        else:
            self._idle.append(reader)
        return answer

    def _end(self, reader: _Reader) -> None:
        ended = reader.kill()
        if ended is not None:
            self._ending.add(ended)
            ended.add_done_callback(self._ending.discard)


class _Reader:
    """One process; one message at a time."""

    def __init__(self) -> None:
        self.messages = 0
        self.octets = 0  # of the largest message
        self._process: asyncio.subprocess.Process | None = None

    async def start(self, task: Task) -> None:
        """Start it, and wait until it is there. Raises ScannerTrouble."""
        command = (sys.executable, "-P", "-m", "engine.attachment_reader")
        try:
            self._process = await asyncio.create_subprocess_exec(
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
                env=environment(),
                start_new_session=True,
            )
            await self._exchange(msgspec.json.encode(task))
        except (OSError, EOFError, msgspec.DecodeError) as error:
            raise ScannerTrouble(f"the process that reads can't be started: {_why(error)}") from None

    async def ask(self, octets: Octets) -> Answer:
        """Have a message read. Raises ScannerTrouble, which blames the message."""
        self.messages += 1
        self.octets = max(self.octets, len(octets))
        try:
            return await self._exchange(octets)
        except (OSError, EOFError, msgspec.DecodeError) as error:
            text = f"the process that reads broke at it: {_why(error)}"
            raise ScannerTrouble(text, "message") from None

    def kill(self) -> asyncio.Task[int] | None:
        """Kill it; returns what waits for its end, None where it never was."""
        process = self._process
        if process is None:
            return None
        if process.returncode is None:
            process.kill()
        if process.stdin is not None:
            process.stdin.close()
        return asyncio.create_task(process.wait())

    async def _exchange(self, octets: Octets) -> Answer:
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(LENGTH.pack(len(octets)))
        view = memoryview(octets)
        for at in range(0, len(view), CHUNK_OCTETS):  # what does not fit into the pipe is copied
            process.stdin.write(view[at : at + CHUNK_OCTETS])
            await process.stdin.drain()
        (length,) = LENGTH.unpack(await process.stdout.readexactly(LENGTH.size))
        if length > ANSWER_OCTETS:
            raise EOFError
        return msgspec.json.decode(await process.stdout.readexactly(length), type=Answer)


def _why(error: Exception) -> str:
    return "it ended without an answer" if isinstance(error, EOFError) else str(error)
