"""Asking the scanners by a process of its own: started, watched, started again where there are questions.

When it ends in the middle, what it was being asked about is asked again, one message after the other: so a message at which
the process itself breaks is told from those that were asked about beside it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from typing import Final, assert_never

from engine.adapters import brief as briefs
from engine.adapters.asker_words import (
    HEAD_OCTETS,
    Answer,
    Beat,
    Brief,
    Question,
    Standing,
    encoded,
    from_asker,
)
from engine.adapters.child_process import ISOLATED, ChildProcess
from engine.asking import Killed, Said, Troubled, resting
from engine.budget import OctetBudget
from engine.ports import Mail, Octets, ScannerTrouble
from engine.scanner_standing import ScannerStanding
from engine.wire.frames import Frames

PROGRAM: tuple[str, ...] = (ISOLATED, "-m", "engine.asker")
AGAIN_SECONDS: Final = 1.0  # before it is started again; doubled each time
AGAIN_SECONDS_LIMIT: Final = 30.0
STEADY_SECONDS: Final = 60.0  # who lived for so long is started again soon
BEAT_SECONDS: Final = 20.0  # a process that is silent for so long hangs
LEAVE_SECONDS: Final = 5.0  # to end, once it isn't needed any more
THERE_OCTETS: Final = 64 << 20  # of messages that the process has a copy of, the gateway's own budget aside
BREAKS: Final = 2  # of the process at one message, the second time alone: then it is the message

logger = logging.getLogger("mailgate.scan")


@dataclass(slots=True, eq=False)
class _Open:
    """A question without an answer yet."""

    head: bytes
    octets: Octets
    questions: tuple[Killed, ...]
    answer: asyncio.Future[tuple[Said, ...]]
    sent: bool = False
    broken: int = 0  # how often the process ended meanwhile


class Elsewhere:
    """Scanners that are asked by another process; `posts` is what it tells of them. For one event loop."""

    def __init__(self, brief: Brief, posts: Mapping[str, ScannerStanding]) -> None:
        self.posts = posts
        self._brief = briefs.written(brief)
        self._numbers = count(1)
        self._there = OctetBudget(THERE_OCTETS)
        self._open: dict[int, _Open] = {}
        self._process: ChildProcess | None = None
        self._clear = False  # it is there, and nothing is asked about alone
        self._beating = True
        self._wanted = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    def begin(self) -> None:
        """Start the process, if there is anybody to ask."""
        if self.posts:
            self._wake()

    async def ask(self, mail: Mail, questions: tuple[Killed, ...]) -> tuple[Said, ...]:
        """Ask these scanners about a message; of those that rest it is said that they do."""
        gates = [self.posts[name].gate() for name, _ in questions]
        if "closed" not in gates:
            return await self._asked(mail, questions, probe="probe" in gates)
        asked = tuple(one for one, gate in zip(questions, gates, strict=True) if gate != "closed")
        said = iter(await self._asked(mail, asked, probe="probe" in gates) if asked else ())
        return tuple(
            resting(self.posts[name]) if gate == "closed" else next(said)
            for (name, _), gate in zip(questions, gates, strict=True)
        )

    async def close(self) -> None:
        """End the process."""
        if self._running is None:
            return
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)
        if self._process is not None:
            self._process.hang_up()
            with suppress(TimeoutError):
                async with asyncio.timeout(LEAVE_SECONDS):
                    await self._process.ended()
                    return
            self._process.kill()
            await self._process.ended()

    async def _asked(self, mail: Mail, questions: tuple[Killed, ...], *, probe: bool) -> tuple[Said, ...]:
        number = next(self._numbers)
        head = encoded(_question(number, mail, questions))
        share = await self._there.take(len(mail.octets))
        answer: asyncio.Future[tuple[Said, ...]] = asyncio.get_running_loop().create_future()
        one = self._open[number] = _Open(head, mail.octets, questions, answer)
        try:
            if self._clear:
                self._send(one)
            else:
                self._wake()
            if not probe:
                return await answer
            with self._probing(questions):
                return await answer
        finally:
            del self._open[number]
            self._there.give_back(share)

    @contextmanager
    def _probing(self, questions: tuple[Killed, ...]) -> Iterator[None]:
        """Let no other message probe what this one probes."""
        posts = [post for name, _ in questions if (post := self.posts[name]).gate() == "probe"]
        for post in posts:
            post.probing = True
        try:
            yield
        finally:
            for post in posts:
                post.probing = False

    def _send(self, one: _Open) -> None:
        assert self._process is not None
        one.sent = self._process.send(one.head, one.octets)

    def _wake(self) -> None:
        self._wanted.set()
        if self._running is None:
            self._running = asyncio.create_task(self._run(), name="asker")

    # -- the process

    async def _run(self) -> None:
        """Have a process for as long as there is something to ask."""
        loop, pause_seconds = asyncio.get_running_loop(), AGAIN_SECONDS
        while True:
            await self._wanted.wait()
            begun_at = loop.time()
            how = await self._live()
            self._process, self._clear = None, False
            self._wanted.clear()
            logger.error("the process that asks the scanners is gone (%s)", how)
            if loop.time() - begun_at >= STEADY_SECONDS:
                pause_seconds = AGAIN_SECONDS
            self._blame(how)
            await asyncio.sleep(pause_seconds)
            pause_seconds = min(2 * pause_seconds, AGAIN_SECONDS_LIMIT)
            if self._open:
                self._wanted.set()

    async def _live(self) -> str:
        """Start a process and let it answer until it is gone; returns how it ended."""
        self._process = process = ChildProcess(PROGRAM)
        frames = Frames(head_limit=HEAD_OCTETS, body_limit=0)
        try:
            await process.begin(self._brief, frames, self._hear, lambda: None)
        except OSError as error:
            self._unable(f"the process that asks can't be started: {error}")
            return str(error)
        beside = [asyncio.create_task(self._go_through()), asyncio.create_task(self._watch(process))]
        try:
            return await process.ended()
        finally:
            for task in beside:
                task.cancel()
            await asyncio.gather(*beside, return_exceptions=True)

    async def _go_through(self) -> None:
        """Ask what is open: alone where a process has ended at it, then all the others at once."""
        while suspect := next((one for one in self._open.values() if one.broken and not one.sent), None):
            self._send(suspect)
            if not suspect.sent:
                return  # the process is gone again, but not for this one
            await asyncio.wait([suspect.answer])
        self._clear = True
        for one in self._open.values():
            if not one.sent:
                self._send(one)

    async def _watch(self, process: ChildProcess) -> None:
        """End a process that hangs."""
        while True:
            self._beating = False
            process.send(encoded(Beat()))
            await asyncio.sleep(BEAT_SECONDS)
            if not self._beating:
                logger.error("the process that asks the scanners hangs")
                process.kill()
                return

    def _blame(self, how: str) -> None:
        """What a process was being asked about when it ended is asked again, but not for ever."""
        for one in self._open.values():
            if one.sent:
                one.sent = False
                one.broken += 1
            if one.broken >= BREAKS and not one.answer.done():
                trouble = Troubled(f"what asks it broke at this message: {how}", "message")
                one.answer.set_result(tuple(Said(trouble) for _ in one.questions))

    def _unable(self, text: str) -> None:
        """There is nobody to ask: as if all scanners were down."""
        trouble = ScannerTrouble(text)
        for one in self._open.values():
            for name, _ in one.questions:
                self.posts[name].fell(trouble, "")
            if not one.answer.done():
                one.answer.set_result(tuple(Said(Troubled(text)) for _ in one.questions))

    def _hear(self, head: bytes, _body: Octets) -> None:
        word = from_asker(head)
        match word:
            case Answer():
                one = self._open.get(word.number)  # None where nobody wants to know any more
                if one is not None and not one.answer.done():
                    one.answer.set_result(word.said)
            case Standing():
                self._stand(word)
            case Beat():
                self._beating = True
            case _:
                assert_never(word)

    def _stand(self, word: Standing) -> None:
        post = self.posts[word.name]
        post.failures, post.answered = word.failures, word.answered
        post.down_since, post.probe_at = word.down_since, word.probe_at
        post.trouble, post.broke_at = word.trouble, word.broke_at


def _question(number: int, mail: Mail, questions: tuple[Killed, ...]) -> Question:
    return Question(
        number,
        questions,
        mail.id,
        mail.reverse_path,
        mail.recipients,
        mail.client_ip,
        mail.helo,
        mail.user,
    )
