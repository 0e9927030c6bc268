"""The process that listens: it takes in what clients submit, and hands it to the gateway, which has the store.

    python -m engine.porter FD

So what a client costs is spent beside what keeping and relaying cost, on another processor. Started by `engine.listening` and by
nobody else; what it needs to know comes over the socket FD. `250` is said once the gateway has said that a message is
durable. Without the gateway it ends: whoever waits for an answer hears 451, and comes again.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable
from datetime import datetime
from itertools import count
from typing import Final, assert_never

from engine import clock
from engine.adapters import brief as briefs
from engine.adapters.listener_brief import Brief
from engine.adapters.listener_words import (
    HEAD_OCTETS,
    Finish,
    FromListener,
    Granted,
    Handed,
    Kept,
    Ready,
    Refused,
    Rejected,
    Unable,
    Waiver,
    Wish,
    encoded,
    to_listener,
)
from engine.adapters.process_line import Line
from engine.adapters.smtp_listener import Listener
from engine.adapters.smtp_listener_access import ListenTrouble
from engine.core.policy import Policy
from engine.free_space import FreeSpace
from engine.log_lines import log_to_stderr
from engine.loops import start
from engine.opening import opening_of, rejection_of
from engine.ports import Holding, NotKept, Octets, Submission
from engine.wire.frames import Frames

GONE: Final = "the gateway is gone"
GONE_SECONDS: Final = 0.5  # to say so to the clients

logger = logging.getLogger("mailgate.listen")


class Portion:
    """What one message takes of the gateway's memory; there is its budget, here is only what was granted."""

    __slots__ = ("_granted", "_porter", "number")

    def __init__(self, porter: Porter, number: int) -> None:
        self.number = number
        self._granted = 0
        self._porter = porter

    async def reach(self, octets: int) -> None:
        """Wait until there is room for so many octets in all."""
        if octets > self._granted:
            wish = self._porter.ask(Wish(self.number, octets))
            self._granted = -1  # asked for: there is something to waive
            self._granted = await wish

    def hand_on(self) -> None:
        """Let go of what was granted: the message goes to the gateway now, and takes it along."""
        self._granted = 0

    def release(self) -> None:
        """Give everything back. May be called again."""
        if self._granted:
            self._granted = 0
            self._porter.say(Waiver(self.number))


class Porter:
    """Who takes what clients submit, and hands it on. For one event loop."""

    def __init__(
        self, policy: Policy, space: FreeSpace, now: Callable[[], datetime], limit_octets: int
    ) -> None:
        self._policy = policy
        self._limit_octets = limit_octets
        self._space = space
        self._now = now
        self._numbers = count(1)
        self._answers: dict[int, asyncio.Future[int]] = {}  # by the number of the message
        self._line: Line | None = None
        self.finish: asyncio.Future[float] = (
            asyncio.get_running_loop().create_future()
        )  # seconds left to do so

    async def meet(self, end: socket.socket) -> None:
        """Be on the line with the gateway from now on."""
        frames = Frames(head_limit=HEAD_OCTETS, body_limit=0)
        self._line = Line(frames, self._hear, self._alone)
        await self._line.open(end)

    # -- what a connection needs

    def has_room(self) -> bool:
        """Whether new mail is taken."""
        return self._space.enough()

    def holding(self) -> Holding:
        """What the next message will take of the memory."""
        return Portion(self, next(self._numbers))

    async def take(self, submission: Submission, octets: Octets, holding: Holding) -> str:
        """Hand a message to the gateway; returns its id once it is durable. Raises NotKept."""
        assert isinstance(holding, Portion)
        try:
            if not self._space.enough():
                raise NotKept("below the floor of free space", full=True)
            opening = await opening_of(submission, octets, self._policy, self._now())
            head = encoded(Handed(holding.number, opening))
            holding.hand_on()  # what goes wrong before leaves it to be given back
            await self._answered(holding.number, head, octets)
        finally:
            holding.release()
        return opening.stream

    def rejected(self, submission: Submission, size_octets: int, header: Octets) -> None:
        """Tell the gateway of a message that was refused for its size."""
        self.say(
            Rejected(
                rejection_of(submission, size_octets, self._limit_octets, header, self._policy, self._now())
            )
        )

    # -- the line

    def say(self, word: FromListener, octets: Octets = b"") -> None:
        """Say something to the gateway, if it is still there."""
        if self._line is not None:
            self._line.say(encoded(word), octets)

    async def ask(self, wish: Wish) -> int:
        """Ask for memory; returns how much there is then. Raises NotKept."""
        return await self._answered(wish.number, encoded(wish))

    async def _answered(self, number: int, head: bytes, octets: Octets = b"") -> int:
        """Say something about a message, and wait for the answer. Raises NotKept."""
        if self._line is None:
            raise NotKept(GONE, full=False)
        answer = self._answers[number] = asyncio.get_running_loop().create_future()
        try:
            self._line.say(head, octets)
            granted: int = await answer
        finally:
            del self._answers[number]
        return granted

    def _hear(self, head: bytes, _body: Octets) -> None:
        word = to_listener(head)
        match word:
            case Granted():
                self._answer(word.number, word.octets)
            case Kept():
                self._answer(word.number, 0)
            case Refused():
                answer = self._answers.get(word.number)
                if answer is not None and not answer.done():
                    answer.set_exception(NotKept(word.text, full=word.full))
            case Finish():
                self._end(word.seconds)
            case _:
                assert_never(word)

    def _answer(self, number: int, octets: int) -> None:
        answer = self._answers.get(number)  # None where the client is gone
        if answer is not None and not answer.done():
            answer.set_result(octets)

    def _end(self, seconds: float) -> None:
        if not self.finish.done():
            self.finish.set_result(seconds)

    def _alone(self, _error: Exception | None) -> None:
        """The gateway is gone: nothing more will be kept."""
        self._line = None
        for answer in self._answers.values():
            if not answer.done():
                answer.set_exception(NotKept(GONE, full=False))
        self._end(GONE_SECONDS)


async def _listen(brief: Brief, end: socket.socket) -> None:
    """Listen until the gateway says that it is enough, or is gone."""
    porter = Porter(
        brief.policy,
        FreeSpace(brief.folder, brief.free_space.octets_of),
        clock.now,
        brief.access.terms.max_size_octets,
    )
    await porter.meet(end)
    listener = Listener(brief.access, porter)
    try:
        await listener.start([socket.socket(fileno=fd) for fd in brief.sockets])
    except ListenTrouble as trouble:
        porter.say(Unable(str(trouble)))
    else:
        porter.say(Ready())
    await listener.stop(await porter.finish)


def main() -> None:
    """Be the process that listens."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(
            number, signal.SIG_IGN
        )  # to a whole group of processes; ours end when the gateway says so
    end = socket.socket(fileno=int(sys.argv[1]))
    try:
        brief = briefs.read(end)
        assert isinstance(brief, Brief)
    except EOFError:
        return
    for fd in (end.fileno(), *brief.sockets):
        os.set_inheritable(fd, False)
    log_to_stderr(brief.log_level)
    start(_listen(brief, end))


if __name__ == "__main__":
    main()
